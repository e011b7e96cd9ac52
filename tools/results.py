"""Put measured numbers into the tables of the pages."""

from start import start

if __name__ == "__main__":
    start("results")
