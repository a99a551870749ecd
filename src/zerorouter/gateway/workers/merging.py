"""The metrics of several processes as one text in Prometheus' format 0.0.4.

Counters, histograms and summaries add up sample by sample, being sums already. What a gauge means
decides how gauges go together: numbers of things add up, states take the worst.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

_SAMPLE: Final = re.compile(r"([A-Za-z_:][A-Za-z0-9_:]*(?:\{.*\})?) ([^ ]+)(?: -?[0-9]+)?")
_SUMS: Final = frozenset({"counter", "histogram", "summary"})

_STATES: Final[tuple[tuple[str, Callable[[Sequence[float]], float]], ...]] = (
    ("_sessions", max),  # all know the same ones
    ("_created", min),
    ("_successful", min),
    ("_state", max),
    ("_version", max),
    ("_info", max),
    ("_timestamp_seconds", max),
    ("_ratio", max),
)
"""Gauges that are no numbers of things, by the end of their names."""


@dataclass(slots=True)
class Family:
    """A metric of one name.

    Attributes:
        kind: ``counter``, ``gauge``, ...
        head: Its ``# HELP`` and ``# TYPE`` lines.
        samples: By name and labels, as they are written.
    """

    kind: str = "untyped"
    head: list[str] = field(default_factory=list)
    samples: dict[str, list[float]] = field(default_factory=dict)


def merge(texts: Iterable[str], *, dead: Iterable[str] = ()) -> str:
    """One text of several.

    Args:
        texts: Of processes that run.
        dead: Of processes that have ended: what they counted still counts, their gauges do not.
    """
    families: dict[str, Family] = {}
    for text in texts:
        _add(families, text, sums_only=False)
    for text in dead:
        _add(families, text, sums_only=True)
    return "".join(_write(families))


def _add(families: dict[str, Family], text: str, *, sums_only: bool) -> None:
    family = Family()
    for line in text.splitlines():
        if line.startswith("# "):
            _, word, name, *rest = line.split(" ", 3)
            family = families.setdefault(name, Family())
            if word == "TYPE":
                family.kind = rest[0] if rest else "untyped"
            if line not in family.head:
                family.head.append(line)
        elif line and not line.startswith("#") and (not sums_only or family.kind in _SUMS):
            found = _SAMPLE.fullmatch(line)
            if found is not None:
                family.samples.setdefault(found[1], []).append(float(found[2]))


def _write(families: dict[str, Family]) -> Iterator[str]:
    for name, family in families.items():
        for line in family.head:
            yield f"{line}\n"
        together = _together(name, family.kind)
        for sample, values in family.samples.items():
            yield f"{sample} {_number(values[0] if len(values) == 1 else together(values))}\n"


def _together(name: str, kind: str) -> Callable[[Sequence[float]], float]:
    if kind not in _SUMS:
        for ending, rule in _STATES:
            if name.endswith(ending):
                return rule
    return sum


def _number(value: float) -> str:
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)
