"""Files that a capture lists by name: below the folder of the json, below a trusted one, or moved here from elsewhere.

A list of names comes with a scene, and scenes come from anywhere: nothing outside of these folders is opened.
"""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PureWindowsPath

from raytrans.data.guards import is_name

IMAGE_EXTENSIONS = ("", ".png", ".jpg", ".jpeg", ".PNG", ".JPG", ".JPEG")
IMAGES = "images"
LONGEST_TAIL = 12  # parts of a path from elsewhere that are looked for


def normal(name: str) -> str:
    """A listed name with `/` between its parts, and without what `.` and `..` leave out."""
    return os.path.normpath(name.replace("\\", "/"))


class ListedFiles:
    """Files named by absolute paths or relative to `folder`; images: the names of all images of the capture.

    What is listed outside the folder and the `trusted` ones is taken for moved, whether anything is there or not: it is
    looked for below them and `images`, where the longest tail of the path that exists leads. `.moved` holds those
    images by normal name, `.doubtful` the names that lead to the file of another image: they count as missing, as a
    picture must not get a wrong pose.
    """

    def __init__(self, folder: Path, images: Iterable[str], trusted: Iterable[str | Path] = ()):
        self.folder = folder
        self.roots = [folder, *(Path(os.path.abspath(Path(root).expanduser())) for root in trusted)]
        names = {normal(name) for name in images if is_name(name)}
        stays = {name: self._existing(name) for name in names}
        moved = {name: self._tail(name, 1) for name in names if stays[name] is None}
        taken = Counter(path for path in (*stays.values(), *moved.values()) if path is not None)
        found = {name: path for name, path in moved.items() if path is not None}
        self.moved = {name: path for name, path in found.items() if taken[path] == 1}
        self.doubtful = found.keys() - self.moved.keys()

    def place(self, name: str) -> Path:
        """The absolute path that a name stands for, whether anything is there or not."""
        return Path(os.path.normpath(self.folder / normal(name)))

    def image(self, name: str) -> Path | None:
        """An image, with an extension added where that is what exists; None where nothing does.

        Raises ValueError for what cannot be the name of a file.
        """
        return self._here(name) or self.moved.get(normal(name))

    def leads_out(self, name: str) -> bool:
        """Whether a name stands for a place outside of the folder and the trusted ones."""
        return not any(self.place(name).is_relative_to(root) for root in self.roots)

    def extra(self, name: str) -> Path | None:
        """A depth map or a mask; once moved, its folder has to fit as well, as images have the same names."""
        return self._here(name) or self._tail(normal(name), 2)

    def _here(self, name: str) -> Path | None:
        if not is_name(name):
            raise ValueError(f"{name[:60]!r}... is no file name")
        return self._existing(name)

    def _existing(self, name: str) -> Path | None:
        return None if self.leads_out(name) else _existing(self.place(name))

    def _tail(self, name: str, least: int) -> Path | None:
        """The longest tail of a path out of the folder, of at least so many parts, that exists below the folder."""
        if self.place(name).is_relative_to(self.folder) and not PureWindowsPath(name).is_absolute():
            return None
        parts = [part for part in name.split("/") if part not in ("", "..")][-LONGEST_TAIL:]
        tails = (Path(*parts[start:]) for start in range(len(parts) - least + 1))
        places = (root / tail for tail in tails for root in (self.folder, self.folder / IMAGES, *self.roots[1:]))
        return next((found for place in places if (found := _existing(place)) is not None), None)


def _existing(path: Path) -> Path | None:
    """The file, or that of the first extension that exists; what may not be looked at is not there."""
    candidates = (f"{path}{extension}" for extension in IMAGE_EXTENSIONS)
    return next((Path(candidate) for candidate in candidates if os.path.isfile(candidate)), None)
