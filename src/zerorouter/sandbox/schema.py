"""A value that fits a JSON Schema: arguments of tool calls and structured answers.

Covers what providers accept for tools and structured outputs: types, ``enum``, ``const``,
``default``, ``examples``, required and optional properties, ``items``, ``anyOf``/``oneOf``/
``allOf`` and local ``$ref``. Patterns and formats are met for the common formats only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

DEEPEST: Final = 12  # levels; a schema that calls itself ends there
_LONGEST_ITEMS: Final = 16
_FORMATS: Final = {
    "date": "2026-01-31",
    "time": "12:00:00Z",
    "date-time": "2026-01-31T12:00:00Z",
    "email": "someone@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "hostname": "example.com",
}


def instance(schema: Any, *, answer: str | None = None) -> Any:
    """A value for ``schema``, the same one every time.

    Args:
        schema: A JSON Schema; anything that is none stands for one without demands.
        answer: What the first property named like an answer, or else the first text, shall
            hold, where its type allows.
    """
    return _Writer(schema if isinstance(schema, Mapping) else {}, answer).value()


class _Writer:
    def __init__(self, root: Mapping[str, Any], answer: str | None) -> None:
        self._root = root
        self._answer = answer

    def value(self) -> Any:
        made = self._of(self._root, 0)
        if self._answer is not None and isinstance(made, dict):
            _place(made, self._root.get("properties"), self._answer)
        elif self._answer is not None and isinstance(made, str):
            return self._answer
        return made

    def _of(self, schema: Any, depth: int) -> Any:
        if not isinstance(schema, Mapping) or depth > DEEPEST:
            return None
        if isinstance(reference := schema.get("$ref"), str):
            return self._of(self._resolved(reference), depth + 1)
        for key in ("const", "default"):
            if key in schema:
                return schema[key]
        for key in ("enum", "examples"):
            if isinstance(listed := schema.get(key), list) and listed:
                return listed[0]
        for key in ("anyOf", "oneOf"):
            if isinstance(listed := schema.get(key), list) and listed:
                return self._of(listed[0], depth + 1)
        if isinstance(parts := schema.get("allOf"), list) and parts:
            return self._of(_joined(schema, parts), depth + 1)
        return self._of_type(_kind(schema), schema, depth)

    def _of_type(self, kind: str, schema: Mapping[str, Any], depth: int) -> Any:
        match kind:
            case "object" | "dict":
                return self._object(schema, depth)
            case "array" | "list" | "tuple":
                n = _whole(schema.get("minItems"), 1, _LONGEST_ITEMS)
                return [self._of(schema.get("items", {}), depth + 1) for _ in range(n)]
            case "integer":
                return int(_number(schema, whole=True))
            case "number" | "float":
                return _number(schema, whole=False)
            case "boolean":
                return True
            case "null":
                return None
            case _:
                return _text(schema)

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties")
        if not isinstance(properties, Mapping):
            return {}
        required = schema.get("required")
        wanted = set(required) if isinstance(required, list) else set(properties)
        # Below a few levels only what must be there, so that a recursive schema ends.
        return {
            str(name): self._of(part, depth + 1)
            for name, part in properties.items()
            if name in wanted or depth < 2
        }

    def _resolved(self, reference: str) -> Any:
        node: Any = self._root
        for part in reference.removeprefix("#").strip("/").split("/"):
            if part:
                node = node.get(part) if isinstance(node, Mapping) else None
        return node


def _kind(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if isinstance(kind, str):
        return kind
    return "object" if "properties" in schema else "array" if "items" in schema else "string"


def _joined(schema: Mapping[str, Any], parts: list[Any]) -> dict[str, Any]:
    whole: dict[str, Any] = {key: value for key, value in schema.items() if key != "allOf"}
    for part in parts:
        if isinstance(part, Mapping):
            properties = {**(whole.get("properties") or {}), **(part.get("properties") or {})}
            whole |= part
            if properties:
                whole["properties"] = properties
    return whole


def _number(schema: Mapping[str, Any], *, whole: bool) -> float:
    low = _bound(schema.get("minimum"), schema.get("exclusiveMinimum"), 1)
    high = _bound(schema.get("maximum"), schema.get("exclusiveMaximum"), -1)
    if low is not None:
        value = math.ceil(low)
        return value if high is None or value <= high else (low + high) / 2
    value = 1
    if high is None or value <= high:
        return value
    return math.floor(high) if whole else high


def _bound(closed: Any, opened: Any, step: int) -> float | None:
    if isinstance(opened, int | float) and not isinstance(opened, bool):
        return opened + step
    if isinstance(closed, int | float) and not isinstance(closed, bool):
        return closed
    return None


def _text(schema: Mapping[str, Any]) -> str:
    text = _FORMATS.get(str(schema.get("format")), "sandbox")
    least = _whole(schema.get("minLength"), 0, 10_000)
    most = _whole(schema.get("maxLength"), len(text) + least, 1_000_000)
    return (text + "." * max(least - len(text), 0))[:most]


def _whole(value: Any, otherwise: int, largest: int) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return min(max(value, 0), largest)
    return otherwise


def _place(made: dict[str, Any], properties: Any, answer: str) -> None:
    """Put the answer where it fits."""
    kinds = properties if isinstance(properties, Mapping) else {}
    names = [name for name in made if isinstance(made[name], str) and _free(kinds.get(name))]
    if "answer" in made and isinstance(made["answer"], int | float):
        try:
            number = float(answer.replace(",", "").lstrip("#$ "))
        except ValueError:
            return
        made["answer"] = int(number) if number.is_integer() else number
    elif names:
        made["answer" if "answer" in names else names[0]] = answer


def _free(schema: Any) -> bool:
    """Whether any text will do."""
    return isinstance(schema, Mapping) and not schema.keys() & {"enum", "const", "format"}
