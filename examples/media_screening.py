"""A light model screens media descriptions; only what it flags goes to a strong one.

    python examples/media_screening.py [--worth 0.02]

The light model answers with JSON, and the signal is one of its fields. How far the screen can be
trusted was counted on a hundred descriptions that people had judged before. The router decides
for each description whether screening first beats asking one model, given what a right verdict is
worth. Runs offline on the space that ships with the package: the two models are played by
`played`, which you would replace by calls to your own.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import partial

from zerorouter import Policy, Router
from zerorouter.routing.cascade import Followed, OfferedSignal, Plan, follow
from zerorouter.routing.signals import Answer, JsonSignal, QualityRecord

LIGHT, STRONG = "gpt-4o-mini-2024-07-18", "grok-3-mini"
ASK = (
    "Does this description of a video look suspicious: weapons or stolen goods for sale, fraud, "
    'threats? Answer with JSON {"suspicious": true or false, "why": "..."}.\n\n'
)
# What the light model said of descriptions that people had judged: of 12 suspicious ones it
# flagged 11, of 88 harmless ones 9. Right verdicts are flags on the former, passes on the latter.
JUDGED = QualityRecord(right_fired=11, wrong_silent=1, wrong_fired=9, right_silent=79)
DESCRIPTIONS = (
    "A grandmother kneads bread dough while a radio plays in the background.",
    "Forty phones without packaging, 'no questions asked', cash only, pick-up at night.",
    "A drone flies along the coast at sunset.",
    "How to sharpen a kitchen knife on a wet stone, filmed from above.",
    "A man counts banknotes and explains how to double any deposit within two days.",
    "Two children build a tower of wooden blocks; it falls, they laugh.",
    "A locksmith opens a lock that a viewer has sent in, with tools laid out on a table.",
    "Highlights of a village football match in the rain.",
)
TRULY_SUSPICIOUS = (1, 4)
LIGHT_FLAGS = (1, 3, 4)  # the kitchen knife is a false alarm


def signal() -> OfferedSignal:
    """Fires where the light model says so, or gives no readable answer."""
    return OfferedSignal(
        signal=JsonSignal(path="suspicious", comparison="==", value=True, name="suspicious"),
        quality={LIGHT: JUDGED.quality},
    )


def plan_for(router: Router, description: str, worth_usd: float) -> Plan:
    """One model, or the light one and then the strong one."""
    policy = Policy(value_of_correct_usd=worth_usd)
    return router.plan(ASK + description, [signal()], policy=policy, models=[LIGHT, STRONG])


def played(model: str, samples: int, *, row: int) -> Sequence[Answer]:
    """So many answers of a model about a description; put your own call here."""
    flagged = LIGHT_FLAGS if model == LIGHT else TRULY_SUSPICIOUS
    return [Answer(text=json.dumps({"suspicious": row in flagged, "why": "as played"}))] * samples


def screened(router: Router, worth_usd: float) -> list[tuple[Plan, Followed]]:
    """Every description with its plan and what came of it."""
    out = []
    for row, description in enumerate(DESCRIPTIONS):
        plan = plan_for(router, description, worth_usd)
        out.append((plan, follow(plan, partial(played, row=row))))
    return out


def main() -> None:
    """Screen all descriptions."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--worth", type=float, default=0.02, metavar="USD")
    worth = parser.parse_args().worth
    router = Router.load()
    quality = JUDGED.quality
    print(
        f"the flag fires on {quality.sensitivity:.0%} of the light model's wrong verdicts and "
        f"stays silent on {quality.specificity:.0%} of its right ones\n"
    )
    found = screened(router, worth)
    for description, (plan, came) in zip(DESCRIPTIONS, found, strict=True):
        verdict = "SUSPICIOUS" if json.loads(came.answer.text)["suspicious"] else "harmless"
        asked = f"{plan.first} > {came.model}" if came.escalated else came.model
        print(f"{verdict:<11} {asked:<38} {description[:60]}")
    told = sum(plan.cost_usd for plan, _ in found)
    direct = sum((plan.direct or plan).cost_usd for plan, _ in found)
    print(f"\n{found[0][0].describe()}")
    print(f"expected for all {len(found)}: ${told:.5f}; the best single models ${direct:.5f}")


if __name__ == "__main__":
    main()
