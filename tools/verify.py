"""Measure the equivariance contracts of a checkpoint on a scene."""

from start import start

if __name__ == "__main__":
    start("verify")
