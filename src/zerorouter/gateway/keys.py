"""Virtual keys: made once, shown once, kept only as hashes.

A key reads ``zr-<id>-<secret>``: a public id of twelve hexadecimal digits, by which it is looked
up and named in logs, and a secret of 256 random bits. What is kept is the SHA-256 of the whole.
A slow hash (scrypt, Argon2) would buy nothing: it makes guessing dear where secrets can be guessed;
one of 2**256 cannot, at any speed, and every request would pay for it. The hashes are compared in
constant time, and an unknown id takes as long as a wrong secret.

The keys stand in one file of the state folder, ``keys.json``, replaced as a whole under a lock. A
running gateway sees a change within `RELOAD_NS`.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from zerorouter.errors import (
    BooksError,
    InputError,
    KeyRefusedError,
    ModelForbiddenError,
    StorageFullError,
    UnknownNameError,
)
from zerorouter.gateway.budgets import NUSD, to_nusd, to_usd
from zerorouter.gateway.limits import MAX_PER_MINUTE
from zerorouter.gateway.owners import exclusive

RELOAD_NS: Final = 250_000_000
FORMAT_VERSION: Final = 1
_ID_DIGITS: Final = 12
_SHAPE: Final = re.compile(r"zr-([0-9a-f]{12})-[A-Za-z0-9_-]{43}")
_NAME: Final = re.compile(r"[^\x00-\x1f\x7f]{1,100}")


@dataclass(frozen=True, kw_only=True, slots=True)
class VirtualKey:
    """What a key may do. The secret is no part of it.

    Attributes:
        id: Public id, twelve hexadecimal digits.
        name: The owner's word for it.
        hash: SHA-256 of the whole key, hexadecimal.
        policy: Policy of requests that name none; None for the gateway's.
        models: Shell globs of the models it may use; empty for all.
        requests_per_minute: None for no limit.
        tokens_per_minute: None for no limit.
        budget_day_nusd: Most it may spend on a UTC day, in nano-dollars; None for no bound.
        budget_month_nusd: Most it may spend in a UTC month; None for no bound.
        created: When, ISO 8601 in UTC.
        revoked: When it was revoked; None while it counts.
    """

    id: str
    name: str
    hash: str
    policy: str | None = None
    models: tuple[str, ...] = ()
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    budget_day_nusd: int | None = None
    budget_month_nusd: int | None = None
    created: str = ""
    revoked: str | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InputError(f"key name {self.name!r}; 1 to 100 printable characters are wanted")
        for field in ("requests_per_minute", "tokens_per_minute"):
            limit = getattr(self, field)
            if limit is not None and not (type(limit) is int and 1 <= limit <= MAX_PER_MINUTE):
                raise InputError(f"{field} is {limit!r}; wanted 1 to {MAX_PER_MINUTE:,}")

    @property
    def has_budget(self) -> bool:
        """Whether any budget bounds it."""
        return self.budget_day_nusd is not None or self.budget_month_nusd is not None

    @property
    def is_bounded(self) -> bool:
        """Whether a budget or a limit on rates bounds it."""
        return (
            self.has_budget
            or self.requests_per_minute is not None
            or self.tokens_per_minute is not None
        )

    def allows(self, model: str) -> bool:
        """Whether it may use a model."""
        return not self.models or any(fnmatchcase(model, glob) for glob in self.models)

    def require_model(self, model: str) -> None:
        """Refuse a model that it may not use.

        Raises:
            ModelForbiddenError: so it is.
        """
        if not self.allows(model):
            raise ModelForbiddenError(
                f"key {self.id} ({self.name}) may not use the model {model!r}; it allows: "
                f"{', '.join(self.models)}"
            )

    def to_dict(self) -> dict[str, Any]:
        """For people and programs: budgets in dollars, without the hash."""
        return {
            "id": self.id,
            "name": self.name,
            "policy": self.policy,
            "models": list(self.models),
            "requests_per_minute": self.requests_per_minute,
            "tokens_per_minute": self.tokens_per_minute,
            "budget_day_usd": _usd(self.budget_day_nusd),
            "budget_month_usd": _usd(self.budget_month_nusd),
            "created": self.created,
            "revoked": self.revoked,
        }


@dataclass(frozen=True, kw_only=True)
class KeySettings:
    """What is asked for a new key; the attributes mean what they do in `VirtualKey`."""

    name: str
    policy: str | None = None
    models: tuple[str, ...] = ()
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    budget_day_usd: float | None = None
    budget_month_usd: float | None = None


def make_key(settings: KeySettings, *, now_ns: int) -> tuple[str, VirtualKey]:
    """A new key and its record. The text stands nowhere else: show it once.

    Raises:
        InputError: a setting is out of range.
    """
    key_id = secrets.token_hex(_ID_DIGITS // 2)
    text = f"zr-{key_id}-{secrets.token_urlsafe(32)}"
    return text, VirtualKey(
        id=key_id,
        name=settings.name,
        hash=hash_key(text),
        policy=settings.policy,
        models=settings.models,
        requests_per_minute=settings.requests_per_minute,
        tokens_per_minute=settings.tokens_per_minute,
        budget_day_nusd=_nusd(settings.budget_day_usd),
        budget_month_nusd=_nusd(settings.budget_month_usd),
        created=_instant(now_ns),
    )


def hash_key(text: str) -> str:
    """SHA-256 of a key, hexadecimal."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class KeyStore:
    """The keys of a state folder, kept in memory and read again when the file changes.

    Attributes:
        path: The file.
        error: Why the file could not be read again; None where it could. The keys read before
            stand until then, also where the file vanished: no accident opens the gateway.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "keys.json"
        self._folder = folder
        self._keys: Mapping[str, VirtualKey] = {}
        self._stamp: tuple[int, int, int] | None = None
        self._checked_ns: int | None = None
        self._decoy = secrets.token_hex(32)
        self.error: BooksError | None = None
        self.reload()

    def __len__(self) -> int:
        """How many keys there are, revoked ones included."""
        return len(self._keys)

    def all(self) -> tuple[VirtualKey, ...]:
        """Every key, in the order they were made."""
        return tuple(self._keys.values())

    def authenticate(self, text: str, *, mono_ns: int) -> VirtualKey:
        """The record of a key that a client sent.

        Raises:
            KeyRefusedError: it is unknown, wrong or revoked.
        """
        self.look(mono_ns)
        shape = _SHAPE.fullmatch(text)
        known = self._keys.get(shape[1]) if shape else None
        # Always one hash and one comparison, whatever was sent.
        wanted = known.hash if known is not None else self._decoy
        same = hmac.compare_digest(hash_key(text), wanted)
        if known is None or not same:
            raise KeyRefusedError(
                "unknown API key; send one that 'zerorouter keys make' printed, as "
                "'Authorization: Bearer zr-...' or 'x-api-key: zr-...'"
            )
        if known.revoked is not None:
            raise KeyRefusedError(f"API key {known.id} ({known.name}) was revoked; ask for another")
        return known

    def look(self, mono_ns: int) -> None:
        """Read the file again if it changed, once every `RELOAD_NS`."""
        if self._checked_ns is None or not 0 <= mono_ns - self._checked_ns < RELOAD_NS:
            self.refresh()
            self._checked_ns = mono_ns

    def refresh(self) -> None:
        """Read the file again if it changed; what is wrong with it stands in `error`."""
        try:
            self.reload()
        except BooksError as error:
            self.error = error

    def reload(self) -> bool:
        """Read the file again if it changed; returns whether it did.

        Raises:
            BooksError: it cannot be read; the keys read before still stand.
        """
        try:
            now = self.path.stat()
            stamp = (now.st_mtime_ns, now.st_size, now.st_ino)
        except FileNotFoundError:
            stamp = None
        if stamp == self._stamp:
            return False
        if stamp is None:
            raise BooksError(f"{self.path} is gone; the keys in it still count until a restart")
        self._keys, self._stamp, self.error = _read(self.path), stamp, None
        return True

    def make(self, settings: KeySettings, *, now_ns: int) -> tuple[str, VirtualKey]:
        """Make a key and keep its record; returns the text, to be shown once, and the record.

        Raises:
            InputError: a setting is out of range, or a key in force has that name.
            BooksError: the file cannot be read or written.
        """
        text, key = make_key(settings, now_ns=now_ns)
        with exclusive(self._folder, "keys.lock"):
            self.reload()
            if any(k.name == key.name and k.revoked is None for k in self._keys.values()):
                raise InputError(
                    f"a key named {key.name!r} is in force; choose another name, or revoke that one"
                )
            self._write({**self._keys, key.id: key})
        return text, key

    def revoke(self, name: str, *, now_ns: int) -> VirtualKey:
        """Revoke the key of an id or a name; one that was revoked before stays as it was.

        Raises:
            UnknownNameError: there is none.
            BooksError: the file cannot be read or written.
        """
        with exclusive(self._folder, "keys.lock"):
            self.reload()
            key = self.find(name)
            if key.revoked is None:
                key = replace(key, revoked=_instant(now_ns))
                self._write({**self._keys, key.id: key})
        return key

    def rebudget(self, name: str, *, day_usd: float | None, month_usd: float | None) -> VirtualKey:
        """Give the key of an id or a name other budgets; None for no bound.

        Raises:
            InputError: an amount is out of range.
            UnknownNameError: there is no such key.
            BooksError: the file cannot be read or written.
        """
        with exclusive(self._folder, "keys.lock"):
            self.reload()
            key = replace(
                self.find(name), budget_day_nusd=_nusd(day_usd), budget_month_nusd=_nusd(month_usd)
            )
            self._write({**self._keys, key.id: key})
        return key

    def find(self, name: str) -> VirtualKey:
        """The key of an id or a name; of several with that name the one in force, else the last.

        Raises:
            UnknownNameError: there is none.
        """
        if name in self._keys:
            return self._keys[name]
        named = [key for key in self._keys.values() if key.name == name]
        if not named:
            known = [key.name for key in self._keys.values()]
            raise UnknownNameError("key", name, known)
        return next((key for key in named if key.revoked is None), named[-1])

    def _write(self, keys: Mapping[str, VirtualKey]) -> None:
        rows = [
            {field: getattr(key, field) for field in VirtualKey.__dataclass_fields__}
            for key in keys.values()
        ]
        text = json.dumps({"version": FORMAT_VERSION, "keys": rows}, indent=1)
        partial = self._folder / f".keys-{secrets.token_hex(4)}.tmp"
        try:
            handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(handle, "w", encoding="utf-8") as file:  # noqa: PTH123 - of a handle
                file.write(text + "\n")
                file.flush()
                os.fsync(handle)
            partial.replace(self.path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise StorageFullError(
                f"cannot write {self.path}: {error.strerror or error}; nothing was changed"
            ) from error
        self.reload()


def _read(path: Path) -> dict[str, VirtualKey]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        version = document["version"]
        if version != FORMAT_VERSION:
            raise BooksError(
                f"{path}: version {version!r}; this ZeroRouter reads version {FORMAT_VERSION}: "
                "upgrade with: pip install -U zerorouter"
            )
        keys = [VirtualKey(**{**row, "models": tuple(row["models"])}) for row in document["keys"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BooksError(
            f"{path} cannot be read ({type(error).__name__}: {error}); restore it from a copy, or "
            "move it away and make new keys"
        ) from error
    return {key.id: key for key in keys}


def _nusd(usd: float | None) -> int | None:
    return None if usd is None else to_nusd(usd)


def _usd(nusd: int | None) -> float | None:
    return None if nusd is None else to_usd(nusd)


def _instant(now_ns: int) -> str:
    moment = datetime.datetime.fromtimestamp(now_ns // NUSD, tz=datetime.UTC)
    return moment.isoformat().replace("+00:00", "Z")
