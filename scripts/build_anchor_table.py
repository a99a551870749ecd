"""Make the table of known items that the package ships beside the space.

    python scripts/build_anchor_table.py --data DIR

Reads the questions of mmlu-pro, zeroeval, reasoning-gym and cruxeval, and tries to make each
reasoning-gym question again with the pinned package. Written to ``src/zerorouter/assets/anchors``:
hashes, tasks, places, lengths; no text. The package's default settings made the easy half, those of
``scripts/reasoning_gym_hard.yaml`` the hard one.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from zerorouter.asking.generated import UNSAFE_GENERATORS, VERSION, generate, require_package
from zerorouter.data.digests import digest_array, question_digest
from zerorouter.data.importing import data_digest
from zerorouter.data.reading import read_folder
from zerorouter.errors import InputError
from zerorouter.fitting import as_requests
from zerorouter.known_items import KnownItems, TaskFacts
from zerorouter.space import LatentSpace

DATASETS = ("mmlu-pro", "zeroeval", "reasoning-gym", "cruxeval")
ATTRIBUTIONS = {
    "mmlu-pro": "TIGER-AI-Lab/MMLU-Pro, Apache-2.0",
    "zeroeval": "WildEval/ZeroEval, Apache-2.0",
    "reasoning-gym": "open-thought/reasoning-gym and reasoning-gym-eval, Apache-2.0",
    "cruxeval": "facebookresearch/cruxeval, MIT",
}
SLOWEST_S = 0.12  # of the processor, per prompt, beyond which a task is not offered as anchors
HERE = Path(__file__).parent
TARGET = HERE.parent / "src" / "zerorouter" / "assets" / "anchors"


def places(task: str, hard: dict[str, Any]) -> tuple[dict[str, Any], dict[bytes, int]] | None:
    """Generator facts of a reasoning-gym task and the place of each digest it makes, or None."""
    half, _, generator = task.split("/")
    if generator in UNSAFE_GENERATORS:
        return None
    if half == "rg_hard" and generator not in hard["generators"]:
        return None
    settings = hard["generators"][generator] if half == "rg_hard" else {}
    seed, size = int(hard["seed"]), int(hard["size"])
    found: dict[bytes, int] = {}
    start = time.process_time()
    for place in range(size):
        try:
            prompt = generate(generator, settings, seed=seed, size=size, place=place)
        except InputError as error:
            print(f"{task}: {error}")
            return None
        if prompt.score(prompt.reference) < 1:
            continue  # what the grader does not take from the author is no anchor
        found[question_digest(prompt.question)] = place
        if time.process_time() - start > SLOWEST_S * size:
            print(f"{task}: too slow")
            return None
    facts = {"generator": generator, "settings": settings, "seed": seed, "size": size}
    return facts, found


def main() -> None:
    """Read the arguments, make the table, say what came of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the record folders")
    parser.add_argument("--out", type=Path, default=TARGET)
    arguments = parser.parse_args()
    require_package()
    hard = yaml.safe_load((HERE / "reasoning_gym_hard.yaml").read_text(encoding="utf-8"))
    space = LatentSpace.load()
    reader = space.reader()
    rows: dict[bytes, tuple[int, int, int]] = {}  # digest -> task, place, characters
    tasks: list[TaskFacts] = []
    for dataset in DATASETS:
        prompts = read_folder(arguments.data / dataset).prompts
        digests = [
            question_digest(text, options or ())
            for text, options in zip(prompts.texts, prompts.choices, strict=True)
        ]
        requests = as_requests(prompts, 0)
        levels = np.concatenate(
            [
                reader.read(requests[start : start + 1000]).log_length
                for start in range(0, len(requests), 1000)
            ]
        )
        names = np.array([task or "" for task in prompts.tasks])
        for name in dict.fromkeys(names.tolist()):
            of_task = np.flatnonzero(names == name)
            made = places(name, hard) if dataset == "reasoning-gym" else None
            facts, found = made or ({}, {})
            tasks.append(
                TaskFacts(
                    name=f"{dataset}/{name}",
                    log_length=round(float(levels[of_task].mean()), 3),
                    **facts,
                )
            )
            for i in of_task:
                options = prompts.choices[i] or ()
                chars = len(prompts.texts[i]) + sum(len(option) + 4 for option in options)
                row = (len(tasks) - 1, found.get(digests[i], -1), chars)
                rows.setdefault(digests[i], row)
            if made:
                n = sum(digests[i] in found for i in of_task)
                print(f"{name}: {n} of {len(of_task)}", flush=True)
    ordered = sorted(rows)
    table = KnownItems(
        prefix=digest_array(ordered)[:, 0],
        task=np.array([rows[digest][0] for digest in ordered]),
        place=np.array([rows[digest][1] for digest in ordered]),
        chars=np.array([rows[digest][2] for digest in ordered]),
        tasks=tuple(tasks),
        package=VERSION,
        provenance={
            "attributions": ATTRIBUTIONS,
            "data": {name: data_digest(arguments.data / name) for name in DATASETS},
        },
    )
    if len(np.unique(table.prefix)) < len(ordered):
        raise SystemExit("two questions share the first 64 bits of their hash")
    table.save(arguments.out)
    calibrated = int((table.find(space.calibrated.digests) >= 0).sum())
    made_anew = int((table.place >= 0).sum())
    print(f"{len(ordered):,} items of {len(tasks)} tasks, {made_anew:,} can be made anew")
    print(f"{calibrated:,} of the space's {len(space.calibrated.digests):,} items are in the table")


if __name__ == "__main__":
    main()
