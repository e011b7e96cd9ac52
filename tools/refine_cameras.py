"""Refine the cameras of an RGB-D capture by bundle adjustment."""

from start import start

if __name__ == "__main__":
    start("refine_cameras")
