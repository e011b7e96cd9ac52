"""Draw the scenes that ship in scenes/ again, the same to the last bit on one machine."""

import argparse
from pathlib import Path

from raytrans.apps.make_scenes import make_scenes

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(__file__).resolve().parents[1] / "scenes"
    parser.add_argument(
        "--out", type=Path, default=default, help="folder to write to (default: the repository's scenes)"
    )
    make_scenes(parser.parse_args().out)
