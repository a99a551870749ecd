"""Whether a decision survives another way of writing down the same question.

    python scripts/measure_stability.py --data DIR [--prompts 1000] [--out FILE]

A sample of prompts of mmlu-pro, zeroeval, cruxeval and reasoning-gym goes through every template
of `zerorouter.predict.templates`, and through some renderings that neither the templates nor the
lists of `predict.wrapping` know, and is routed by the shipped space. Compared with the bare
rendering:

- *choice*: share of prompts that go to the same model, under three policies. A longer preamble
  is paid for; *choice, cost aside* takes the bare rendering's input tokens and so shows what the
  reading alone does.
- *P*: share of prompts whose P(correct) of the model that the bare rendering is sent to stays
  within .03; *pool*: the same of the mean |change of P| over the whole pool.
- *same ask*: share of prompts whose question and options are read exactly as in the bare one.

The target is 95% for choice and P. What moved, and by which features, follows below the tables.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy is imported

import datetime
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from zerorouter import Router
from zerorouter.arrays import BoolArray, Float32Array, FloatArray, IntArray
from zerorouter.data.reading import read_folder
from zerorouter.predict.encoders import StaticEncoder
from zerorouter.predict.features import FeatureReader
from zerorouter.predict.options import Ask, read_ask
from zerorouter.predict.prompt import Prompt, read_prompt
from zerorouter.predict.structure import FEATURE_NAMES
from zerorouter.predict.templates import TEMPLATES, render
from zerorouter.routing import choice
from zerorouter.routing.estimates import Estimates
from zerorouter.routing.policy import POLICIES

DATASETS = ("mmlu-pro", "zeroeval", "cruxeval", "reasoning-gym")
CHOSEN_BY = ("balanced", "quality", "cost")
NEAR = 0.03
TARGET = 0.95
BARE = "bare"
MOST_NAMED = 8  # features in a table of causes

Request: TypeAlias = str | list[dict[str, Any]]


# -- renderings that no list knows -----------------------------------------------------------------


def _listed(choices: Sequence[str], label: Callable[[int], str]) -> str:
    return "\n".join([f"{label(i)} {text}" for i, text in enumerate(choices)])


def _upper(i: int) -> str:
    return f"{chr(65 + i)}."


def _plain(text: str, choices: Sequence[str]) -> str:
    return text if not choices else f"{text}\n{_listed(choices, _upper)}"


def _markdown(text: str, choices: Sequence[str]) -> str:
    body = f"## Task\n\n{text}\n"
    if choices:
        body += "\n### Options\n\n" + _listed(choices, lambda i: f"- **{chr(65 + i)}.**") + "\n"
    return body + "\n### What I need\n\nThe final answer and two sentences on why."


def _tagged(text: str, choices: Sequence[str]) -> str:
    body = f"<question>\n{text}\n</question>"
    if choices:
        body += f"\n<options>\n{_listed(choices, _upper)}\n</options>"
    return body + "\nPut your final answer inside <answer></answer> tags."


def _mailed(text: str, choices: Sequence[str]) -> str:
    return (
        "Hi team,\n\na customer sent us the question below and wants an answer by noon.\n\n"
        f"---\n{_plain(text, choices)}\n---\n\nBest regards,\nSam"
    )


def _overheard(text: str, choices: Sequence[str]) -> str:
    return f"Someone at the pub asked me: {_plain(text, choices)}\n\nNo idea, honestly. You?"


def _in_json(text: str, choices: Sequence[str]) -> str:
    return (
        f"{_plain(text, choices)}\n\n"
        'Return a JSON object with the keys "reasoning" and "answer", nothing else.'
    )


def _harness(text: str, choices: Sequence[str]) -> str:
    kind = "multiple choice questions (with answers)" if choices else "questions with answers"
    return (
        f"The following are {kind}. Think step by step.\n\nQuestion: {text}\n"
        + (f"Options:\n{_listed(choices, _upper)}\n" if choices else "")
        + "Answer: Let's think step by step."
    )


def _with_system_role(text: str, choices: Sequence[str]) -> Request:
    return [
        {"role": "system", "content": "You are Nova, the helper of an online school. Be kind."},
        {"role": "user", "content": _plain(text, choices)},
    ]


def _as_third_turn(text: str, choices: Sequence[str]) -> Request:
    return [
        {"role": "user", "content": "Which planet has the most moons?"},
        {"role": "assistant", "content": "Saturn."},
        {"role": "user", "content": _plain(text, choices)},
    ]


FOREIGN: Mapping[str, Callable[[str, Sequence[str]], Request]] = {
    "markdown sections": _markdown,
    "tags": _tagged,
    "mail": _mailed,
    "overheard": _overheard,
    "JSON wanted": _in_json,
    "harness, step by step": _harness,
    "system role": _with_system_role,
    "third turn": _as_third_turn,
}


# Written after the rules of `predict.wrapping` were last changed, and not looked at since: what
# is learned from `FOREIGN` may be fitted to it.


def _ticket(text: str, choices: Sequence[str]) -> str:
    return (
        "Ticket 4471, priority low\nSubject: question from a learner\n\n"
        f"{_plain(text, choices)}\n\nStatus: open"
    )


def _spoken(text: str, choices: Sequence[str]) -> str:
    return f"okay so um here goes. {_plain(text, choices)} that's it, that's the question"


def _graded(text: str, choices: Sequence[str]) -> str:
    return (
        f"{_plain(text, choices)}\n\nYou will be graded on correctness. Partial credit is possible."
    )


def _with_context(text: str, choices: Sequence[str]) -> str:
    return "Context: an evening course for adults, second term.\nAudience: beginners.\n\n" + _plain(
        text, choices
    )


def _quoted(text: str, choices: Sequence[str]) -> str:
    quoted = "\n".join([f"> {line}" for line in _plain(text, choices).split("\n")])
    return f"{quoted}\n\nCan anybody explain this one to me?"


def _quiz_show(text: str, choices: Sequence[str]) -> str:
    return (
        "Let's play a quiz show. I am the host and you are the contestant, and the room goes "
        f"quiet:\n\n{_plain(text, choices)}\n\nYour answer, please!"
    )


def _translated(text: str, choices: Sequence[str]) -> str:
    return f"(Translated from Danish, sorry for mistakes.)\n\n{_plain(text, choices)}\n\nMange tak!"


def _short(text: str, choices: Sequence[str]) -> str:
    return f"{_plain(text, choices)}\n\nKeep it under 100 words and use plain English."


FRESH: Mapping[str, Callable[[str, Sequence[str]], Request]] = {
    "ticket": _ticket,
    "spoken": _spoken,
    "graded": _graded,
    "with context": _with_context,
    "quoted": _quoted,
    "quiz show": _quiz_show,
    "translated": _translated,
    "short answer": _short,
}
UNKNOWN: Mapping[str, Callable[[str, Sequence[str]], Request]] = {**FOREIGN, **FRESH}
KINDS: Mapping[str, Sequence[str]] = {
    "19 templates": TEMPLATES,
    "foreign renderings": tuple(FOREIGN),
    "fresh renderings": tuple(FRESH),
}


# -- reading and comparing -------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Prompts of one data set; ``choices`` are empty for open questions."""

    name: str
    texts: tuple[str, ...]
    choices: tuple[tuple[str, ...], ...]

    def rendered(self, template: str, seed: int) -> list[Prompt]:
        """The prompts in one rendering, as a request is read."""
        pairs = zip(self.texts, self.choices, strict=True)
        if template in UNKNOWN:
            return [read_prompt(UNKNOWN[template](text, options)) for text, options in pairs]
        return [read_prompt(render(text, options, template, seed=seed)) for text, options in pairs]


