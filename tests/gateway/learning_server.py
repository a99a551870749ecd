"""A gateway in processes of its own, for tests that kill it; prints its URL."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import yaml

from zerorouter.gateway.running import ServeOptions, serve

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from gateway.conftest import config_for

    file = Path(os.environ["ZEROROUTER_HOME"]) / "config.yaml"
    file.write_text(yaml.safe_dump(config_for(sys.argv[1]).to_dict()), encoding="utf-8")
    os.environ["ZEROROUTER_ADMIN_TOKEN"] = "admin-token"
    serve(
        ServeOptions(config_path=file, port=0, workers=int(os.environ.get("WORKERS", "1"))),
        on_ready=lambda told: print(told.url, flush=True),
    )
