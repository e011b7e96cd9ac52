"""Render a shipped scene, measure the contracts and write a page with the pictures."""

import sys

from raytrans.apps.cli import run
from raytrans.apps.demo import main, parser

if __name__ == "__main__":
    sys.exit(run(main, parser()))
