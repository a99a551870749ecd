"""Graders by name, for tests."""

from __future__ import annotations

from zerorouter.asking.graders import Grade


def finds_nothing(reply: str, reference: str) -> Grade:
    del reply, reference
    return Grade(0.0, found=False)


def half(reply: str, reference: str) -> float:
    return 0.5 if reference in reply else 0.0


def broken(reply: str, reference: str) -> str:
    del reply, reference
    return "well done"


def fails(reply: str, reference: str) -> float:
    del reply, reference
    return 1 / 0


not_a_function = 3
