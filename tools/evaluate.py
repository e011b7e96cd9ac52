"""Measure renderings of held-out views against three baselines."""

from start import start

if __name__ == "__main__":
    start("evaluate")
