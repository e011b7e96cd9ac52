"""What every command here starts with: one line, not a traceback, until raytrans is there to answer for itself."""

import importlib
import sys
from pathlib import Path

# where nothing is installed, as in a folder copied to a machine with torch and numpy alone
sys.path.append(str(Path(__file__).resolve().parents[1]))


def start(name: str) -> None:
    """Run `raytrans.apps.NAME` and exit with its status."""
    try:
        run = importlib.import_module("raytrans.apps.commands").command(name, prog=name)
    except ImportError as error:
        sys.stderr.write(f"{name}: error: {error}; run `make setup`, then .venv/bin/python tools/{name}.py\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write(f"{name}: error: interrupted\n")
        sys.exit(130)
    sys.exit(run())
