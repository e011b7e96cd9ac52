"""Render novel views and depth of a captured scene."""

import sys

from raytrans.apps.render import main, parser
from raytrans.apps.cli import run

if __name__ == "__main__":
    sys.exit(run(main, parser()))
