"""Draw the curves of training runs."""

from start import start

if __name__ == "__main__":
    start("curves")
