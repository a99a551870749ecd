"""Which anchors a run asks, and how many: what a person may choose."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from zerorouter.errors import InputError, UnknownNameError
from zerorouter.irt.anchors import STRATEGIES, AnchorStrategy

DEFAULT_ANCHORS: Final = 50


@dataclass(frozen=True, kw_only=True)
class Design:
    """Which anchors, and how many.

    Attributes:
        n: Anchors to ask; with ``adaptive`` the most.
        adaptive: Whether to ask in batches until a stop rule is met.
        strategy: How anchors are chosen.
        anchor_set: ``published``, ``fresh`` or ``mixed``; of generated tasks.
        data: Folder of prompts of the user's own, in place of generated tasks.
        grader: For the folder's prompts, see `graders.GRADERS`.
        target_sd: Standard error of P(correct) at which an adaptive run ends.
        seed: Of everything that is drawn.
    """

    n: int = DEFAULT_ANCHORS
    adaptive: bool = False
    strategy: AnchorStrategy = "i_optimal"
    anchor_set: str = "published"
    data: Path | None = None
    grader: str = "auto"
    target_sd: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if type(self.n) is not int or self.n < 1:
            raise InputError(f"{self.n!r} anchors; a whole number, 1 or more, is wanted")
        if self.strategy not in STRATEGIES:
            raise UnknownNameError("anchor strategy", self.strategy, STRATEGIES)
