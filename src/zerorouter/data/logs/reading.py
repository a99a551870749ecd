"""Evaluation logs in, one table of answers out."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias

from zerorouter.data.logs import helm, inspect, llmrouterbench, lm_eval, own, wide
from zerorouter.data.logs.detecting import SOURCES, Format, Log, find_logs
from zerorouter.data.logs.options import LogOptions
from zerorouter.data.logs.records import Gathering, LoggedAnswer, LoggedAnswers, Notes
from zerorouter.data.tables import fault
from zerorouter.errors import DataError, UnknownNameError

Reader: TypeAlias = Callable[[Path, Notes, LogOptions], Iterator[LoggedAnswer]]

READERS: Final[Mapping[Format, Reader]] = {
    "lm-eval": lm_eval.read,
    "helm": helm.read,
    "inspect": inspect.read,
    "wide": wide.read,
    "llmrouterbench": llmrouterbench.read,
    "folder": own.read,
}
"""How each format is read."""


def read_logs(
    paths: Sequence[str | os.PathLike[str]],
    *,
    source: str | None = None,
    model: str | None = None,
    metric: str | None = None,
    filter: str | None = None,
) -> LoggedAnswers:
    """Read evaluation logs of one or several respondents.

    Logs are read one after the other, sample by sample; of each answer only numbers are kept, and
    of each question its text once.

    Args:
        paths: Logs, or folders of them, in any mixture of formats.
        source: One of `SOURCES`: the format that is expected; None takes every known one.
        model: Names the respondent of logs that name none.
        metric: The metric to take for the score, in place of the reviewed order (docs/logs.md).
        filter: The lm-eval filter to take.

    Raises:
        DataError: A log is damaged, of another format than ``source``, lacks what was asked for,
            or nothing in it has a score. The message names file and line.
        UnknownNameError: There is no such source.
        MissingExtraError: A log needs a package that is not installed.
    """
    if isinstance(paths, str | os.PathLike):
        raise DataError(f"found one path, {os.fspath(paths)!r}; wanted a list of logs")
    if source is not None and source not in SOURCES:
        raise UnknownNameError("source", source, SOURCES)
    options = LogOptions(model=model, metric=metric, filter=filter)
    gathering = Gathering()
    for path in paths:
        n_logs = 0
        for log in find_logs(path, gathering.notes):
            if source is not None and log.format not in SOURCES[source]:
                if Path(path) == log.path:
                    raise _other_format(log, source)
                gathering.notes.add("ignored_files", log.path, detail=f"format {log.format}")
                continue
            n_logs += 1
            before = len(gathering)
            with _uncollected():
                for answer in READERS[log.format](log.path, gathering.notes, options):
                    gathering.add(answer)
            gathering.file(log.path, log.format, len(gathering) - before)
        if not n_logs:
            raise fault(
                Path(path),
                found="no evaluation log" if source is None else f"no log of the format {source}",
                wanted="lm-eval samples, a HELM run, an Inspect log, a wide table, or a folder "
                "with prompts and responses",
                todo="check the path; docs/logs.md shows what each format looks like",
            )
    return gathering.finish()


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the cycle collector off one log: what is read holds no cycles.

    It would walk over all questions again and again, a tenth of the time of a large log.
    """
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


def _other_format(log: Log, source: str) -> DataError:
    known = next(name for name, formats in SOURCES.items() if log.format in formats)
    return fault(
        log.path,
        found=f"a log of the format {known}",
        wanted=f"one of the format {source}",
        todo=f"import it as {known}",
    )
