"""HTML and SVG from Python: every text is escaped unless it was made here."""

import html
from collections.abc import Iterable
from typing import Union


class Html(str):
    """Markup that is used as it is."""


Child = Union["Html", str, int, float, None, Iterable["Child"]]

VOID = {"img", "meta", "link", "br", "hr"}
"""Elements without an end tag."""


def tag(name: str, /, *children: Child, **attributes: str | int | float | bool | None) -> Html:
    """An element. Children that are no `Html` are escaped; iterables are flattened; None is left out.

    Attributes: ``class_`` becomes ``class``, ``data_tip`` ``data-tip``; True is the name alone, None and False are nothing.
    """
    shown = "".join(
        _attribute(key, value) for key, value in attributes.items() if value is not None and value is not False
    )
    if name in VOID:
        return Html(f"<{name}{shown}>")
    return Html(f"<{name}{shown}>{join(*children)}</{name}>")


def join(*children: Child) -> Html:
    """Children one after the other."""
    return Html("".join(map(_text, children)))


def number(value: float) -> str:
    """A coordinate, with two digits behind the point at most."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _text(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return child
    if isinstance(child, (str, int, float)):
        return html.escape(str(child))
    return join(*child)


def _attribute(key: str, value: str | int | float | bool) -> str:
    name = key.rstrip("_").replace("_", "-") if key != "viewBox" else key
    return f" {name}" if value is True else f' {name}="{html.escape(str(value), quote=True)}"'
