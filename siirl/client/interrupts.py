"""What ends a command from outside: Ctrl-C and SIGTERM, which Slurm, ``docker stop`` and a shutdown send, are one."""

import signal
from types import FrameType

INTERRUPTED = 130
"""Exit code after an interrupt, as of a shell."""


def terminate_as_interrupt() -> None:
    """From now on SIGTERM raises KeyboardInterrupt in the main thread, which this must be called from."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
