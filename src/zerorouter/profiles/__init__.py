"""Profiles: what was learned of a model that joined after the space was fitted.

A profile is one small JSON file under ``ZEROROUTER_HOME/profiles``: where the model stands, how
certain that is, what it costs, how long and how fast it answers, and the evidence all of this rests
on, answer by answer. The evidence makes a later step exact (see `onboarding.evidence`) and lets a
profile follow when the space is refitted. Prompts are named, never quoted. Keys are sorted,
numbers rounded and every answer has a line of its own, so that versions compare line by line.

    store = ProfileStore.default()
    joined = join(space, catalog, store.load_all())   # what `Router.load` does
"""

from __future__ import annotations

from zerorouter.profiles.joining import Joined, join, refitted
from zerorouter.profiles.learning import Step, answer_lengths, card_of, endpoint_speed, learned
from zerorouter.profiles.profile import (
    FORMAT,
    FORMAT_VERSION,
    AnswerLengths,
    Profile,
    Speed,
)
from zerorouter.profiles.store import FOLDER, ProfileStore

__all__ = [
    "FOLDER",
    "FORMAT",
    "FORMAT_VERSION",
    "AnswerLengths",
    "Joined",
    "Profile",
    "ProfileStore",
    "Speed",
    "Step",
    "answer_lengths",
    "card_of",
    "endpoint_speed",
    "join",
    "learned",
    "refitted",
]
