"""A small data folder of our own, and sandboxes over it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zerorouter.catalog import Catalog, ModelSpec, Price
from zerorouter.sandbox.answering import Sandbox
from zerorouter.sandbox.openai_wire import read
from zerorouter.sandbox.plan import Ask
from zerorouter.sandbox.recordings import Recordings
from zerorouter.sandbox.settings import SandboxSettings

PROMPTS: Sequence[Mapping[str, Any]] = (
    {"prompt_id": "sum", "task": "sums", "text": "What is 17 + 25?", "reference": "42"},
    {"prompt_id": "product", "task": "sums", "text": "What is 6 * 7?\nCount.", "reference": "# 42"},
    {
        "prompt_id": "capital",
        "task": "facts",
        "text": "Which town is the capital of Norway?",
        "choices": ["Bergen", "Oslo", "Trondheim", "Tromsø"],
        "reference": "B",
    },
    {
        "prompt_id": "capital-again",
        "task": "facts",
        "text": "Which town is the capital of Norway?",
        "choices": ["Hamar", "Oslo", "Bodø", "Lillehammer"],
        "reference": "B",
    },
    {
        "prompt_id": "colour",
        "task": "words",
        "text": "Name the colour of snow.",
        "reference": "white",
    },
    {
        "prompt_id": "night",
        "task": "words",
        "text": "Name the colour of coal.",
        "reference": "black",
    },
    {"prompt_id": "essay", "task": "essays", "text": "Write about ferries."},
    {"prompt_id": "coin", "task": "words", "text": "Heads or tails?", "reference": "heads"},
    {"prompt_id": "unasked", "task": "words", "text": "Who was not asked?", "reference": "nobody"},
)
RESPONSES: Sequence[Mapping[str, Any]] = (
    {
        "prompt_id": "sum",
        "model": "Able",
        "score": 1,
        "input_tokens": 11,
        "output_tokens": 64,
        "latency_s": 2.5,
        "output_chars": 40,
    },
    {"prompt_id": "product", "model": "Able", "score": 0, "output_chars": 41},
    {"prompt_id": "capital", "model": "Able", "score": 0},
    {"prompt_id": "capital-again", "model": "Able", "score": 1, "output_tokens": 3},
    {"prompt_id": "colour", "model": "Able", "score": 1, "output_tokens": 0, "output_chars": 5},
    {"prompt_id": "night", "model": "Able", "score": 0, "output_tokens": 2},
    {"prompt_id": "essay", "model": "Able", "score": 0.6, "output_tokens": 20},
    {"prompt_id": "coin", "model": "Able", "score": 0.3, "output_tokens": 2},
    {"prompt_id": "sum", "model": "thinker", "score": 1, "output_tokens": 50, "output_chars": 40},
    {"prompt_id": "unasked", "model": "thinker", "score": 1},
)
PRICE = Price(
    input_usd_per_mtok=2.0, output_usd_per_mtok=8.0, cached_input_usd_per_mtok=0.5, kind="user"
)
CATALOG = Catalog(
    models=(
        ModelSpec(
            name="able",
            vendor="ours",
            released="2026-03",
            price=PRICE,
            ttft_s=0.5,
            throughput_tok_s=50,
            context_tokens=20_000,
            max_output_tokens=4_000,
        ),
        ModelSpec(name="thinker", reasoning=True, ttft_s=1.0, throughput_tok_s=100),
    )
)


def write_folder(
    folder: Path,
    prompts: Sequence[Mapping[str, Any]] = PROMPTS,
    responses: Sequence[Mapping[str, Any]] = RESPONSES,
) -> Path:
    """A data folder in JSONL."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("prompts", prompts), ("responses", responses)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return folder


def make_sandbox(folder: Path | None = None, **changes: Any) -> Sandbox:
    """A sandbox over our catalog; without estimates of the space unless P is asked for."""
    settings = SandboxSettings(**{"p_correct": 0.5, **changes})
    recordings = None if folder is None else Recordings.load([folder])
    return Sandbox(settings, catalog=CATALOG, recordings=recordings)


def ask(text: str = "Anything at all?", model: str = "able", **fields: Any) -> Ask:
    """A request as the OpenAI reader makes it."""
    return read({"model": model, "messages": [{"role": "user", "content": text}], **fields})
