"""Photographs and frames of a video as upright image files in a folder of ours; the originals are only read."""

import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raytrans.export.files import replacing

PHOTOS = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp"}
VIDEOS = {".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg"}
ORIENTATION, MODEL, EXIF_IFD = 0x0112, 0x0110, 0x8769
FOCAL, FOCAL_35 = 0x920A, 0xA405
QUALITY = 95

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Photo:
    """A written image: name relative to its folder, and what photographs of one lens have in common."""

    name: str
    lens: tuple


def photo_files(folder: Path) -> list[Path]:
    """Image files below a folder, sorted by path; hidden ones and those in hidden folders are left out."""
    files = (file for file in folder.rglob("*") if file.suffix.lower() in PHOTOS and file.is_file())
    return sorted(file for file in files if not any(part.startswith(".") for part in file.relative_to(folder).parts))


def copy_photos(folder: Path, target: Path) -> list[Photo]:
    """Copy the photographs of a folder, turned upright where their EXIF orientation says so; broken ones are left out.

    Pixels of photographs that are upright already are copied byte by byte. Raises ValueError where no file is readable.
    """
    photos: list[Photo] = []
    for file in photo_files(folder):
        # lists of COLMAP end a name at the first blank
        name = "_".join(file.relative_to(folder).as_posix().split())
        if any(photo.name == name for photo in photos):
            raise ValueError(
                f"{file}: expected names that differ in more than blanks and underscores, got {name} twice"
            )
        try:
            photos.append(Photo(name, _copy(file, target / name)))
        except (OSError, SyntaxError, ValueError) as error:
            (target / name).unlink(missing_ok=True)
            logger.warning("%s: left out, not a readable image (%s)", file, error)
    if not photos:
        raise ValueError(f"{folder}: expected photographs ({' '.join(sorted(PHOTOS))}) or a video, found none readable")
    return photos


def _copy(file: Path, target: Path) -> tuple:
    """Copy one photograph; (width, height, camera, focal lengths), which photographs of one lens share."""
    from PIL import Image, ImageOps

    with Image.open(file) as image:
        image.load()
        exif = image.getexif()
        details = exif.get_ifd(EXIF_IFD)
        lens = (str(exif.get(MODEL)), str(details.get(FOCAL)), str(details.get(FOCAL_35)))
        if exif.get(ORIENTATION, 1) in (0, 1):
            with replacing(target) as temporary:
                shutil.copyfile(file, temporary)
            return (*image.size, *lens)
        upright = ImageOps.exif_transpose(image)
        with replacing(target) as temporary:
            upright.save(temporary, format=image.format, quality=QUALITY, exif=upright.getexif())
        return (*upright.size, *lens)


def extract_frames(video: Path, target: Path, rate: float) -> list[Photo]:
    """Write the sharpest frame of each interval of 1 / rate seconds as JPEG, upright; ValueError for no readable video.

    Sharpness is the variance of the Laplacian of the grey picture.
    """
    import cv2

    photos: list[Photo] = []
    best, interval = (-1.0, None), 0

    def keep(frame: np.ndarray) -> None:
        name = f"frame_{len(photos):05d}.jpg"
        done, content = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        if not done:
            raise OSError(f"{target / name}: the frame could not be encoded")
        with replacing(target / name) as temporary:
            temporary.write_bytes(content.tobytes())
        photos.append(Photo(name, (frame.shape[1], frame.shape[0])))

    for seconds, frame in read_video(video):
        if int(seconds * rate + 1e-6) != interval and best[1] is not None:
            keep(best[1])
            best, interval = (-1.0, None), int(seconds * rate + 1e-6)
        score = float(cv2.Laplacian(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), cv2.CV_32F).var())
        if score > best[0]:
            best = (score, frame)
    if best[1] is not None:
        keep(best[1])
    return photos


def read_video(video: Path) -> Iterator[tuple[float, np.ndarray]]:
    """(seconds, frame (H, W, 3) uint8) of a video; ffmpeg turns the frames as its metadata say."""
    import imageio_ffmpeg

    logging.getLogger("imageio_ffmpeg").setLevel(logging.ERROR)  # it warns of every video that is turned
    try:
        reader = imageio_ffmpeg.read_frames(str(video))
        facts = next(reader)
    except (OSError, RuntimeError, StopIteration, IndexError, ValueError) as error:
        raise ValueError(f"{video}: cannot be read as a video ({str(error).strip().splitlines()[-1:]})") from None
    width, height = facts["size"]
    try:
        for number, content in enumerate(reader):
            yield number / facts["fps"], np.frombuffer(content, np.uint8).reshape(height, width, 3)
    finally:
        reader.close()
