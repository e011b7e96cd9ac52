"""Train a model on many scenes."""

import sys

from raytrans.apps.cli import run
from raytrans.apps.train import main, parser

if __name__ == "__main__":
    sys.exit(run(main, parser()))
