"""``zerorouter calibrate``: fit a latent space to evaluation records."""

from __future__ import annotations

from pathlib import Path

import click

from zerorouter.cli.common import json_option, print_json, progress, say, typed_errors


@click.command("calibrate")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Where to."
)
@click.option(
    "--dims",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    metavar="K",
    help="Latent dimensions.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Seed of templates, folds, centroids.",
)
@click.option(
    "--preference",
    multiple=True,
    metavar="NAME",
    help="Data set whose scores are preferences, not correctness (repeatable).",
)
@json_option
@typed_errors
def command(
    folders: tuple[Path, ...],
    out: Path,
    dims: int,
    seed: int,
    preference: tuple[str, ...],
    as_json: bool,
) -> None:
    """Fit a latent space to folders of evaluation records and save it.

    The folders are in the project's data format (docs/data.md), one per data set. The space
    can then be used with --space or ZEROROUTER_SPACE.
    """
    from zerorouter.calibrating import calibrate
    from zerorouter.fitting import FittingSettings

    settings = FittingSettings(n_dims=dims, seed=seed, preference_datasets=frozenset(preference))
    with progress(quiet=as_json) as tell:
        space = calibrate(folders, out=out, settings=settings, report=tell)
    facts = space.provenance["fit"]
    summary = {
        "space": str(out),
        "version": space.version,
        "n_dims": space.n_dims,
        "n_respondents": facts["n_respondents"],
        "n_items": facts["n_items"],
        "n_responses": facts["n_responses"],
        "status": facts["status"],
        "held_out_log_loss": facts["cross_fit"]["log_loss"],
        "linkage": facts["linkage"],
    }
    if as_json:
        print_json(summary)
        return
    for key, value in summary.items():
        say(f"{key:18s} {value}")
    if not space.models:
        say(
            "note: models.csv of the records has no prices, so that only respondents which the "
            "catalog knows can be routed to",
            err=True,
        )
    say(f'try: zerorouter route "..." --space {out}')
