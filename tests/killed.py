"""A process that dies in the middle of its work, for tests of what is left behind."""

import os
from collections.abc import Callable
from pathlib import Path


def killed_at(call: int, work: Callable[[], object]) -> bool:
    """Run ``work`` in a process that dies at its n-th change of names or wait for the disk; False when it got through."""
    pid = os.fork()
    if pid == 0:
        calls = 0

        def dying(function: Callable) -> Callable:
            def wrapped(*args: object, **kwargs: object) -> object:
                nonlocal calls
                calls += 1
                if calls == call:
                    os._exit(9)
                return function(*args, **kwargs)

            return wrapped

        os.rename, os.replace, os.fsync = dying(os.rename), dying(os.replace), dying(os.fsync)
        os.unlink, os.rmdir, Path.write_text = dying(os.unlink), dying(os.rmdir), dying(Path.write_text)
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
