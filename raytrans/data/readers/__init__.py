"""One reader per format. A reader offers `found_in(path) -> files` and `read(files) -> Scene`."""

from pathlib import Path

from raytrans.data.readers import transforms
from raytrans.data.scene import Scene

READERS = {"transforms.json or transforms_train/val/test.json": transforms}


def open_scene(path: str | Path) -> Scene:
    """Open a posed capture: a folder, or the path of its `transforms.json`; see the readers for what each accepts.

    Raises ValueError for a path that does not exist or holds no known format, naming what was looked for.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder")
    for reader in READERS.values():
        files = reader.found_in(path)
        if files:
            return reader.read(files)
    raise ValueError(f"{path}: not a scene that can be read; looked for {'; '.join(READERS)}")


__all__ = ["open_scene"]
