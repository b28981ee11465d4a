"""HTML as a value: text is escaped wherever it is put in, so nothing a directory sends can become markup.

Only `tag` makes markup, from names written in this package, and children that are text (escaped) or markup already.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import TypeAlias

EMPTY = frozenset({"br", "circle", "hr", "input", "line", "link", "meta", "path", "polyline", "rect"})
"""Elements without children. Those of SVG are closed as well."""
LINKS = frozenset({"action", "href", "src"})
_UNPRINTABLE = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
"""What no page should hold, or what turns text round: names come from whoever may write to a directory."""


class Markup:
    """A piece of HTML that is right as it stands; made by `tag` and `many` alone."""

    __slots__ = ("_text",)

    def __init__(self, text: str, _made_here: object) -> None:
        if _made_here is not _HERE:
            raise TypeError("markup is made by `tag`")
        self._text = text

    def __str__(self) -> str:
        return self._text


_HERE = object()
Child: TypeAlias = "Markup | str | int | float | Iterable[Child] | None"


def tag(element: str, /, *children: Child, **attributes: str | int | float | bool | None) -> Markup:
    """Return an element. `class_` and `for_` lose their underscore, others become hyphens; None and False are left out.

    Raises:
        ValueError: a link leads away from here.
    """
    opened = element + "".join(_attribute(key, value) for key, value in attributes.items())
    if element in EMPTY:
        return Markup(f"<{opened}/>", _HERE)
    return Markup(f"<{opened}>{''.join(map(_text, children))}</{element}>", _HERE)


def many(*children: Child) -> Markup:
    """Return several pieces side by side."""
    return Markup("".join(map(_text, children)), _HERE)


def named(text: object) -> Markup:
    """Return a name from outside, kept to itself: its direction of writing turns nothing else round."""
    return tag("bdi", str(text))


def document(page: Markup) -> bytes:
    return f"<!DOCTYPE html>\n{page}\n".encode()


def clean(text: str) -> str:
    """Return text with what cannot be printed written as its escape."""
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _text(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return str(child)
    if isinstance(child, str | int | float):
        return html.escape(clean(str(child)))
    return "".join(map(_text, child))


def _attribute(key: str, value: str | int | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-") if key != "viewBox" else key
    if value is True:
        return f' {name}=""'
    text = clean(str(value))
    if name in LINKS and not _is_ours(text):
        msg = f"{name} leads away from here"
        raise ValueError(msg)
    return f' {name}="{html.escape(text)}"'


def _is_ours(link: str) -> bool:
    return link.startswith(("/", "#", "?")) and not link.startswith(("//", "/\\"))
