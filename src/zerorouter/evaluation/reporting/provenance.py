"""What was run, as words: the facts of a report's ``meta``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from zerorouter.evaluation.reporting.measures import shown

_NAMES: Mapping[str, str] = {
    "date": "Date",
    "commit": "Commit",
    "version": "Version",
    "command": "Command",
    "mode": "Mode",
    "datasets": "Data sets",
    "splits": "Splits",
    "seeds": "Seeds",
    "methods": "Methods",
    "anchors": "Labels per newcomer",
    "bootstrap": "Bootstrap samples",
    "duration_s": "Duration, seconds",
    "data_hashes": "Data hashes",
    "machine": "Machine",
}
"""Usual facts in their order; others follow under their own names."""


def facts(meta: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and words of every fact; a mapping inside is a fact per key."""
    known = [key for key in _NAMES if key in meta]
    others = sorted(str(key) for key in meta if key not in _NAMES)
    found: list[tuple[str, str]] = []
    for key in known + others:
        name = _NAMES.get(key) or shown(key).replace("_", " ").capitalize()
        found += _facts(name, meta[key])
    return found


def _facts(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _facts(f"{name} · {shown(str(key))}", inner)
    else:
        yield name, _words(value)


def _words(value: Any) -> str:
    if isinstance(value, list | tuple | set | frozenset | range):
        return ", ".join(map(_words, value)) or "none"
    if value is None:
        return "unknown"
    return shown(str(value))
