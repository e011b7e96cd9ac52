"""Take depth maps, a point cloud or a mesh out of a captured scene."""

from start import start

if __name__ == "__main__":
    start("export")
