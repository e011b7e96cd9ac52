"""Put scenes into tar files to train on."""

from start import start

if __name__ == "__main__":
    start("shard")
