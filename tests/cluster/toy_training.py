"""`siirl.client.main_dag` with the env ``toy``, on the cluster that the launcher started."""

import os
import sys

import ray

from siirl.client.main_dag import main
from tests.workers import toy

if __name__ == "__main__":
    toy.register()
    hook = {"worker_process_setup_hook": "tests.workers.toy.register"}
    ray.init(address=os.environ["RAY_ADDRESS"], configure_logging=False, runtime_env=hook)
    sys.exit(main())
