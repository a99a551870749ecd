"""Does it eliminate benchmarking, or merely reduce it? A table and one sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from zerorouter.evaluation.rows import Row

POLICY = "balanced"
OURS = "zerorouter"
COMPARED = (OURS, "zerorouter_scores", "knn")


def benchmarking_avoided(rows: Sequence[Row]) -> Iterator[Row]:
    """One sentence per data set and onboarding split, from the regret rows.

    The least number of labels from which on the regret against full labels, under the balanced
    policy, is no longer above zero at 95%.
    """
    regret = [
        row for row in rows if row.metric == "regret" and row.policy == POLICY and row.seed is None
    ]
    for dataset, split in dict.fromkeys((row.dataset, row.split) for row in regret):
        told = []
        for method in COMPARED:
            found = sorted(
                (
                    row
                    for row in regret
                    if (row.dataset, row.split, row.method) == (dataset, split, method)
                    and row.n_anchors is not None
                ),
                key=lambda row: row.n_anchors or 0,
            )
            if found:
                told.append(f"{method} {_words(found)}")
        if told:
            yield Row(
                dataset=dataset,
                split=split,
                method=OURS,
                metric="verdict",
                policy=POLICY,
                value=None,
                note=f"{'; '.join(told)}.",
            )


def _words(found: Sequence[Row]) -> str:
    """What the regret of one method says, by rising numbers of labels."""
    enough = None
    for row in reversed(found):
        if row.ci_low is not None and row.ci_low > 0:
            break
        enough = row
    zero = found[0]
    cost = f"${1000 * (zero.value or 0.0):.2f} per 1,000 prompts at n={zero.n_anchors}"
    if enough is None:
        return (
            f"still loses measurably against itself with full labels at n={found[-1].n_anchors} "
            f"(regret {cost}): benchmarking is reduced, not eliminated"
        )
    if enough is zero:
        return f"loses nothing measurable with no label at all (regret {cost})"
    return (
        f"needs {enough.n_anchors} labels to lose nothing measurable against itself with full "
        f"labels (regret {cost}): benchmarking is reduced, not eliminated"
    )
