"""Measure the equivariance contracts of a checkpoint on a scene."""

import sys

from raytrans.apps.cli import run
from raytrans.apps.verify import main, parser

if __name__ == "__main__":
    sys.exit(run(main, parser()))
