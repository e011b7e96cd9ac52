"""Size of the pixels that a camera belongs to, where files state one size and the image on disk has another."""

from pathlib import Path

import numpy as np

from raytrans.data.images import image_size
from raytrans.data.scene import same_aspect


def pixel_size(
    image: Path | None, stated: tuple[int | None, int | None], label: str, as_stored: bool = False
) -> tuple[tuple[int, int], bool]:
    """(height, width) of the pixels to be read, and whether EXIF orientation is applied to them.

    Intrinsics that state the size of the stored pixels, not of the upright picture, were made without regard to the
    EXIF orientation: then the pixels stay as stored, so that image and camera agree. Where both fit, as for a square,
    they are upright, or as stored for programs that never turn an image. Raises ValueError that begins with `label`.
    """
    if image is None:
        if None in stated:
            raise ValueError(f"{label}: expected w and h, as its image does not exist, got none")
        return stated, True
    stored, upright = image_size(image)
    candidates = [(stored, False), (upright, True)] if as_stored else [(upright, True), (stored, False)]
    for matches in (lambda size, wanted: size == wanted, same_aspect):
        for size, turn in candidates:
            wanted = tuple(have or value for have, value in zip(stated, size, strict=True))
            if matches(size, wanted):
                return size, turn
    raise ValueError(f"{label}: expected height and width {stated} or the same aspect, got {upright} in {image}")


def rescaled(intrinsics: np.ndarray, stated: tuple[int | None, int | None], size: tuple[int, int]) -> np.ndarray:
    """Intrinsics stated for one size in pixels of another, scaled by the exact ratio of each axis."""
    height, width = (have / (want or have) for have, want in zip(size, stated, strict=True))
    return np.diag([width, height, 1.0]) @ intrinsics
