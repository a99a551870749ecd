"""What an onboarding tells: where it stands while it runs, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zerorouter.onboarding.design import Quote
from zerorouter.profiles import Profile, Step


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands.

    Attributes:
        n: Answers so far.
        total: Answers wanted; with adaptive choice the most.
        ability: General ability.
        ability_sd: Its standard error.
        predictive_sd: Standard error of P(correct).
        spent_usd: Dollars; None without a price.
        budget_usd: Dollars allowed; None for no limit.
        left_s: Seconds left at this pace; None before there is one.
    """

    n: int
    total: int
    ability: float
    ability_sd: float
    predictive_sd: float
    spent_usd: float | None
    budget_usd: float | None
    left_s: float | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Onboarding:
    """What came of it.

    Attributes:
        profile: The model's profile; saved, unless it was a dry run.
        step: How it was made; None for a dry run.
        quote: What asking was expected to cost; None where nothing was to be asked.
        spent_usd: What it cost, all earlier runs of the same journal included; None without a
            price.
        usd_per_1k_prompts: Expected dollars for 1,000 prompts; None without a price.
        rank: Place in the pool.
        pool_size: Models in it.
        covered: Anchors by domain.
        wide: Dimensions of which little was learned.
        stopped: Why asking ended.
        dropped: Prompts that were chosen and not asked, with the reason.
        failed: Prompts that were asked and brought nothing, with the reason.
        warnings: What looks wrong.
        notes: What a person should know.
        journal: Where the answers are.
        dry_run: Whether nothing was asked or kept.
    """

    profile: Profile
    step: Step | None
    quote: Quote | None
    spent_usd: float | None
    usd_per_1k_prompts: float | None
    rank: int
    pool_size: int
    covered: Mapping[str, int]
    wide: tuple[int, ...]
    stopped: str
    dropped: Mapping[str, str]
    failed: Mapping[str, str]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    journal: Path | None
    dry_run: bool = False

    @property
    def n_anchors(self) -> int:
        """Anchors whose answers count."""
        return sum(len(s.answers) for s in self.profile.sources if s.kind == "anchors")

    def to_dict(self) -> dict[str, Any]:
        """The JSON form of docs/onboarding.md."""
        profile, speed = self.profile, self.profile.speed
        told: dict[str, Any] = {
            "model": profile.name,
            "n_anchors": self.n_anchors,
            "spent_usd": _cents(self.spent_usd),
            "usd_per_1k_prompts": _cents(self.usd_per_1k_prompts),
            "ability": [round(float(x), 4) for x in profile.ability],
            "ability_sd": [round(float(x), 4) for x in profile.ability_sd],
            "expected_accuracy": {
                name: [round(x, 4) for x in values]
                for name, values in profile.expected_accuracy.items()
            },
            "ttft_s": None if speed is None else round(speed.ttft_s, 4),
            "tpot_s": None if speed is None else round(speed.tpot_s, 6),
            "rank_in_pool": self.rank,
            "pool_size": self.pool_size,
            "predictive_sd": round(profile.predictive_sd, 4),
            "probation": profile.probation,
            "domains_covered": dict(self.covered),
            "dimensions_wide": list(self.wide),
            "stopped": self.stopped,
            "dropped": dict(self.dropped),
            "failed": dict(self.failed),
            "warnings": list(self.warnings),
            "notes": list(self.notes),
            "quote": None if self.quote is None else _quote_dict(self.quote),
            "dry_run": self.dry_run,
            "provenance": {
                "space": profile.space_version,
                "date": profile.date,
                "journal": None if self.journal is None else str(self.journal),
                "sources": [
                    {"id": s.id, "kind": s.kind, "date": s.date, "n": s.n_answers, **s.facts}
                    for s in profile.sources
                ],
            },
        }
        if self.step is not None:
            placed = self.step.placement
            told["provenance"]["answers_to_calibrated_items"] = placed.n_calibrated
            told["provenance"]["answers_to_predicted_items"] = placed.n_predicted
        return told


def _quote_dict(quote_: Quote) -> dict[str, Any]:
    return {
        "calls": quote_.n,
        "usd": _cents(quote_.usd),
        "usd_low": _cents(quote_.usd_low),
        "usd_high": _cents(quote_.usd_high),
        "worst_usd": _cents(quote_.worst_usd),
    }


def _cents(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
