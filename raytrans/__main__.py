"""`python -m raytrans`: the program `raytrans`."""

import sys

from raytrans.apps.commands import main

if __name__ == "__main__":
    sys.exit(main())
