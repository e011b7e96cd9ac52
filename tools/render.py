"""Render novel views and depth of a captured scene."""

import sys

from raytrans.apps.cli import run
from raytrans.apps.render import main, parser

if __name__ == "__main__":
    sys.exit(run(main, parser()))
