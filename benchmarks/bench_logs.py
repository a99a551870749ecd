"""How fast evaluation logs are read, matched and imported, and in how much memory.

    python benchmarks/bench_logs.py [--rows 100000] [--only NAME]

One process and one thread a format. Logs are made up in each tool's format with rows of the size
that real ones have: a prompt with worked examples, a document, a reply. "read" is the table of
answers, "match" the search for them among 26,000 calibrated items of which a third are in the log,
"import" reading and writing a data folder. Target: 100,000 rows imported in under 5 s.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

WORDS = (
    *("river", "market", "engine", "letter", "garden", "copper", "signal", "window", "station"),
    *("harvest", "pressure", "language", "council", "bridge", "voltage", "reaction", "contract"),
    *("muscle", "theorem", "orbit", "island", "metal", "surface", "record"),
)
N_CALIBRATED = 26_000


def _text(draw: random.Random, n_words: int) -> str:
    return " ".join(draw.choices(WORDS, k=n_words)) + "?"


def _questions(n: int) -> Iterator[tuple[str, list[str], int, str]]:
    """Question, options, which is right, reply: one a row."""
    draw = random.Random(0)
    for i in range(n):
        options = [f"{_text(draw, 4)} {place}" for place in range(4)]
        yield f"{i}: {_text(draw, 40)}", options, draw.randrange(4), _text(draw, 120)


def write_lm_eval(folder: Path, n: int, n_shots: int) -> Path:
    """``samples_*.jsonl`` beside its results, as ``--log_samples`` writes it."""
    place = folder / "acme__large"
    place.mkdir()
    date = "2026-11-22T06-40-23.459637"
    told = {"results": {}, "model_name": "acme/large", "n-shot": {"exam": n_shots}}
    (place / f"results_{date}.json").write_text(json.dumps(told, indent=2))
    shots = "\n\n".join(_text(random.Random(i), 150) for i in range(n_shots))
    path = place / f"samples_exam_{date}.jsonl"
    with path.open("w", encoding="utf-8") as stream:
        for i, (question, options, right, reply) in enumerate(_questions(n)):
            asked = f"{shots}\n\n{question}\n" + "\n".join(options)
            messages = json.dumps([{"role": "user", "content": asked}])
            row = {
                "doc_id": i,
                "doc": {"question_id": i, "question": question, "options": options},
                "target": "ABCD"[right],
                "arguments": {"gen_args_0": {"arg_0": [messages], "arg_1": {"until": ["Q:"]}}},
                "resps": [[reply]],
                "filtered_resps": [reply],
                "filter": "custom-extract",
                "metrics": ["exact_match"],
                "doc_hash": f"{i:064x}",
                "prompt_hash": f"{i:064x}",
                "target_hash": f"{i:064x}",
                "exact_match": float(i % 3 > 0),
            }
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path


def _inspect_head(n: int) -> dict[str, Any]:
    spec = {"task": "exam", "model": "acme/large", "dataset": {"samples": n}}
    return {"version": 2, "status": "success", "eval": spec, "results": {"scores": []}}


def _inspect_samples(n: int) -> Iterator[dict[str, Any]]:
    usage = {"input_tokens": 200, "output_tokens": 160, "total_tokens": 360}
    for i, (question, options, right, reply) in enumerate(_questions(n)):
        asked = f"{question}\n" + "\n".join(options)
        yield {
            "id": i,
            "epoch": 1,
            "input": question,
            "choices": options,
            "target": "ABCD"[right],
            "messages": [
                {"role": "user", "content": asked},
                {"role": "assistant", "content": reply},
            ],
            "output": {
                "model": "large",
                "choices": [
                    {
                        "message": {"role": "assistant", "content": reply},
                        "stop_reason": "stop",
                    }
                ],
                "completion": reply,
                "usage": usage,
                "time": 1.5,
            },
            "scores": {"choice": {"value": "CI"[i % 3 == 0], "answer": "A"}},
            "model_usage": {"acme/large": usage},
            "total_time": 1.7,
            "working_time": 1.6,
            "turn_count": 1,
            "events": [{"event": "model", "input": asked, "output": reply}],
        }


def write_inspect_json(folder: Path, n: int) -> Path:
    """One object with all samples, indented as Inspect does it."""
    path = folder / "exam.json"
    with path.open("w", encoding="utf-8") as stream:
        head = json.dumps(_inspect_head(n), indent=2)
        stream.write(head[:-2] + ',\n  "samples": [')
        for i, sample in enumerate(_inspect_samples(n)):
            text = json.dumps(sample, indent=2, ensure_ascii=False).replace("\n", "\n    ")
            stream.write(("," if i else "") + "\n    " + text)
        stream.write("\n  ]\n}\n")
    return path


def write_inspect_eval(folder: Path, n: int) -> Path:
    """A ZIP archive with a member a sample, deflated as older versions do it."""
    path = folder / "exam.eval"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for sample in _inspect_samples(n):
            text = json.dumps(sample, indent=2, ensure_ascii=False)
            archive.writestr(f"samples/{sample['id']}_epoch_1.json", text)
        archive.writestr("header.json", json.dumps(_inspect_head(n), indent=2))
    return path


def write_helm(folder: Path, n: int) -> Path:
    """A run directory."""
    spec = {
        "name": "exam:model=acme_large",
        "adapter_spec": {"method": "multiple_choice_joint", "model": "acme/large"},
    }
    (folder / "run_spec.json").write_text(json.dumps(spec, indent=2))
    with (
        (folder / "scenario_state.json").open("w", encoding="utf-8") as state,
        (folder / "per_instance_stats.json").open("w", encoding="utf-8") as stats,
    ):
        state.write('{\n  "adapter_spec": {},\n  "request_states": [')
        stats.write("[")
        for i, (question, options, right, reply) in enumerate(_questions(n)):
            references = [
                {"output": {"text": option}, "tags": ["correct"] if place == right else []}
                for place, option in enumerate(options)
            ]
            request = {
                "instance": {
                    "input": {"text": question},
                    "references": references,
                    "split": "test",
                    "id": f"id{i}",
                },
                "train_trial_index": 0,
                "request": {"model": "acme/large", "prompt": f"{question}\n{options}"},
                "result": {
                    "success": True,
                    "completions": [{"text": reply, "logprob": 0, "tokens": []}],
                    "cached": False,
                    "request_time": 1.5,
                },
            }
            row = {
                "instance_id": f"id{i}",
                "train_trial_index": 0,
                "stats": [
                    {
                        "name": {"name": name, "split": "test"},
                        "count": 1,
                        "sum": value,
                        "sum_squared": value,
                        "min": value,
                        "max": value,
                        "mean": value,
                        "variance": 0,
                        "stddev": 0,
                    }
                    for name, value in (("exact_match", i % 3 > 0), ("num_output_tokens", 160))
                ],
            }
            state.write(("," if i else "") + "\n" + json.dumps(request, indent=2))
            stats.write(("," if i else "") + "\n" + json.dumps(row, indent=2))
        state.write("\n  ]\n}\n")
        stats.write("\n]\n")
    return folder


def write_wide(folder: Path, n: int) -> Path:
    """A RouterBench-like CSV table: ten models, a tenth of the rows."""
    import csv

    path = folder / "routerbench.csv"
    models = [f"acme/model-{i}" for i in range(10)]
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        extra = [f"{model}|{part}" for model in models for part in ("model_response", "total_cost")]
        writer.writerow(["sample_id", "prompt", "eval_name", *models, *extra])
        for i, (question, options, _, reply) in enumerate(_questions(n // 10)):
            scores = [float((i + place) % 3 > 0) for place in range(10)]
            sides: list[object] = [part for _ in models for part in (str([reply]), 0.0001)]
            writer.writerow([f"exam.{i}", str([f"{question} {options}"]), "exam", *scores, *sides])
    return path


WRITERS: dict[str, Callable[[Path, int], Path]] = {
    "lm-eval, zero-shot": lambda folder, n: write_lm_eval(folder, n, 0),
    "lm-eval, five shots": lambda folder, n: write_lm_eval(folder, n, 5),
    "inspect .eval": write_inspect_eval,
    "inspect .json": write_inspect_json,
    "helm": write_helm,
    "wide csv": write_wide,
}


def calibrated() -> Any:
    """Digests of 26,000 calibrated items, of which a third are the log's first questions."""
    from zerorouter.data.digests import digest_array, question_digest

    known = [question_digest(q, options) for q, options, _, _ in _questions(N_CALIBRATED // 3)]
    draw = np.random.default_rng(0)
    others = draw.integers(0, 2**63, (N_CALIBRATED - len(known), 2)).astype(np.uint64)
    return np.concatenate([digest_array(known), others])


def measure(name: str, n: int, folder: Path) -> None:
    """One format, in this process."""
    from zerorouter.data.importing import import_logs
    from zerorouter.data.logs.matching import match_items
    from zerorouter.data.logs.reading import read_logs

    path = WRITERS[name](folder, n)
    digests = calibrated()
    files = [path] if path.is_file() else list(path.iterdir())
    size = sum(file.stat().st_size for file in files) / 2**20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.process_time()
    logged = read_logs([path])
    read_s = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.process_time()
    matched = match_items(logged, digests, respondent=logged.respondents[0])
    match_s = time.process_time() - start
    del logged
    start = time.process_time()
    import_logs([path], folder / "out")
    import_s = time.process_time() - start
    print(
        f"{name:20s} {size:7.0f} {read_s:7.2f} {match_s:7.2f} {import_s:7.2f} "
        f"{peak - before:9.0f}  {matched}",
        flush=True,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--only", choices=tuple(WRITERS))
    parser.add_argument("--in-this-process", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.in_this_process:
        with tempfile.TemporaryDirectory() as folder:
            measure(given.only, given.rows, Path(folder))
        return
    print(f"{given.rows:,} rows; seconds of one core")
    print(
        f"{'format':20s} {'MiB':>7s} {'read':>7s} {'match':>7s} {'import':>7s} {'MiB more':>9s}"
        "  matched"
    )
    for name in WRITERS if given.only is None else (given.only,):
        command = [sys.executable, __file__, "--rows", str(given.rows), "--only", name]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        subprocess.run([*command, "--in-this-process"], check=True, env=environment)


if __name__ == "__main__":
    main()
