"""Train a model on many scenes."""

from start import start

if __name__ == "__main__":
    start("train")
