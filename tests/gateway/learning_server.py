"""A gateway in a process of its own, for tests that kill it; prints its URL."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from zerorouter.gateway.running import ServeOptions, serve

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from gateway.conftest import config_for

    serve(
        ServeOptions(
            config=config_for(sys.argv[1]),
            port=0,
            silent=True,
            environ={**os.environ, "ZEROROUTER_ADMIN_TOKEN": "admin-token"},
        ),
        on_ready=lambda told: print(told.url, flush=True),
    )
