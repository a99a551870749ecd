from __future__ import annotations

import pytest

from zerorouter.predict.domains import DOMAINS, domain_of_task


@pytest.mark.parametrize(
    ("task", "domain"),
    [
        ("mmlu-pro/computer science", "code"),
        ("cruxeval/output", "code"),
        ("zeroeval/gsm", "mathematics"),
        ("zeroeval/math-l5", "mathematics"),
        ("mmlu-pro/Physics", "science"),
        ("mmlu-pro/law", "law"),
        ("mmlu-pro/health", "health"),
        ("mmlu-pro/economics", "business"),
        ("mmlu-pro/philosophy", "humanities"),
        ("mmlu-pro/psychology", "social science"),
        ("rg_spell_backward", "puzzles"),
        ("rg_basic_arithmetic", "mathematics"),
        ("alpaca-eval", "chat"),
        ("bfcl/live_multiple", "tool use"),
        ("mmlu-pro/other", "general"),
        ("", "general"),
    ],
)
def test_task_names_fall_into_a_domain(task, domain):
    assert domain_of_task(task) == domain
    assert domain in DOMAINS


def test_every_domain_says_what_it_holds():
    assert all(len(words) > 10 for words in DOMAINS.values())
    assert len(DOMAINS) <= 16  # a small set
