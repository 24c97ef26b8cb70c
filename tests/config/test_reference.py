"""docs/config.md is generated from the schema."""

from pathlib import Path

from siirl.config.aliases import ALIASES
from siirl.config.keys import KEYS
from siirl.config.reference import reference

PAGE = Path(__file__).parents[2] / "docs" / "config.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == reference(), "run: python -m siirl.config.reference > docs/config.md"


def test_the_page_holds_every_key_and_no_path_of_this_machine() -> None:
    page = reference()
    assert all(f"| `{name}` | " in page for name in KEYS)
    assert all(f"| `{alias}` | `{name}` |" in page for alias, name in ALIASES.items())
    assert "`${asset:start_policy}`" in page
    assert str(PAGE.parents[1]) not in page
