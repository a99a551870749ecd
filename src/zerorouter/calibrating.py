"""`calibrate`: folders of evaluation records in, a latent space out."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zerorouter.artifacts import require_place
from zerorouter.data.importing import data_digest
from zerorouter.data.reading import read_folders
from zerorouter.fitting import FittingSettings, Report, fit_space, with_version
from zerorouter.linking import load_aliases, respondent_cards
from zerorouter.predict.encoders import Encoder
from zerorouter.space import FORMAT, LatentSpace


def calibrate(
    folders: Sequence[str | Path],
    *,
    out: str | Path | None = None,
    settings: FittingSettings | None = None,
    encoder: Encoder | None = None,
    date: str | None = None,
    facts: Mapping[str, Any] | None = None,
    report: Report | None = None,
) -> LatentSpace:
    """Fit a latent space to folders of evaluation records.

    Args:
        folders: Folders in the format of ``docs/data.md``, one per data set.
        out: Where to save the space; None to keep it in memory.
        settings: How to fit.
        encoder: Another encoder than the packaged static one.
        date: Date of the space's version, by default today.
        facts: Further provenance, such as attributions.
        report: Called with the stage and the share done.

    Raises:
        DataError: the records break their format.
        CalibrationError: they cannot carry a fit.
        ArtifactError: the space cannot be written.
    """
    paths = [Path(folder) for folder in folders]
    if out is not None:
        require_place(Path(out), format_name=FORMAT)
    if report:
        report("reading records", 0.0)
    matrix = read_folders(paths, aliases=load_aliases())
    provenance = {
        **(facts or {}),
        "data": {path.resolve().name: data_digest(path) for path in paths},
        "reading": str(matrix.report),
    }
    space = fit_space(
        matrix,
        cards=respondent_cards(),
        settings=settings,
        encoder=encoder,
        provenance=provenance,
        report=report,
    )
    stamped = with_version(space, date or datetime.date.today().isoformat())
    if out is not None:
        stamped.save(Path(out))
    return stamped