@dataclass(frozen=True, kw_only=True, eq=False)
class Rendering:
    """What one rendering of a sample is read as: N prompts, M models, F features.

    Attributes:
        estimates: Of every model for each prompt.
        features: (N, F) embedding and structural features, standardised by the space.
        asks: The bare asks.
    """

    estimates: Estimates
    features: Float32Array
    asks: tuple[Ask, ...]


def sample(folder: Path, n: int, seed: int) -> Sample:
    """``n`` prompts of a data set, or all where it has fewer."""
    prompts = read_folder(folder).prompts
    rng = np.random.default_rng([seed, 51])
    at = np.sort(rng.permutation(len(prompts.texts))[:n])
    return Sample(
        name=folder.name,
        texts=tuple(prompts.texts[i] for i in at),
        choices=tuple(tuple(prompts.choices[i] or ()) for i in at),
    )


def read(router: Router, reader: FeatureReader, prompts: Sequence[Prompt]) -> Rendering:
    """Route prompts and keep what was read of them."""
    windows = [prompt.windows for prompt in prompts]
    return Rendering(
        estimates=router.estimates(prompts),
        features=router.space.predictor.standardise(reader.read(prompts)),
        asks=tuple(
            read_ask(w[0] if len(w) == 1 else f"{w[0]}\n{w[-1]}").canonical() for w in windows
        ),
    )


