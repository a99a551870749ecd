"""What models can take on, read from a file."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zerorouter.data.tables import fault, shown
from zerorouter.routing.assignment.offers import Capacity


def read_capacities(path: Path) -> dict[str, Capacity]:
    """Capacities of models from a file.

    JSON or YAML: ``{"model": {"requests": 1000, "tokens": 5e6}, "other": 500}``, where a number
    alone counts requests. CSV: columns ``model, requests, tokens``, an empty cell for no limit.
    The model ``*`` stands for every model that is not named.

    Raises:
        DataError: the file is missing, or is not of this form.
        InputError: a capacity is no number >= 0.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise fault(
            path,
            found=f"a file that cannot be read ({error})",
            wanted="the capacities of models",
            todo="check the path",
        ) from error
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return {
            name: Capacity(requests=_amount(path, name, r), tokens=_amount(path, name, t))
            for name, r, t in _csv_capacities(path, text)
        }
    parsed: Any
    try:
        if suffix in (".yaml", ".yml"):
            import yaml

            parsed = yaml.safe_load(text)
        else:
            parsed = json.loads(text)
    except Exception as error:  # each parser has errors of its own, all of them the file's fault
        raise fault(
            path,
            found=f"text that cannot be parsed ({error})",
            wanted="capacities as JSON, YAML or CSV",
            todo="correct it",
        ) from error
    if not isinstance(parsed, dict):
        raise fault(
            path,
            found=f"a {type(parsed).__name__}",
            wanted='an object such as {"gpt-4o": {"requests": 1000}}',
            todo="name each model once",
        )
    return {str(name): _capacity(path, str(name), value) for name, value in parsed.items()}


def _capacity(path: Path, name: str, value: object) -> Capacity:
    if not isinstance(value, dict):
        return Capacity(requests=_amount(path, name, value))
    unknown = set(value) - {"requests", "tokens"}
    if unknown:
        raise fault(
            path,
            column=name,
            found=f"the key {sorted(map(str, unknown))[0]!r}",
            wanted="requests or tokens",
            todo="rename or remove it",
        )
    return Capacity(
        requests=_amount(path, name, value.get("requests")),
        tokens=_amount(path, name, value.get("tokens")),
    )


def _amount(path: Path, name: str, value: object) -> float | None:
    if value is None or value == "":
        return None
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError(value)
        return float(value)
    except ValueError:
        raise fault(
            path, column=name, found=shown(value), wanted="a number", todo="correct it"
        ) from None


def _csv_capacities(path: Path, text: str) -> Iterator[tuple[str, str | None, str | None]]:
    rows = csv.DictReader(text.splitlines())
    if not {"model"} <= set(rows.fieldnames or ()):
        raise fault(
            path,
            found=f"the columns {', '.join(rows.fieldnames or ()) or '(none)'}",
            wanted="model, requests, tokens",
            todo="name the columns in line 1",
        )
    for row in rows:
        yield row["model"], row.get("requests"), row.get("tokens")
