"""HTML that is escaped unless it was made here."""

from __future__ import annotations

import html
import json
from typing import Any, TypeAlias


class Html(str):
    """Markup that is safe to place in a page as it stands."""

    __slots__ = ()


Child: TypeAlias = str | None

VOID = frozenset({"meta", "br", "hr", "line", "circle", "path", "rect"})
"""Elements without content; those of SVG close themselves."""


def tag(element: str, /, *children: Child, **attributes: str | int | float | None) -> Html:
    """One element. Text is escaped, `Html` is not; attributes that are None are left out.

    A trailing underscore is dropped from an attribute's name and others become hyphens.

    >>> tag("td", "a < b", class_="n", data_sort=1)
    '<td class="n" data-sort="1">a &lt; b</td>'
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if element in VOID:
        return Html(f"<{element}{written}/>")
    return Html(f"<{element}{written}>{join(*children)}</{element}>")


def join(*children: Child) -> Html:
    """Pieces one after the other, text escaped."""
    return Html(
        "".join(
            child if isinstance(child, Html) else html.escape(child)
            for child in children
            if child is not None
        )
    )


def embedded_json(value: Any) -> Html:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Html(text)
