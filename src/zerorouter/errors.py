"""Every error that ZeroRouter raises on purpose.

The tree::

    ZeroRouterError
    ├── InputError                what the caller handed over cannot be used
    │   ├── PromptError           an empty, oversized or malformed prompt
    │   ├── DataError             evaluation records: a file, row or column is wrong
    │   ├── CatalogError          a model card or a price list is wrong
    │   ├── ConfigError           the configuration file is wrong
    │   └── WireError             a request or a stream breaks its API's format
    │       └── UntranslatableError   ... or says what another API cannot express
    ├── UnknownNameError          a model, policy or method nobody has heard of
    ├── NoEligibleModelError      every model of the pool was filtered out
    ├── InfeasibleError           bounds that cannot all be kept, with the nearest that can
    │   └── NoModelInBoundsError  ... by any model for one prompt (a NoEligibleModelError, too)
    ├── MissingPriceError         a cost was needed and the model has no price
    ├── ArtifactError             a space or profile on disk cannot be read
    │   ├── CorruptArtifactError  damaged or incomplete
    │   └── NewerArtifactError    written by a later version
    ├── CalibrationError          a fit cannot be made from this data
    ├── AccessError               a request that a virtual key may not make
    │   ├── KeyRefusedError       no such key, or a revoked one
    │   ├── ModelForbiddenError   a model that the key does not allow
    │   ├── RateLimitError        too many requests or tokens in a minute
    │   └── BudgetError           a budget of the day or the month would be exceeded
    ├── BooksError                money, keys or the ledger cannot be kept
    │   └── StorageFullError      ... since there is no room left: nothing may be acknowledged
    └── MissingExtraError         an optional package is not installed

A message says what was found, what was wanted, and what to do next.
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Iterable


class ZeroRouterError(Exception):
    """Base of all errors raised on purpose; the command line prints its text and exits 1."""


class InputError(ZeroRouterError, ValueError):
    """What the caller handed over cannot be used."""


class PromptError(InputError):
    """A prompt is empty, too large or not made of messages."""


class DataError(InputError):
    """Evaluation records break their format; the message names file, row and column."""


class CatalogError(InputError):
    """A model card or a price list is wrong."""


class ConfigError(InputError):
    """The configuration file is wrong."""


class WireError(InputError):
    """A request, an answer or a stream breaks its API's format.

    Attributes:
        param: The field that is wrong, such as ``"messages.2.role"``, or None.
        code: A word for programs, or None.
    """

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        self.param = param
        self.code = code
        super().__init__(message)


class UntranslatableError(WireError):
    """A request asks for what the upstream's API cannot express; another upstream may do it."""


