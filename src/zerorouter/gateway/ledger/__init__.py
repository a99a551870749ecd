"""The ledger: one row per request and per attempt, first in a local journal, then in a database.

    ledger = Ledger.open(folder, owner=owner)       # once per process, under `owners.exclusive`
    ledger.append(RequestRow(id=..., started_ns=...))   # when it returns, the row survives SIGKILL
    ledger.close()

`zerorouter.gateway.books` opens it together with keys and accounts, and is what an application
uses.
"""

from zerorouter.gateway.ledger.export import export
from zerorouter.gateway.ledger.journal import Journal
from zerorouter.gateway.ledger.ledger import (
    Ledger,
    LedgerSettings,
    LedgerState,
    ledger_settings,
    take_in,
)
from zerorouter.gateway.ledger.rows import AdminRow, AttemptRow, FeedbackRow, LedgerRow, RequestRow
from zerorouter.gateway.ledger.store import Store, sqlite_url

__all__ = [
    "AdminRow",
    "AttemptRow",
    "FeedbackRow",
    "Journal",
    "Ledger",
    "LedgerRow",
    "LedgerSettings",
    "LedgerState",
    "RequestRow",
    "Store",
    "export",
    "ledger_settings",
    "sqlite_url",
    "take_in",
]
