"""Render novel views and depth of a captured scene."""

from start import start

if __name__ == "__main__":
    start("render")
