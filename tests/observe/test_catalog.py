"""The catalog of metrics: complete, and nothing in it that no code logs."""

import ast
import re
from pathlib import Path

from siirl.observe.catalog import SECTIONS, page

ROOT = Path(__file__).parents[2]
NAMES = [metric.name for metrics in SECTIONS.values() for metric in metrics]
PREFIXES = sorted({name.partition("/")[0] for name in NAMES})


def logged() -> set[str]:
    """Every text of the code that looks like a metric's whole name; what is computed in it stands as ``<>``."""
    files = [file for file in (ROOT / "siirl").rglob("*.py") if file.name not in ("catalog.py", "progress.py")]
    texts = {text_of(node) for file in files for node in ast.walk(ast.parse(file.read_text()))}
    return {text for text in texts if re.fullmatch(rf"({'|'.join(PREFIXES)})/[a-z_/<>]*[a-z>]", text)}


def text_of(node: ast.AST) -> str:
    """Of a text in the code; empty for anything else."""
    if isinstance(node, ast.JoinedStr):
        return "".join(map(text_of, node.values))
    if isinstance(node, ast.FormattedValue):
        return "<>"
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def is_catalogued(name: str) -> bool:
    patterns = [re.sub("<[a-z]+>", "[a-z0-9_<>]+", known) for known in NAMES]
    return any(re.fullmatch(pattern, name) for pattern in patterns)


def test_what_the_code_logs_is_catalogued() -> None:
    names = logged()
    assert len(names) > 25
    assert [name for name in sorted(names) if not is_catalogued(name) and name != "actor/<>"] == []


def test_what_is_catalogued_is_named_in_the_code() -> None:
    code = "\n".join(p.read_text() for p in (ROOT / "siirl").rglob("*.py") if p.name != "catalog.py")
    leaves = {name: re.split("[/<]", name.removesuffix("<task>").rstrip("/"))[1] for name in NAMES}
    assert [name for name, leaf in leaves.items() if leaf not in code] == []


def test_the_page_is_current() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    assert text == page(), "run: python -m siirl.observe.catalog > docs/metrics.md"
