"""Check the cameras of a scene against its pictures."""

from start import start

if __name__ == "__main__":
    start("inspect_scene")
