"""Draw the scenes that ship in scenes/ again, the same to the last bit on one machine."""

from start import start

if __name__ == "__main__":
    start("make_scenes")
