"""An agent hands over its subtasks with one budget and gets a model for each.

    python examples/agent_subtasks.py [--budget 0.02]

Two jobs share the budget: a release note and a bug fix, worth twice as much. A job succeeds only if
all of its subtasks do, so a dollar is spent where it multiplies a job's chance most. For
comparison the same budget is shared out to the most correct answers, subtask by subtask. Runs
offline on the space that ships with the package.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

from zerorouter import Router
from zerorouter.routing.assignment.assigning import assign
from zerorouter.routing.assignment.jobs import JobAssignment, Jobs, assign_jobs
from zerorouter.routing.assignment.offers import Bounds, Offers


@dataclass(frozen=True, kw_only=True)
class Subtask:
    """One step of a job."""

    job: str
    ask: str


SUBTASKS = (
    Subtask(job="release note", ask="List the user-visible changes in this diff: " + "+ x\n" * 60),
    Subtask(job="release note", ask="Summarise these changes in three plain sentences."),
    Subtask(job="release note", ask="Translate the summary into German and keep the code names."),
    Subtask(
        job="bug fix",
        ask="def mean(xs):\n    return sum(xs) / len(xs)\n\nWhich inputs make it fail, and why?",
    ),
    Subtask(
        job="bug fix",
        ask="Rewrite mean so that an empty list gives None, and prove that it terminates.",
    ),
    Subtask(job="bug fix", ask="Write pytest tests for mean: empty, one value, NaN, huge values."),
    Subtask(job="bug fix", ask="What is mean([3, 5, 10, 2])? Answer with the number."),
)
WORTH = {"release note": 1.0, "bug fix": 2.0}


def plan(router: Router, subtasks: tuple[Subtask, ...], budget_usd: float) -> JobAssignment:
    """The models that make the jobs most likely to succeed, for at most the budget."""
    offers = router.offers([task.ask for task in subtasks]).narrowed()
    jobs = Jobs.of([task.job for task in subtasks], WORTH)
    return assign_jobs(offers, jobs, budget_usd=budget_usd)


def worth_of(offers: Offers, jobs: Jobs, choice: np.ndarray) -> float:
    """The expected worth of the jobs that succeed under a choice."""
    p = np.asarray(offers.p_correct, dtype=np.float64)[np.arange(len(choice)), choice]
    success = np.exp(np.bincount(jobs.job, np.log(p), minlength=len(jobs.names)))
    return float(jobs.weight @ success)


def main() -> None:
    """Print the plan."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--budget", type=float, default=0.02, metavar="USD")
    budget = parser.parse_args().budget
    router = Router.load()
    found = plan(router, SUBTASKS, budget)
    totals = found.assignment.totals
    for task, row in zip(SUBTASKS, found.assignment.rows(), strict=True):
        ask = task.ask.splitlines()[0][:44]
        print(f"{task.job:<13} {row.model:<32} {row.p_correct:>4.0%}  ${row.cost_usd:.5f}  {ask}")
    print()
    for name, chance, usd in zip(found.jobs.names, found.success, found.spend_usd, strict=True):
        print(f"{name!s:<13} succeeds with {chance:.0%} for ${usd:.5f}")
    proof = "proven best" if totals.exact else f"within {totals.gap:.1%} of the best"
    print(f"expected worth {totals.objective:.3f} for ${totals.spend_usd:.5f}, {proof}")
    offers = router.offers([task.ask for task in SUBTASKS]).narrowed()
    apart = assign(offers, Bounds(budget_usd=budget))
    print(
        f"subtask by subtask the same budget would be worth "
        f"{worth_of(offers, found.jobs, apart.choice):.3f}"
    )


if __name__ == "__main__":
    main()
