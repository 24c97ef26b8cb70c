"""Where the files that siirl brings along are, and what a policy's folder looks like."""

from pathlib import Path


def shipped_folder(name: str) -> Path:
    """``configs`` or ``assets``: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    return package / name if (package / name).is_dir() else package.parent / name


def is_policy_folder(folder: Path) -> bool:
    """Whether a folder holds a policy: ``config.json`` in Hugging Face layout, or ``config.yaml`` as StarVLA writes it."""
    return any((folder / name).is_file() for name in ("config.json", "config.yaml"))
