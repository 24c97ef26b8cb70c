"""docs/cli.md is generated from the commands' parsers."""

from pathlib import Path

from siirl.client.cli import COMMANDS
from siirl.client.reference import page, parser_of

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == page(), "run: python -m siirl.client.reference > docs/cli.md"


def test_the_page_holds_every_option_of_every_command() -> None:
    text = PAGE.read_text()
    for command in COMMANDS.values():
        section = text.partition(f"\n## siirl {command.name}\n")[2].partition("\n## ")[0]
        flags = [
            flag for action in parser_of(command)._actions for flag in action.option_strings if flag.startswith("--")
        ]
        assert [flag for flag in flags if flag not in section and flag != "--help"] == []
