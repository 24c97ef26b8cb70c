"""docs/coming_from_rlinf.md is generated from the table."""

from pathlib import Path

from siirl.config.aliases import ALIASES, CHOICES, EARLIER, ONLY, UNREAD
from siirl.config.coming_from_rlinf import page
from siirl.config.computed import COMPUTED

PAGE = Path(__file__).parents[2] / "docs" / "coming_from_rlinf.md"


def test_the_page_is_current() -> None:
    generate = "python -m siirl.config.coming_from_rlinf > docs/coming_from_rlinf.md"
    assert PAGE.read_text() == page(), f"run: {generate}"


def test_the_page_holds_every_name_and_how_it_is_computed() -> None:
    text = page()
    assert all(f"| `{name}`" in text for name in (*ALIASES, *CHOICES, *EARLIER, *ONLY, *UNREAD))
    assert all(f"`{name}`" in text for row in COMPUTED for name in row.names)
    assert all(len(row.function.__doc__ or "") > 5 for row in COMPUTED)