def chosen(estimates: Estimates, policy: str) -> IntArray:
    """(N,) column of the model that each prompt is sent to."""
    utility = choice.utilities(estimates, POLICIES[policy])
    everyone = np.arange(len(estimates.models))
    return np.array(
        [choice.best(estimates, i, row, everyone) for i, row in enumerate(utility)], dtype=np.int64
    )


def cost_aside(bare: Estimates, other: Estimates, policy: str) -> IntArray:
    """(N,) choices by the other rendering's P(correct) and the bare one's cost and latency."""
    utility = choice.utilities(bare, POLICIES[policy])
    gain = POLICIES[policy].value_of_correct_usd * (
        other.p_correct.astype(np.float64) - bare.p_correct
    )
    return np.asarray((utility + gain).argmax(axis=1))


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """One rendering beside the bare one: arrays over N prompts.

    Attributes:
        template: Its name.
        kept: By policy, whether the choice stayed.
        kept_cost_aside: The same under `balanced` with the bare rendering's tokens.
        moved: Change of P(correct) of the model that the bare rendering is sent to (balanced).
        pool: Mean |change of P(correct)| over the pool.
        regret_usd: By policy, utility lost by taking the other rendering's choice, judged by
            the bare one's estimates.
        causes: Why the reading differs, a word of `cause`.
        change: (N, F) change of the standardised features.
    """

    template: str
    kept: Mapping[str, BoolArray]
    kept_cost_aside: BoolArray
    moved: FloatArray
    pool: FloatArray
    regret_usd: Mapping[str, FloatArray]
    causes: tuple[str, ...]
    change: Float32Array

    @property
    def unstable(self) -> BoolArray:
        """(N,) prompts that miss the target: another choice by the reading, or P moved."""
        return ~self.kept_cost_aside | (np.abs(self.moved) > NEAR)


def cause(bare: Ask, other: Ask) -> str:
    """What of an ask is read differently."""
    if bare.text == other.text:
        return "same ask"
    if len(bare.options) != len(other.options):
        return "options lost" if len(other.options) < len(bare.options) else "options invented"
    if bare.options != other.options:
        return "options cut otherwise"
    if other.stem.endswith(bare.stem):
        return "wrapping left in front"
    if other.stem.startswith(bare.stem):
        return "wrapping left behind"
    if bare.stem in other.stem:
        return "wrapping left on both sides"
    if other.stem in bare.stem:
        return "part of the question dropped"
    return "stem otherwise"


def compare(template: str, bare: Rendering, other: Rendering) -> Comparison:
    """What another rendering changes."""
    rows = np.arange(len(bare.asks))
    first = {policy: chosen(bare.estimates, policy) for policy in CHOSEN_BY}
    second = {policy: chosen(other.estimates, policy) for policy in CHOSEN_BY}
    change = other.estimates.p_correct - bare.estimates.p_correct
    regret = {}
    for policy in CHOSEN_BY:
        utility = choice.utilities(bare.estimates, POLICIES[policy])
        regret[policy] = utility[rows, first[policy]] - utility[rows, second[policy]]
    return Comparison(
        template=template,
        kept={policy: first[policy] == second[policy] for policy in CHOSEN_BY},
        kept_cost_aside=first["balanced"]
        == cost_aside(bare.estimates, other.estimates, "balanced"),
        moved=change[rows, first["balanced"]],
        pool=np.abs(change).mean(axis=1),
        regret_usd=regret,
        causes=tuple(cause(a, b) for a, b in zip(bare.asks, other.asks, strict=True)),
        change=other.features - bare.features,
    )


