from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from simulated_records import toy_router
from zerorouter.errors import InfeasibleError

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda p: p.name)
def test_every_example_runs_offline_and_says_something(path):
    done = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_an_agents_plan_keeps_its_budget_and_beats_subtask_by_subtask():
    example = runpy.run_path(str(EXAMPLES / "agent_subtasks.py"))
    router, tasks = toy_router(), example["SUBTASKS"]
    offers = router.offers([task.ask for task in tasks])
    least = float(offers.cost_usd.min(axis=1).sum())
    found = example["plan"](router, tasks, 6 * least)
    assert found.assignment.totals.spend_usd <= 6 * least
    assert found.assignment.totals.exact
    apart = router.assign([task.ask for task in tasks], budget_usd=6 * least)
    by_subtask = example["worth_of"](offers, found.jobs, apart.choice)
    assert found.assignment.totals.objective >= by_subtask
    with pytest.raises(InfeasibleError, match=re.escape("budget_usd of at least")):
        example["plan"](router, tasks, least / 2)
