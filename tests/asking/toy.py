"""The simulated records with references, and a sandbox that plays their models."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from data.data_folders import Row, write_folder
from simulated_records import MODELS, fitted_folder, prompts, responses
from zerorouter.asking.job import Design, Onboarding, onboard
from zerorouter.catalog import Catalog, ModelSpec
from zerorouter.prices import Price
from zerorouter.sandbox.answering import Sandbox
from zerorouter.sandbox.recordings import Recordings
from zerorouter.sandbox.settings import SandboxSettings

PRICE = Price(input_usd_per_mtok=1.0, output_usd_per_mtok=4.0)
UPSTREAM = MODELS[4]


def reference_of(text: str) -> str:
    """The right answer to a toy prompt."""
    if text.startswith("Work out "):
        terms = re.findall(r"\d+", text.split(" and ")[0])
        return str(sum(map(int, terms)))
    words = re.search(r"words (.*) in the order", text)
    assert words is not None
    return ", ".join(sorted(words[1].split(", "), reverse=True))


@cache
def toy_prompts() -> tuple[list[Row], list[Row]]:
    """Prompts with references, and the responses of all models to them."""
    rows, difficulty, of_words = prompts()
    asked = [{**row, "reference": reference_of(str(row["text"]))} for row in rows]
    return asked, responses(difficulty, of_words)


def write_toy(folder: Path, n: int | None = None) -> Path:
    """The data set with references as a folder; ``n`` prompts of it."""
    rows, answers = toy_prompts()
    kept = rows[:n]
    ids = {row["prompt_id"] for row in kept}
    return write_folder(
        folder,
        prompts=kept,
        responses=[answer for answer in answers if answer["prompt_id"] in ids],
        models=[{"model": name} for name in MODELS],
    )


def recorded_score(prompt_id: str, model: str = UPSTREAM) -> float:
    """What a model scored in the records."""
    return next(
        float(row["score"])
        for row in toy_prompts()[1]
        if row["prompt_id"] == prompt_id and row["model"] == model
    )


def make_sandbox(folder: Path, **settings: Any) -> Sandbox:
    """A sandbox over the toy records that loads no space."""
    told = SandboxSettings(
        data=(folder,), p_correct=0.5, answer_tokens=20, models=("stranger",), **settings
    )
    return Sandbox(
        told,
        catalog=Catalog(models=tuple(ModelSpec(name=name) for name in MODELS)),
        recordings=Recordings.load((folder,)),
    )


def onboard_toy(url: str, home: Path, data: Path, **changes: Any) -> Onboarding:
    """Onboard one of the simulated models under a new name."""
    design = Design(data=data, **changes.pop("design", {"n": 12}))
    told: dict[str, Any] = {
        "base_url": f"{url}/v1",
        "upstream_model": UPSTREAM,
        "price": PRICE,
        "max_tokens": 200,
        "space": fitted_folder(),
        "home": home,
        "date": "2026-11-22",
        "timeout_s": 20.0,
        **changes,
    }
    return onboard("newcomer", design=design, **told)
