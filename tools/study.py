"""Train the arms of a study alike and compare them, scene by scene."""

from start import start

if __name__ == "__main__":
    start("study")
