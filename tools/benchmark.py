"""Measure speed and memory."""

import sys

from raytrans.apps.benchmark import main, parser
from raytrans.apps.cli import run

if __name__ == "__main__":
    sys.exit(run(main, parser()))
