"""Make an environment with LiteLLM's proxy, for its tests and as a yardstick.

    python scripts/prepare_litellm.py [FOLDER]

LiteLLM is no dependency and stands in no environment of the project: it brings a hundred packages
along. The tests of tests/gateway/test_gateway_litellm.py run where the printed variable is set, and
``benchmarks/bench_gateway.py --litellm PYTHON`` takes the same interpreter.

The version is pinned. 1.82.7 and 1.82.8 carried a stealer of credentials and are never installed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

VERSION = "1.82.6"
VARIABLE = "ZEROROUTER_LITELLM_PYTHON"


def installed(python: Path) -> str:
    """The version of LiteLLM that ``python`` would import; empty where it has none."""
    code = "import importlib.metadata as m; print(m.version('litellm'))"
    told = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return told.stdout.strip() if told.returncode == 0 else ""


def prepare(folder: Path) -> Path:
    """The environment's interpreter; what is there already is kept if it is the right version."""
    python = folder / "bin" / "python"
    if not python.exists():
        try:
            venv.create(folder, with_pip=True)
            pip = [str(python), "-m", "pip"]
        except (subprocess.CalledProcessError, SystemExit):  # Debian without ensurepip
            venv.create(folder, with_pip=False, clear=True)
            pip = [sys.executable, "-m", "pip", "--python", str(python)]
    else:
        pip = [str(python), "-m", "pip"]
    if installed(python) != VERSION:
        command = [*pip, "install", "--quiet", f"litellm[proxy]=={VERSION}"]
        subprocess.run(command, check=True)
    if (found := installed(python)) != VERSION:
        raise SystemExit(f"{folder}: found litellm {found or 'missing'}; wanted {VERSION}")
    return python


def main() -> None:
    """Prepare it and say how it is used."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=Path(tempfile.gettempdir()) / "litellm-venv",
        help="where it goes (default: %(default)s)",
    )
    python = prepare(parser.parse_args().folder.absolute())
    print(f"export {VARIABLE}={python}")


if __name__ == "__main__":
    main()
