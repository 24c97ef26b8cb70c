"""Every message of docs/troubleshooting.md is one that the code has."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
MESSAGES = re.findall(r"^\*\*`(.+)`\*\*$", PAGE, re.MULTILINE)
OTHERS = {"operator torchvision::nms does not exist"}
"""Of PyTorch, not ours."""


def text_of(node: ast.AST) -> str:
    """A text as the code has it, with ``…`` for what is computed."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value.replace("%s", "…").replace("%d", "…")
    if isinstance(node, ast.JoinedStr):
        return "".join(map(text_of, node.values))
    return "…" if isinstance(node, ast.FormattedValue) else ""


@cache
def texts() -> str:
    """Every text in the code, one a line, and the launch script's."""
    found = [text_of(n) for f in (ROOT / "siirl").rglob("*.py") for n in ast.walk(ast.parse(f.read_text()))]
    script = (ROOT / "scripts" / "launch_cluster.sh").read_text()
    return "\n".join(sorted({" ".join(text.split()) for text in found})) + "\n" + script


def test_there_are_messages() -> None:
    assert len(MESSAGES) > 45
    assert len(set(MESSAGES)) == len(MESSAGES)


@pytest.mark.parametrize("message", [m for m in MESSAGES if m not in OTHERS])
def test_the_code_has_the_message(message: str) -> None:
    parts = [re.escape(part.strip()) for part in message.split("…") if part.strip(" ():=,.")]
    assert parts, "more than …"
    assert re.search("[^\n]*".join(parts), texts()), message
