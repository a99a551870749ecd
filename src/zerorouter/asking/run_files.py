"""Where the journal of a run stands, and when two runs are the same one."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Final

from zerorouter.asking.engine import Asking
from zerorouter.asking.sources import AnchorSource
from zerorouter.catalog import ModelSpec

RUNS: Final = "runs"


def run_path(root: Path, spec: ModelSpec, asking: Asking, source: AnchorSource) -> Path:
    """Where the journal of a run stands: one file for a model, an endpoint and a set of prompts."""
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", spec.name).strip(".-")[:60] or "model"
    return root / RUNS / f"{slug}-{fingerprint(spec, asking, source)}.jsonl"


def fingerprint(spec: ModelSpec, asking: Asking, source: AnchorSource) -> str:
    """Names what makes two runs the same: whose answers, to which prompts, asked how."""
    facts = [
        spec.name,
        asking.endpoint.base_url.rstrip("/"),
        asking.endpoint.model,
        source.name,
        source.system,
        json.dumps(asking.extra, sort_keys=True, default=str),
    ]
    return hashlib.sha256("\x1f".join(facts).encode()).hexdigest()[:12]


def put_aside(path: Path) -> None:
    """Keep an earlier journal under another name."""
    if not path.exists():
        return
    number = 1
    while (aside := path.with_suffix(f".{number}.jsonl")).exists():
        number += 1
    path.replace(aside)
