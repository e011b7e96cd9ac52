"""Find the camera poses of photographs or of a video."""

from start import start

if __name__ == "__main__":
    start("import_photos")
