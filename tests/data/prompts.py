"""Small task lists and prompts for the tests of `siirl.data`."""

from dataclasses import dataclass

from siirl.data.manifest import Prompt


@dataclass(frozen=True)
class Task:
    """What `siirl.envs.base.Task` is to the manifest."""

    suite: str
    task_id: int
    instruction: str
    num_trials: int


def tasks(number: int = 2, trials: int = 10) -> list[Task]:
    return [Task("suite", i, f"do thing {i}", trials) for i in range(number)]


def prompts(number: int) -> list[Prompt]:
    return [Prompt("suite", i // 10, i % 10, f"do thing {i // 10}", "train", 100) for i in range(number)]
