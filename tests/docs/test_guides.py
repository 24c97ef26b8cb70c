"""What the guides show works as it stands there."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from siirl.client.evaluate import main as evaluate
from siirl.client.main_dag import main
from siirl.client.plan import main as plan
from siirl.config.keys import KEYS
from siirl.envs.base import ENVS
from siirl.observe.results import read_results
from siirl.registry import Registry
from siirl.rewards.base import REWARDS
from tests.workers.runs import ENV, INLINE, command_line, log_of

ROOT = Path(__file__).parents[2]


def example(page: str) -> str:
    """The first Python of a page."""
    return (ROOT / "docs" / page).read_text().partition("```python\n")[2].partition("```")[0]


@pytest.fixture
def known() -> Iterator[None]:
    """Forgets what an example registers."""
    registries: list[Registry] = [ENVS, REWARDS]  # type: ignore[type-arg]
    for registry in registries:
        registry.names()  # imports what is shipped, which stays
    before = [dict(registry._components) for registry in registries]
    yield
    for registry, components in zip(registries, before, strict=True):
        registry._components = components


def load(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a page's example as the module that its first line names."""
    code = example(page)
    name = code.partition("\n")[0].removeprefix("# ").partition(",")[0].removesuffix(".py").replace("/", ".")
    module = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(compile(code, f"docs/{page}", "exec"), module.__dict__)  # noqa: S102  (our own page)


@pytest.mark.usefixtures("known")
def test_the_environment_and_the_reward_train(monkeypatch: pytest.MonkeyPatch, policy: Path, tmp_path: Path) -> None:
    load("your_task.md", monkeypatch)
    load("your_reward.md", monkeypatch)
    settings = {f"{ENV}.env_type": "reach", f"{ENV}.env_name": "reach", "algorithm.reward": "quick"}
    libero = {f"{ENV}.antialiasing": "true", f"{ENV}.max_texture_size": "null", f"{ENV}.num_steps_wait": 10}
    arguments = command_line(tmp_path, policy, settings, libero, INLINE)
    assert main(arguments) == 0
    rows = log_of(tmp_path)
    assert [row["step"] for row in rows] == [1, 2]
    assert all(row["env/dropped"] == 0 and row["actor/optimizer_steps"] > 0 for row in rows)
    folder = tmp_path / "evaluated"
    assert evaluate([str(policy), *arguments, f"evaluate.folder={folder}"]) == 0
    assert read_results(folder)["total"]["episodes"] > 0


@pytest.mark.usefixtures("toy")
def test_the_workflow_is_planned(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], policy: Path, tmp_path: Path
) -> None:
    load("your_algorithm.md", monkeypatch)
    assert plan(command_line(tmp_path, policy, {"dag.custom_pipeline_fn": "my_module:my_pipeline"})) == 0
    drawn = capsys.readouterr().out
    names = re.findall(r"● +(\w+)", drawn)
    assert names == ["rollout", "filter", "fast", "reward", "advantage", "update"]


def test_every_key_that_a_guide_names_exists() -> None:
    """Of those that begin with a top-level section."""
    pages = [
        "index.md",
        "quickstart.md",
        "your_task.md",
        "your_reward.md",
        "your_algorithm.md",
        "troubleshooting.md",
        "coming_from_siirl.md",
    ]
    prefixes = ("data", "algorithm", "trainer", "critic", "cluster", "dag", "actor_rollout_ref")
    for page in pages:
        text = (ROOT / "docs" / page).read_text()
        named = set(re.findall(rf"(?<![.\w])(?:{'|'.join(prefixes)})(?:\.[a-z0-9_]+)+", text))
        sections = {key.rpartition(".")[0] for key in KEYS} | {"actor_rollout_ref.ref"}
        wrong = [n for n in named if n not in KEYS and n not in sections and not n.endswith((".py", ".md"))]
        assert wrong == [], page


def test_the_page_for_users_of_siirl_has_every_key_of_the_documented_command() -> None:
    documented = (ROOT / "tests" / "golden" / "documented_srpo_command.txt").read_text().splitlines()
    rows = re.findall(
        r"^\| `([a-z_.]+)\.` \| (.+) \|$", (ROOT / "docs" / "coming_from_siirl.md").read_text(), re.MULTILINE
    )
    same = {f"{section}.{name}" for section, names in rows for name in re.findall("`([^`]+)`", names)}
    assert same <= set(KEYS)
    assert {line.partition("=")[0] for line in documented} == same