def measure(
    router: Router, reader: FeatureReader, prompts: Sample, seed: int
) -> Iterator[Comparison]:
    """Every rendering of a sample beside its bare one."""
    bare = read(router, reader, prompts.rendered(BARE, seed))
    for template in (*TEMPLATES[1:], *UNKNOWN):
        yield compare(template, bare, read(router, reader, prompts.rendered(template, seed)))


# -- tables ----------------------------------------------------------------------------------------

HEADER = (
    "| rendering | choice: balanced | quality | cost | balanced, cost aside | P within .03 | "
    "pool within .03 | mean change of P | same ask |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


def _row(name: str, found: Sequence[Comparison]) -> str:
    def mean(values: Sequence[FloatArray | BoolArray]) -> float:
        return float(np.concatenate(values).mean())

    def share(value: float) -> str:
        text = f"{100 * value:.1f}%"
        return text if value >= TARGET else f"**{text}**"

    kept = [share(mean([c.kept[policy] for c in found])) for policy in CHOSEN_BY]
    return (
        f"| {name} | {' | '.join(kept)} | {share(mean([c.kept_cost_aside for c in found]))} | "
        f"{share(mean([np.abs(c.moved) <= NEAR for c in found]))} | "
        f"{share(mean([c.pool <= NEAR for c in found]))} | "
        f"{mean([np.abs(c.moved) for c in found]):.4f} | "
        f"{share(mean([np.array([w == 'same ask' for w in c.causes]) for c in found]))} |"
    )


def summary(measured: Mapping[str, Sequence[Comparison]]) -> list[str]:
    """One row per data set, known and foreign renderings apart."""
    lines = [HEADER]
    for title, names in KINDS.items():
        for dataset, found in measured.items():
            lines.append(_row(f"{dataset}, {title}", [c for c in found if c.template in names]))
        everything = [c for found in measured.values() for c in found if c.template in names]
        lines.append(_row(f"*all, {title}*", everything))
    return lines


def regrets(measured: Mapping[str, Sequence[Comparison]]) -> list[str]:
    """What a changed choice costs, judged by the bare rendering's own estimates."""
    lines = [
        "| data set | policy | changed choices | median regret | 95th percentile | worth |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for dataset, found in measured.items():
        known = [c for c in found if c.template in TEMPLATES]
        for policy in CHOSEN_BY:
            regret = np.concatenate([c.regret_usd[policy] for c in known])
            kept = np.concatenate([c.kept[policy] for c in known])
            lost = regret[~kept]
            worth = POLICIES[policy].value_of_correct_usd
            middle, far = np.quantile(lost, [0.5, 0.95]) / worth if len(lost) else (0.0, 0.0)
            lines.append(
                f"| {dataset} | {policy} | {100 * (~kept).mean():.1f}% | {middle:.4f} | "
                f"{far:.4f} | {regret.mean() / worth:.5f} |"
            )
    return lines


def causes(measured: Mapping[str, Sequence[Comparison]]) -> list[str]:
    """How unstable pairs of a prompt and a rendering came about, by data set."""
    lines = [
        "| data set | renderings | cause | share of pairs | of these unstable | mean change of P |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for title, names in KINDS.items():
        for dataset, found in measured.items():
            picked = [c for c in found if c.template in names]
            words = np.array([w for c in picked for w in c.causes])
            moved = np.abs(np.concatenate([c.moved for c in picked]))
            unstable = np.concatenate([c.unstable for c in picked])
            for word, count in Counter(words.tolist()).most_common():
                of = words == word
                lines.append(
                    f"| {dataset} | {title} | {word} | {100 * count / len(words):.2f}% | "
                    f"{100 * unstable[of].mean():.1f}% | {moved[of].mean():.4f} |"
                )
    return lines


def features_moved(measured: Mapping[str, Sequence[Comparison]], names: Sequence[str]) -> list[str]:
    """The features that change most in unstable pairs, for the worst renderings of each set."""
    lines = [
        "| data set | rendering | unstable | features (mean change in standard deviations) |",
        "| --- | --- | --- | --- |",
    ]
    for dataset, found in measured.items():
        worst = sorted(found, key=lambda c: -c.unstable.mean())[:MOST_NAMED]
        for comparison in worst:
            if not comparison.unstable.any():
                continue
            size = comparison.change[comparison.unstable].mean(axis=0)
            spread = np.abs(comparison.change[comparison.unstable]).mean(axis=0)
            order = np.argsort(-spread)
            told = [f"{names[j]} {size[j]:+.2f}" for j in order if names[j] != "embedding"]
            lines.append(
                f"| {dataset} | {comparison.template} | {100 * comparison.unstable.mean():.1f}% | "
                f"{', '.join(told[:MOST_NAMED])} |"
            )
    return lines


def page(
    measured: Mapping[str, Sequence[Comparison]], router: Router, n: int, names: Sequence[str]
) -> str:
    """The whole report in Markdown."""
    lines = [
        "## Stability under re-rendering",
        "",
        f"Printed by `python scripts/measure_stability.py --data DIR --prompts {n}` on "
        f"{datetime.date.today().isoformat()}: space {router.space.version}, "
        f"{len(router.models)} models, {n} prompts of each data set. Below the target of "
        f"{TARGET:.0%} in bold.",
        "",
        *summary(measured),
        "",
        "### What a changed choice costs",
        "",
        "Utility lost by the other rendering's choice under the bare rendering's own estimates, as "
        "a share of what a correct answer is worth to the policy (a loss of P(correct), that is); "
        "*worth* averages over all pairs, unchanged ones included.",
        "",
        *regrets(measured),
        "",
        "### Causes",
        "",
        *causes(measured),
        "",
        "### Features that move",
        "",
        *features_moved(measured, names),
    ]
    for dataset, found in measured.items():
        lines += ["", f"### {dataset}, by rendering", "", HEADER]
        lines += [_row(c.template, [c]) for c in found]
    return "\n".join(lines) + "\n"


def examples(prompts: Sample, found: Comparison, seed: int, n: int) -> Iterator[str]:
    """Texts of unstable pairs, for the eye alone: they are never written to a file."""
    worst = np.argsort(-np.abs(found.moved) - (~found.kept_cost_aside))[:n]
    for i in worst:
        one = Sample(name="", texts=(prompts.texts[i],), choices=(prompts.choices[i],))
        request = one.rendered(found.template, seed)[0]
        yield f"--- {found.template}: {found.causes[i]}, P moves by {found.moved[i]:+.3f}"
        yield f"{read_ask(request.windows[0]).core!r}\n"


def main() -> None:
    """Read the arguments, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the record folders")
    parser.add_argument("--prompts", type=int, default=1000, help="of each data set")
    parser.add_argument("--datasets", default=",".join(DATASETS))
    parser.add_argument("--seed", type=int, default=1, help="of the sample and of wordings")
    parser.add_argument("--space", type=Path, default=None, help="another space than the shipped")
    parser.add_argument("--out", type=Path, default=None, help="where to write the tables")
    parser.add_argument("--show", type=int, default=0, help="print so many of the worst readings")
    arguments = parser.parse_args()
    router = Router.load(arguments.space, profiles=())
    static = StaticEncoder.load()
    reader = FeatureReader(static)
    names = ["embedding"] * static.dim + list(FEATURE_NAMES)
    measured: dict[str, list[Comparison]] = {}
    for dataset in arguments.datasets.split(","):
        prompts = sample(arguments.data / dataset, arguments.prompts, arguments.seed)
        measured[dataset] = list(measure(router, reader, prompts, arguments.seed))
        for found in measured[dataset] if arguments.show else ():
            print("\n".join(examples(prompts, found, arguments.seed, arguments.show)))
    told = page(measured, router, arguments.prompts, names)
    print(told)
    if arguments.out is not None:
        arguments.out.write_text(told, encoding="utf-8")


if __name__ == "__main__":
    main()