class UnknownNameError(ZeroRouterError, LookupError):
    """A name that is not known, with the nearest known one suggested.

    Attributes:
        kind: What sort of name was wanted, such as ``"model"`` or ``"policy"``.
        name: The name that was given.
        known: The names that would have been accepted.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind = kind
        self.name = name
        self.known = tuple(known)
        super().__init__(f"unknown {kind} {name!r}; {self._advice()}")

    def _advice(self) -> str:
        near = nearest_name(self.name, self.known)
        if near is not None:
            return f"did you mean {near!r}?"
        listed = ", ".join(sorted(self.known)[:8]) or "none"
        more = f" and {len(self.known) - 8} more" if len(self.known) > 8 else ""
        return f"known: {listed}{more}"


class NoEligibleModelError(ZeroRouterError):
    """Filters left no model; ``excluded`` maps each model to the reason it was left out."""

    def __init__(self, message: str, excluded: dict[str, str] | None = None) -> None:
        self.excluded = dict(excluded or {})
        super().__init__(message)


class InfeasibleError(ZeroRouterError):
    """No choice keeps all the bounds.

    Attributes:
        bound: The bound named first, such as ``"budget_usd"``.
        value: Its value.
        nearest: The nearest value that works with the other bounds as they are; None where it is
            not known.
    """

    def __init__(
        self,
        message: str,
        *,
        bound: str,
        value: float | None = None,
        nearest: float | None = None,
    ) -> None:
        self.bound = bound
        self.value = value
        self.nearest = nearest
        super().__init__(message)


class NoModelInBoundsError(NoEligibleModelError, InfeasibleError):
    """Of the eligible models none keeps the bounds on one prompt.

    Attributes:
        model: The model that offers the nearest value.
    """

    def __init__(
        self,
        message: str,
        *,
        bound: str,
        value: float,
        nearest: float,
        model: str,
        excluded: dict[str, str] | None = None,
    ) -> None:
        ZeroRouterError.__init__(self, message)  # each parent's own wants other arguments
        self.excluded = dict(excluded or {})
        self.bound = bound
        self.value = value
        self.nearest = nearest
        self.model = model

    def for_prompt(self, index: int) -> NoModelInBoundsError:
        """The same error, saying which prompt of a batch it is about."""
        return NoModelInBoundsError(
            f"prompt {index}: {self}",
            bound=self.bound,
            value=self.value or 0.0,
            nearest=self.nearest or 0.0,
            model=self.model,
            excluded=self.excluded,
        )


class MissingPriceError(ZeroRouterError):
    """A cost was needed for a model without a price; it is never taken as zero."""


class ArtifactError(ZeroRouterError):
    """A space or profile on disk cannot be read."""


class CorruptArtifactError(ArtifactError):
    """The artifact is damaged or incomplete."""


class NewerArtifactError(ArtifactError):
    """The artifact was written by a later version of ZeroRouter."""


class CalibrationError(ZeroRouterError):
    """A latent space cannot be fitted from these responses."""


class AccessError(ZeroRouterError):
    """A request that a virtual key may not make."""


class KeyRefusedError(AccessError):
    """No such key, or one that was revoked."""


class ModelForbiddenError(AccessError):
    """The key's list of models does not hold this one."""


class RateLimitError(AccessError):
    """Too many requests or tokens in a minute.

    Attributes:
        limit: What ran out: ``"requests_per_minute"`` or ``"tokens_per_minute"``.
        retry_after_s: Seconds until the same request would pass; None where it never will.
    """

    def __init__(self, message: str, *, limit: str, retry_after_s: float | None) -> None:
        self.limit = limit
        self.retry_after_s = retry_after_s
        super().__init__(message)


class BudgetError(AccessError):
    """A budget of the day or the month would be exceeded.

    Attributes:
        window: ``"day"`` or ``"month"``.
        left_usd: What the window still allows, open reservations taken off.
        wanted_usd: What the request may cost at worst.
        retry_after_s: Seconds until the window ends; None where the request exceeds a whole
            budget and so never passes.
    """

    def __init__(
        self,
        message: str,
        *,
        window: str,
        left_usd: float,
        wanted_usd: float,
        retry_after_s: float | None,
    ) -> None:
        self.window = window
        self.left_usd = left_usd
        self.wanted_usd = wanted_usd
        self.retry_after_s = retry_after_s
        super().__init__(message)


class BooksError(ZeroRouterError):
    """Money, keys or the ledger cannot be kept: a file or a database refuses."""


class StorageFullError(BooksError):
    """There is no room left for what must be kept, so nothing may be acknowledged."""


class MissingExtraError(ZeroRouterError, ImportError):
    """An optional package is missing; the message carries the install line."""


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """The known name most like ``name``, or None where nothing is close."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    folded = name.casefold()
    # "gpt-4o" is nearer to "gpt-4o-2024-08-06" than to "gpt-4-0613", which shares more letters.
    longer = [candidate for candidate in by_folded if folded and candidate.startswith(folded)]
    if longer:
        return by_folded[max(longer, key=lambda candidate: (-len(candidate), candidate))]
    close = difflib.get_close_matches(folded, by_folded, n=1, cutoff=0.6)
    return by_folded[close[0]] if close else None


def require_extra(module: str, extra: str, purpose: str) -> None:
    """Raise `MissingExtraError` with the install line unless ``module`` can be imported."""
    if importlib.util.find_spec(module) is None:
        raise MissingExtraError(
            f"{purpose} needs the package {module!r}, which is not installed; "
            f"run: pip install 'zerorouter[{extra}]'"
        )
