from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from simulated_records import toy_router
from zerorouter import Router
from zerorouter.errors import InfeasibleError

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
PAGES = ("assign", "cascade", "pacing", "policies")
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


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


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_a_page_run_one_after_the_other(page, capsys):
    path = ROOT / "docs" / f"{page}.md"
    names: dict[str, object] = {"__name__": f"docs_{page}"}
    blocks = _BLOCK.findall(path.read_text(encoding="utf-8"))
    assert blocks
    for block in blocks:
        exec(compile(block, str(path), "exec"), names)  # our own page
    capsys.readouterr()


def test_screening_sends_only_what_is_flagged_to_the_strong_model():
    example = runpy.run_path(str(EXAMPLES / "media_screening.py"))
    found = example["screened"](Router.load(), 0.02)
    for row, (plan, came) in enumerate(found):
        assert (plan.first, plan.second) == (example["LIGHT"], example["STRONG"])
        assert came.escalated == (row in example["LIGHT_FLAGS"])
        verdict = json.loads(came.answer.text)["suspicious"]
        assert verdict == (row in example["TRULY_SUSPICIOUS"])
        assert plan.utility > plan.direct.utility


def test_screening_is_not_worth_it_where_a_verdict_is_worth_nothing():
    example = runpy.run_path(str(EXAMPLES / "media_screening.py"))
    plan = example["plan_for"](Router.load(), example["DESCRIPTIONS"][0], 1e-6)
    assert not plan.is_cascade


@pytest.mark.parametrize("budget", [0.02, 0.15])
def test_a_paced_budget_is_kept_on_both_days(budget):
    example = runpy.run_path(str(EXAMPLES / "paced_budget.py"))
    _, days = example["replay"](Router.load(), budget)
    for day in days:
        assert day.spent_usd <= budget * 1.01  # a last bill may exceed its reserve
        assert day.spent_usd > 0.9 * budget
    assert days[0].refused == 0
    assert days[1].refused <= 0.02 * days[1].requests
