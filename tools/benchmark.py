"""Measure speed and memory."""

from start import start

if __name__ == "__main__":
    start("benchmark")
