"""Render a shipped scene, measure the contracts and write a page with the pictures."""

from start import start

if __name__ == "__main__":
    start("demo")
