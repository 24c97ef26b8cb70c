"""What a user is told to write instead of an override that Hydra's grammar cannot read."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siirl.config.overrides import parse_overrides

TASKS, PLACEMENT = "actor_rollout_ref.embodied.env.task_ids", "cluster.component_placement"

WRONG = [
    # what was given, the advice, what it tells to write, the value of that
    (f"{TASKS}=[0,2", "close the bracket", f"{TASKS}=[0,2]", [0, 2]),
    (f"{TASKS}=[0,2]]", "remove the surplus bracket", f"{TASKS}=[0,2]", [0, 2]),
    ("trainer.logger=['console", "close the quote", "trainer.logger=['console']", ["console"]),
    ("data.train_files=/p/(1)", "quote the value", 'data.train_files="/p/(1)"', "/p/(1)"),
    ("data.train_files=/p/(1", "quote the value", 'data.train_files="/p/(1"', "/p/(1"),
    ("data.train_files=it's", "quote the value", 'data.train_files="it\'s"', "it's"),
    (
        f"{PLACEMENT}={{'env,rollout': 0-1}}",
        "a backslash before each comma of a name",
        f"{PLACEMENT}={{env\\,rollout: 0-1}}",
        {"env,rollout": "0-1"},
    ),
    (
        f"{PLACEMENT}={{env, rollout: 0-1,3, 'actor': [4,5], embedding: all}}",
        "brackets around slots with commas",
        f"{PLACEMENT}={{env\\,rollout: [0-1,3], actor: [4,5], embedding: all}}",
        {"env,rollout": ["0-1", 3], "actor": [4, 5], "embedding": "all"},
    ),
    (f"{PLACEMENT}={{env: 0-1", "brackets", f"{PLACEMENT}={{env: 0-1}}", {"env": "0-1"}),
]


@pytest.mark.parametrize(("text", "advice", "written", "value"), WRONG, ids=[text for text, *_ in WRONG])
def test_the_fix_can_be_pasted_into_a_shell(text: str, advice: str, written: str, value: object) -> None:
    parsed, (line,) = parse_overrides([text])
    assert parsed == []
    assert line.startswith(f"{text}: allowed: key=value in Hydra's override grammar (")
    fix = line.partition(" Fix: ")[2].removesuffix(".")
    assert advice in fix
    assert shlex.split(fix.partition(": ")[2]) == [written]
    (_, override), *none = parse_overrides([written])[0]
    assert not none
    assert override.value() == value


def test_what_the_grammar_reads_is_kept() -> None:
    parsed, problems = parse_overrides(["trainer.seed=3", "data.train_files='it is'", "no sign", "~data.shuffle"])
    assert [(text, override.value()) for text, override in parsed] == [
        ("trainer.seed=3", 3),
        ("data.train_files='it is'", "it is"),
    ]
    assert ["write key=value" in line for line in problems] == [True, False]


@given(st.text("ab01,:' \"[]{}()=-\\\\", max_size=12))
def test_any_text_is_read_or_refused_with_a_fix(value: str) -> None:
    parsed, problems = parse_overrides([f"cluster.component_placement={value}"])
    assert len(parsed) + len(problems) == 1
    assert all(" Fix: " in line for line in problems)


@pytest.mark.parametrize(
    ("value", "twice"),
    [
        ("{env: 0, rollout: 1, actor: 2-3, env: 3}", "env"),
        ("{env: [0,1], env: 2}", "env"),
        ("{env\\,rollout: [0-3,8-11], actor: 4-7}", None),
        ("{env: [1,2], actor: [1,2]}", None),
    ],
)
def test_a_name_that_a_mapping_holds_twice_is_told(value: str, twice: str | None) -> None:
    parsed, problems = parse_overrides([f"{PLACEMENT}={value}"])
    assert (len(parsed), len(problems)) == ((1, 0) if twice is None else (0, 1))
    assert twice is None or f"each name once, and {twice} is there twice" in problems[0]
