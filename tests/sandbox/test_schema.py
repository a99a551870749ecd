from __future__ import annotations

import json
from typing import Any

import pytest

from zerorouter.sandbox.schema import instance

TREE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "children": {"type": "array", "items": {"$ref": "#"}},
    },
    "required": ["name", "children"],
}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "sandbox"),
        ({"type": "string", "enum": ["red", "blue"]}, "red"),
        ({"const": 7}, 7),
        ({"type": "integer", "default": 3}, 3),
        ({"type": "string", "examples": ["Bergen"]}, "Bergen"),
        ({"type": "integer", "minimum": 5}, 5),
        ({"type": "integer", "exclusiveMinimum": 5}, 6),
        ({"type": "integer", "maximum": -2}, -2),
        ({"type": "number", "minimum": 0.2, "maximum": 0.4}, pytest.approx(0.3)),
        ({"type": "boolean"}, True),
        ({"type": "null"}, None),
        ({"type": ["null", "string"]}, "sandbox"),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, [1, 1]),
        ({"type": "array", "minItems": 10**9}, ["sandbox"] * 16),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, 1),
        ({"type": "string", "format": "date"}, "2026-01-31"),
        ({"type": "string", "maxLength": 3}, "san"),
        ({"type": "string", "minLength": 9}, "sandbox.."),
        ({"type": "object"}, {}),
        ({"allOf": [{"properties": {"a": {"type": "integer"}}}]}, {"a": 1}),
        ({"$ref": "#/$defs/day", "$defs": {"day": {"enum": ["Friday"]}}}, "Friday"),
        ({"$ref": "#/nowhere"}, None),
        (True, "sandbox"),
    ],
)
def test_values_fit_their_schema(schema: Any, value: Any):
    assert instance(schema) == value


def test_objects_have_what_is_required_and_near_the_top_the_rest_too():
    schema = {
        "type": "object",
        "properties": {"town": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["town"],
    }
    assert instance(schema) == {"town": "sandbox", "days": 1}


def test_a_schema_that_calls_itself_ends():
    assert len(json.dumps(instance(TREE))) < 1_000
    looping = {"$ref": "#"}
    assert instance(looping) is None


@pytest.mark.parametrize(
    ("properties", "made"),
    [
        ({"thoughts": {"type": "string"}, "answer": {"type": "string"}}, "42"),
        ({"answer": {"type": "integer"}}, 42),
        ({"answer": {"type": "number"}}, 42),
        ({"colour": {"enum": ["red"]}, "reply": {"type": "string"}}, "42"),
    ],
)
def test_the_answer_stands_where_an_answer_is_wanted(properties: dict[str, Any], made: Any):
    value = instance({"type": "object", "properties": properties}, answer="42")
    assert value["answer" if "answer" in properties else "reply"] == made
    assert value.get("colour", "red") == "red"
