"""Hooks of the documentation site (mkdocs.yml): links that lead out of ``docs/`` work in the site as they do on GitHub.

What they lead to, a page or a file of the repository, is taken along under ``repository/``.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
TAKEN = "repository"
LINK = re.compile(r"(\]\()([^()\s#]+)((?:#[^()\s]*)?\))")
ALSO = ("CHANGELOG.md",)
"""Taken along although no page links to it: the navigation does."""


def targets(page: Path) -> Iterator[Path]:
    """The files of the repository that a page links to."""
    for match in LINK.finditer(page.read_text()):
        target = (page.parent / match[2]).resolve()
        if "://" not in match[2] and target.is_file() and target.is_relative_to(ROOT):
            yield target


def uri(file: Path) -> str:
    """A file's place in the site's sources."""
    return str(file.relative_to(DOCS)) if file.is_relative_to(DOCS) else f"{TAKEN}/{file.relative_to(ROOT)}"


def source(place: str) -> Path:
    """The inverse of `uri`."""
    return ROOT / place.removeprefix(f"{TAKEN}/") if place.startswith(f"{TAKEN}/") else DOCS / place


def on_files(files: Files, config: Any) -> Files:
    """Take along what the pages link to, and what that links to."""
    waiting = [ROOT / name for name in ALSO] + sorted(DOCS.rglob("*.md"))
    seen = set()
    while waiting:
        file = waiting.pop()
        if file in seen:
            continue
        seen.add(file)
        if not file.is_relative_to(DOCS):
            files.append(File.generated(config, uri(file), abs_src_path=str(file)))
        if file.suffix == ".md":
            waiting += targets(file)
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Point links of a page to where their targets are in the site."""
    here = source(page.file.src_uri)

    def moved(match: re.Match[str]) -> str:
        target = (here.parent / match[2]).resolve()
        if "://" in match[2] or not target.is_file() or not target.is_relative_to(ROOT):
            return match[0]
        return match[1] + os.path.relpath(uri(target), os.path.dirname(page.file.src_uri) or ".") + match[3]

    return LINK.sub(moved, markdown)
