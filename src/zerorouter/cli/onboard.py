"""``zerorouter onboard``: take a new model into the pool."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zerorouter.cli.common import print_json, router_options, say, typed_errors

if TYPE_CHECKING:
    from zerorouter.asking.job import Design, Onboarding, Progress
    from zerorouter.catalog import ModelSpec
    from zerorouter.onboarding.design import Quote
    from zerorouter.profiles import ProfileStore


@click.command("onboard")
@click.argument("name")
@click.argument("more", nargs=-1, metavar="[PATH]...")
@click.option("--base-url", metavar="URL", help="OpenAI-compatible endpoint to ask.")
@click.option("--api-key-env", metavar="VAR", help="Environment variable that holds its key.")
@click.option("--upstream-model", metavar="NAME", help="The model's name there (default: NAME).")
@click.option(
    "--anchors", type=click.IntRange(1), metavar="N", help="Prompts to ask (default: 50)."
)
@click.option("--adaptive", is_flag=True, help="Ask until enough is known, at most --anchors.")
@click.option(
    "--target-sd",
    type=float,
    metavar="SD",
    help="Standard error of P(correct) that is enough for --adaptive (default: 0.05).",
)
@click.option(
    "--strategy",
    type=click.Choice(["i_optimal", "d_optimal", "stratified", "random"]),
    default="i_optimal",
    help="How prompts are chosen (default: i_optimal).",
)
@click.option(
    "--anchor-set",
    type=click.Choice(["published", "fresh", "mixed"]),
    default="published",
    help="Generated prompts: calibrated ones, ones nobody has seen, or both.",
)
@click.option("--data", type=click.Path(path_type=Path), metavar="DIR", help="Prompts of your own.")
@click.option(
    "--grader",
    default="auto",
    metavar="NAME",
    help="For --data: auto, exact, choice, number, contains, regex, json, tolerance=T, "
    "python=MODULE:FUNCTION.",
)
@click.option(
    "--from-logs",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="PATH...",
    help="Evaluation logs; nothing is asked.",
)
@click.option("--log-model", metavar="NAME", help="Whose answers, where logs hold several models'.")
@click.option("--from-scores", metavar="BENCHMARK=SCORE,...", help="Published scores, 0 to 1.")
@click.option("--family", metavar="NAME", help="The line it belongs to.")
@click.option("--params-b", type=float, metavar="B", help="Billions of parameters.")
@click.option("--released", metavar="YYYY[-MM[-DD]]", help="Release date.")
@click.option("--reasoning", is_flag=True, help="It thinks before it answers.")
@click.option("--price-in", type=float, metavar="USD", help="USD per million input tokens.")
@click.option("--price-out", type=float, metavar="USD", help="USD per million output tokens.")
@click.option("--budget", type=float, metavar="USD", help="Never spend more than this.")
@click.option("--max-tokens", type=click.IntRange(1), metavar="N", help="Longest answer asked for.")
@click.option("--concurrency", type=click.IntRange(1, 256), default=8, metavar="N", help="At once.")
@click.option("--rpm", type=float, metavar="N", help="Requests per minute at most.")
@click.option("--timeout", type=float, default=300.0, metavar="S", help="Longest request.")
@click.option(
    "--retries", type=click.IntRange(0, 20), default=3, metavar="N", help="After failures."
)
@click.option("--seed", type=int, default=0, metavar="N", help="Of everything that is drawn.")
@click.option("--fresh", is_flag=True, help="Ask anew; earlier answers are put aside.")
@click.option("--dry-run", is_flag=True, help="Plan and quote; ask and keep nothing.")
@click.option("--yes", is_flag=True, help="Do not ask before spending.")
@click.option("--remove", is_flag=True, help="Remove the profile of NAME.")
@router_options
@typed_errors
def command(name: str, **options: Any) -> None:
    """Take the model NAME into the pool.

    Ask it prompts over HTTP (--base-url), import evaluation logs (--from-logs), or tell
    published scores (--from-scores) and its card; all three add up. The result is a
    profile that the router uses at once.
    """
    as_json = bool(options["as_json"])
    if options["remove"]:
        _remove(name, as_json)
        return
    if options["more"] and not options["from_logs"]:
        raise click.UsageError(f"unexpected argument {options['more'][0]!r}")
    if (options["price_in"] is None) != (options["price_out"] is None):
        raise click.UsageError("--price-in and --price-out go together")
    result = _onboard(name, options)
    if as_json:
        print_json(result.to_dict())
    else:
        _show(result)


def _onboard(name: str, options: dict[str, Any]) -> Onboarding:
    from zerorouter.asking.job import Design, onboard
    from zerorouter.config import load_config
    from zerorouter.errors import ZeroRouterError
    from zerorouter.profiles import ProfileStore

    config = load_config(options["config_path"])
    space = options["space"] or config.space
    store = ProfileStore.default()
    card = _card(name, options, store)
    scores = _scores(options["from_scores"])
    logs = [*options["from_logs"], *map(Path, options["more"])]
    evidence = []
    notes: list[str] = []
    if logs:
        source, told = _logs(logs, space, options["log_model"], options["as_json"])
        evidence.append(source)
        notes += told
    design = Design(
        n=options["anchors"] or (100 if options["adaptive"] else 50),
        adaptive=options["adaptive"],
        strategy=options["strategy"],
        anchor_set=options["anchor_set"],
        data=options["data"],
        grader=options["grader"],
        seed=options["seed"],
        **({} if options["target_sd"] is None else {"target_sd": options["target_sd"]}),
    )
    with _progress(quiet=options["as_json"]) as on_progress:
        try:
            return onboard(
                name,
                base_url=options["base_url"],
                api_key_env=options["api_key_env"],
                upstream_model=options["upstream_model"],
                card=card,
                price=config.prices.get(name) if card is None or card.price is None else None,
                design=design,
                evidence=evidence,
                scores=scores,
                max_tokens=options["max_tokens"],
                budget_usd=options["budget"],
                concurrency=options["concurrency"],
                requests_per_minute=options["rpm"],
                timeout_s=options["timeout"],
                retries=options["retries"],
                space=space,
                fresh=options["fresh"],
                dry_run=options["dry_run"],
                on_quote=_confirm(options),
                on_progress=on_progress,
                notes=notes,
            )
        except KeyboardInterrupt:
            raise ZeroRouterError(
                "interrupted; answers that came are kept: the same command goes on from there"
            ) from None


def _card(name: str, options: dict[str, Any], store: ProfileStore) -> ModelSpec | None:
    """What the options tell of the model, over what was known; None where they tell nothing."""
    from dataclasses import replace

    from zerorouter.catalog import Catalog, ModelSpec
    from zerorouter.prices import Price

    told = {
        key: options[key] for key in ("family", "params_b", "released") if options[key] is not None
    }
    if options["reasoning"]:
        told["reasoning"] = True
    if told.get("released") and len(told["released"]) == 4:
        told["released"] = f"{told['released']}-07"  # the middle of the year
    if options["price_in"] is not None:
        told["price"] = Price(
            input_usd_per_mtok=options["price_in"],
            output_usd_per_mtok=options["price_out"],
            kind="user",
        )
    if not told:
        return None
    earlier = store.find(name)
    catalog = Catalog.load()
    known = earlier.card if earlier else catalog.get(name) if name in catalog else None
    return replace(known or ModelSpec(name=name), **told)


def _scores(text: str | None) -> list[tuple[str, float]]:
    """Benchmarks and scores as they were written, for `reported_sources` to judge."""
    found = []
    for part in filter(None, map(str.strip, (text or "").split(","))):
        benchmark, _, value = part.partition("=")
        try:
            found.append((benchmark.strip(), float(value)))
        except ValueError:
            share = value.strip().removesuffix("%")
            hint = ""
            if share != value.strip() and share.replace(".", "", 1).isdigit():
                hint = f"; did you mean {benchmark.strip()}={float(share) / 100:g}?"
            raise click.UsageError(
                f"--from-scores {part!r}; wanted BENCHMARK=SCORE with a score from 0 to 1{hint}"
            ) from None
    return found


def _logs(
    paths: list[Path], space: Path | None, model: str | None, quiet: bool
) -> tuple[Any, list[str]]:
    """Evidence from logs, and what to tell of it."""
    import datetime

    from zerorouter.asking.imported import import_evidence
    from zerorouter.router import load_space

    began = time.perf_counter()
    imported = import_evidence(
        paths, load_space(space), date=datetime.date.today().isoformat(), respondent=model
    )
    if not quiet:
        click.echo(
            f"logs of {imported.respondent}: {imported.n_calibrated:,} answers to calibrated "
            f"prompts, {imported.n_predicted:,} to others ({time.perf_counter() - began:.1f} s)",
            err=True,
        )
    return imported.source, list(imported.notes)


def _confirm(options: dict[str, Any]) -> Callable[[Quote, Design], None]:
    """Tell the price; ask a person at a terminal who set no budget."""

    def told(quote: Quote, design: Design) -> None:
        if not options["as_json"]:
            click.echo(f"{_quoted(quote, design)}", err=True)
        person = sys.stdin.isatty() and sys.stderr.isatty()
        if quote.n and person and not (options["yes"] or options["budget"] or options["as_json"]):
            click.confirm("Go on?", default=True, abort=True, err=True)

    return told


def _quoted(quote: Quote, design: Design) -> str:
    most = "up to " if design.adaptive else ""
    if quote.usd is None:
        return f"{most}{quote.n} prompts; what they cost is not known without a price"
    return (
        f"{most}{quote.n} prompts for about {_usd(quote.usd)} (90%: {_usd(quote.usd_low)} to "
        f"{_usd(quote.usd_high)}; at the very most {_usd(quote.worst_usd)})"
    )


def _usd(value: float | None) -> str:
    if value is None:
        return "?"
    return f"${value:.2f}" if value >= 1 else f"${value:.4f}"


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """Live on a terminal, a line now and then in a pipe, nothing beside JSON."""
    if quiet:
        yield lambda _: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        live = Live(console=Console(stderr=True), transient=True, refresh_per_second=8)

        def show(progress: Progress) -> None:
            if not live.is_started:  # not before: a question may be asked at the terminal
                live.start()
            live.update(Text(_line(progress)))

        try:
            yield show
        finally:
            live.stop()
    else:
        last = [time.monotonic()]

        def tell(progress: Progress) -> None:
            if progress.n == progress.total or time.monotonic() - last[0] > 5:
                last[0] = time.monotonic()
                click.echo(_line(progress), err=True)

        yield tell


def _line(p: Progress) -> str:
    parts = [
        f"{p.n} of {p.total} answers",
        f"ability {p.ability:+.2f} ± {1.645 * p.ability_sd:.2f}",
        f"P(correct) ± {1.645 * p.predictive_sd:.3f}",
    ]
    if p.spent_usd is not None:
        limit = "" if p.budget_usd is None else f" of {_usd(p.budget_usd)}"
        parts.append(f"{_usd(p.spent_usd)}{limit} spent")
    if p.left_s is not None and p.n < p.total:
        parts.append(f"{p.left_s:.0f} s left")
    return " · ".join(parts)


def _remove(name: str, as_json: bool) -> None:
    from zerorouter.profiles import ProfileStore

    ProfileStore.default().remove(name)
    if as_json:
        print_json({"removed": name})
    else:
        say(f"the profile of {name} is removed; answers on record stay in the runs folder")


def _show(result: Onboarding) -> None:
    from zerorouter.cli.tables import Column, bar, show

    profile = result.profile
    if result.dry_run:
        say(f"{profile.name}: a dry run", bold=True)
        if result.quote is not None and result.quote.usd is not None:
            quote = result.quote
            say(
                f"{quote.n} prompts for about {_usd(quote.usd)} (90%: {_usd(quote.usd_low)} to "
                f"{_usd(quote.usd_high)}; at the very most {_usd(quote.worst_usd)})"
            )
        elif result.quote is not None:
            say(f"{result.quote.n} prompts; what they cost is not known without a price")
        return
    n_scores = sum(source.n_scores for source in profile.sources)
    counted = f"{profile.n_answers} answers" if profile.n_answers else "its card"
    if n_scores:
        counted += f" and {n_scores} published score{'' if n_scores == 1 else 's'}"
    elif not profile.n_answers:
        counted += " alone"
    say(f"{profile.name}: placed by {counted}; {result.stopped}", bold=True)
    labels = ["general", *[f"specific {k}" for k in range(1, len(profile.ability))]]
    sds = profile.ability_sd
    show(
        [
            Column("ability", labels),
            Column(
                "90%",
                [f"{m:+.2f} ± {1.645 * s:.2f}" for m, s in zip(profile.ability, sds, strict=True)],
                right=True,
            ),
            Column(
                "",
                [
                    bar(float(m), float(s), -3.0, 3.0)
                    for m, s in zip(profile.ability, sds, strict=True)
                ],
                rank=1,
            ),
        ]
    )
    click.echo()
    kinds = sorted(profile.expected_accuracy.items(), key=lambda pair: -pair[1][0])
    show(
        [
            Column("prompts", [name for name, _ in kinds]),
            Column("expected accuracy", [f"{v[0]:.0%}" for _, v in kinds], right=True),
            Column("90%", [f"{v[1]:.0%} to {v[2]:.0%}" for _, v in kinds], right=True),
            Column(
                "anchors",
                [str(result.covered.get(name, "")) for name, _ in kinds],
                rank=1,
                right=True,
            ),
        ]
    )
    click.echo()
    for line in _facts(result):
        say(line)
    for warning in result.warnings:
        say(f"warning: {warning}", fg="yellow")


def _facts(result: Onboarding) -> list[str]:
    profile = result.profile
    lines = [f"rank {result.rank} of {result.pool_size} in the pool, by expected accuracy"]
    if result.wide:
        named = ", ".join("general" if k == 0 else f"specific {k}" for k in result.wide)
        lines.append(f"little was learned of the dimensions: {named}; these stay wide")
    if result.covered:
        lines.append(
            "anchors by domain: " + ", ".join(f"{name} {n}" for name, n in result.covered.items())
        )
    if result.spent_usd is not None and result.journal is not None:
        lines.append(f"spent {_usd(result.spent_usd)}")
    if result.usd_per_1k_prompts is not None:
        lines.append(f"1,000 prompts will cost about {_usd(result.usd_per_1k_prompts)}")
    if profile.speed is not None:
        lines.append(
            f"first token after {profile.speed.ttft_s:.2f} s, then "
            f"{1 / max(profile.speed.tpot_s, 1e-6):.0f} tokens/s"
        )
    if profile.probation:
        lines.append(
            f"on probation: P(correct) is known to within {profile.predictive_sd:.3f}; it is "
            "chosen on a lower confidence bound until more is known"
        )
    for ref, reason in list(result.dropped.items())[:3]:
        lines.append(f"dropped {ref}: {reason}")
    if len(result.dropped) > 3:
        lines.append(f"and {len(result.dropped) - 3} more dropped")
    for ref, reason in list(result.failed.items())[:3]:
        lines.append(f"no answer to {ref}: {reason}")
    if len(result.failed) > 3:
        lines.append(f"and {len(result.failed) - 3} more without an answer")
    return [*lines, *result.notes]
