"""Where the files that siirl brings along are."""

from pathlib import Path


def shipped_folder(name: str) -> Path:
    """``configs`` or ``assets``: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    return package / name if (package / name).is_dir() else package.parent / name
