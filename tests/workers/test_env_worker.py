"""What a simulator's process is made of."""

import subprocess
import sys


def test_a_simulators_process_does_without_pytorch() -> None:
    """Importing it takes seconds and memory, once for each simulator."""
    script = "import sys, siirl.workers.env_worker; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
