"""Measure renderings of held-out views against three baselines."""

import sys

from raytrans.apps.cli import run
from raytrans.apps.evaluate import main, parser

if __name__ == "__main__":
    sys.exit(run(main, parser()))
