"""Judge the generated training mixture against photographs."""

from start import start

if __name__ == "__main__":
    start("image_statistics")
