"""Settings of the whole suite."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads: several processes share few cores
os.environ.setdefault("LP_NUM_THREADS", "1")
