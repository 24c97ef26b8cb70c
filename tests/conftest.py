"""Settings of the whole suite, and what its end-to-end tests share: one Ray, one tiny policy, small LIBERO textures."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads: several processes share few cores
os.environ.setdefault("LP_NUM_THREADS", "1")
os.environ.setdefault("RAY_worker_niceness", "0")  # with Ray's 15 its workers would starve on a busy machine
os.environ.setdefault("RAY_raylet_start_wait_time_s", "240")


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The env ``toy`` of `tests.workers.toy`, and the folder where its faults are planned."""
    import tests.workers.toy as module

    folder = tmp_path_factory.mktemp("faults")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(module.FAULTS, str(folder))
        yield folder


@pytest.fixture(scope="session")
def ray_cluster(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One Ray for the whole session; its workers know the env ``toy`` as well."""
    import ray

    environment = {
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "SIIRL_TOY_FAULTS": str(toy),
        "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache")),
    }
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        configure_logging=False,
        runtime_env={"env_vars": environment, "worker_process_setup_hook": "tests.workers.toy.register"},
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny policy with random weights."""
    from tests.policies.tiny import tiny_policy_folder

    return tiny_policy_folder(tmp_path_factory.mktemp("policy"))


# A loaded machine is no failure: nothing here is timed.
settings.register_profile("siirl", deadline=None)
settings.load_profile("siirl")
