"""Reading and resizing of image, depth and mask files."""

import math
import re
import warnings
from collections.abc import Sequence
from io import BufferedIOBase
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from raytrans.data.guards import check_pixels, decoding, one_line
from raytrans.shapes import Bool, Float

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "PPM")  # PIL decodes them itself; for EPS it runs a program
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
TRANSPOSED = (5, 6, 7, 8)  # EXIF orientations that swap width and height
EXIF_ORIENTATION = 0x0112
WHITE = (1.0, 1.0, 1.0)
BROKEN = "broken or cut image"
ROWS = 256  # that are composited at once
NUMPY_MAGIC, ZIP_MAGIC = b"\x93NUMPY", b"PK"


def bounded_size(height: int, width: int, max_size: int | None) -> tuple[int, int]:
    """Height and width with the long side at most `max_size`, rounded to whole pixels; never enlarged."""
    if max_size is not None and max_size < 1:
        raise ValueError(f"max_size: expected at least 1, got {max_size}")
    if max_size is None or max(height, width) <= max_size:
        return height, width
    ratio = max_size / max(height, width)
    return max(1, math.floor(height * ratio + 0.5)), max(1, math.floor(width * ratio + 0.5))


def _area_weights(source: int, target: int) -> Tensor:
    """(target, source) shares of every source pixel in every target pixel; rows sum to one."""
    edges = torch.arange(target + 1, dtype=torch.float64) * (source / target)
    pixels = torch.arange(source, dtype=torch.float64)
    overlap = torch.minimum(edges[1:, None], pixels + 1) - torch.maximum(edges[:-1, None], pixels)
    overlap = overlap.clamp_min(0)
    return overlap / overlap.sum(1, keepdim=True)


def resize_area(
    image: Float[Tensor, "height width *channels"], height: int, width: int
) -> Float[Tensor, "new_height new_width *channels"]:
    """Mean of an image over the area of every new pixel, also for ratios that are not whole numbers.

    out[i, j] = sum_kl A[i, k] B[j, l] image[k, l], where A and B hold the shares of the overlaps.
    """
    if (height, width) == tuple(image.shape[:2]):
        return image
    rows = _area_weights(image.shape[0], height).to(image)
    columns = _area_weights(image.shape[1], width).to(image)
    return torch.einsum("jl,il...->ij...", columns, torch.einsum("ik,kl...->il...", rows, image))


def resize_nearest(image: Tensor, height: int, width: int) -> Tensor:
    """The value at the centre of every new pixel (for depth and masks, which must not be averaged over edges)."""
    rows = ((torch.arange(height) + 0.5) * (image.shape[0] / height)).long()
    columns = ((torch.arange(width) + 0.5) * (image.shape[1] / width)).long()
    return image[rows[:, None], columns]


def _open(path: Path):
    from PIL import Image, UnidentifiedImageError

    # of many pixels, where `check_pixels` is stricter, and of metadata that nobody reads
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        image = Image.open(path, formats=FORMATS)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such image file") from None
    except UnidentifiedImageError:
        if path.stat().st_size == 0:
            raise ValueError(f"{path}: an empty file, expected an image") from None
        raise ValueError(f"{path}: not a readable image, or cut short") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read as an image ({error})") from None
    except Exception as error:  # PIL raises whatever its parsers raise
        raise ValueError(f"{path}: {BROKEN} ({one_line(error)})") from None
    try:
        check_pixels(path, image.height, image.width)
    except ValueError:
        image.close()
        raise
    return image


def image_size(path: Path) -> tuple[tuple[int, int], tuple[int, int]]:
    """(height, width) as stored and as shown upright (EXIF orientation applied), from headers, without the pixels."""
    from PIL import Image

    with _open(path) as image, decoding(path, BROKEN):
        width, height = image.size
        if image.format == "PNG":  # PIL would decode the pixels to look for an orientation behind them
            image.info |= _png_exif(path)
            exif = Image.Image.getexif(image)
        else:
            exif = image.getexif()
        turned = exif.get(EXIF_ORIENTATION, 1) in TRANSPOSED
    return (height, width), ((width, height) if turned else (height, width))


def _png_exif(path: Path) -> dict[str, bytes]:
    """The EXIF block of a PNG file by the name that PIL gives it, if it has one; chunks are skipped, not read."""
    with open(path, "rb") as file:
        file.seek(len(PNG_SIGNATURE))
        while len(head := file.read(8)) == 8:
            length, kind = int.from_bytes(head[:4], "big"), head[4:]
            if kind == b"eXIf":
                return {"exif": file.read(length)}
            file.seek(length + 4, 1)  # the checksum as well
            if kind == b"IEND":
                return {}
    raise ValueError(f"{path}: {BROKEN} (it ends before its last chunk)")


def _has_16_bits(path: Path) -> bool:
    with open(path, "rb") as file:
        header = file.read(26)
    return header.startswith(PNG_SIGNATURE) and header[24] == 16


def _decode(path: Path, upright: bool) -> np.ndarray:
    """Pixels (H, W), (H, W, 3) or (H, W, 4) as uint8, uint16, int32 or float32; a cut file is an error."""
    from PIL import ImageOps

    with _open(path) as image, decoding(path, BROKEN):
        image.load()  # PIL refuses cut files; other decoders fill the rest with grey
        image = ImageOps.exif_transpose(image) if upright else image
        if _has_16_bits(path) and image.mode not in ("I;16", "I"):
            return _decode_16_bits(path)
        if image.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
            return np.array(image)
        transparent = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
        return np.array(image.convert("RGBA" if transparent else "RGB"))


def _decode_16_bits(path: Path) -> np.ndarray:
    """Colour PNG of 16 bits a channel, which PIL would cut to 8."""
    import cv2

    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError(f"{path}: {BROKEN}")
    return pixels[..., [2, 1, 0, 3][: pixels.shape[-1]]]


def read_image(
    path: Path, background: tuple[float, float, float] = WHITE, upright: bool = True
) -> Float[Tensor, "height width 3"]:
    """Image in [0, 1], float32, sRGB as stored: 8 or 16 bits, grey, palette, EXIF orientation applied if `upright`.

    Transparency is composited, alpha * colour + (1 - alpha) * background. Raises ValueError naming a file that is
    missing, cut or not an image.
    """
    pixels = _decode(path, upright)
    if pixels.dtype == np.float32:
        raise ValueError(f"{path}: expected an image of 8 or 16 bits a channel, got floats")
    height, width = pixels.shape[:2]
    colors = torch.empty(height, width, 3)
    for start in range(0, height, ROWS):  # a large picture is never there as floats twice
        colors[start : start + ROWS] = _colors(pixels[start : start + ROWS], background)
    return colors


def _colors(pixels: np.ndarray, background: tuple[float, float, float]) -> Tensor:
    """Stored pixels (H, W), (H, W, 3) or (H, W, 4) in [0, 1], (H, W, 1) or (H, W, 3), on the background."""
    image = torch.from_numpy(pixels.astype(np.float32) / (255.0 if pixels.dtype == np.uint8 else 65535.0))
    if image.ndim == 2:
        return image[..., None]
    if image.shape[-1] == 3:
        return image
    color, alpha = image[..., :3], image[..., 3:]
    return alpha * color + (1 - alpha) * torch.tensor(background)


def read_depth(path: Path, scale: float, invalid: Sequence[float] = ()) -> Float[Tensor, "height width"]:
    """Depth scale * stored value of a 16-bit (or 32-bit) grey image, a .npy or a .pfm file.

    NaN where the stored value is 0, negative, not finite, or one of `invalid`.
    """
    values = _stored_depth(path)
    if values.ndim == 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim != 2 or values.size == 0:
        raise ValueError(f"{path}: expected a depth map (H, W), got shape {values.shape}")
    if values.dtype.kind not in "iuf":
        raise ValueError(f"{path}: expected a depth map of real numbers, got {values.dtype}")
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity are unknown
        depth = torch.from_numpy(values.astype(np.float64) * scale).float()
        known = torch.from_numpy(~np.isin(values, np.array(invalid))) & torch.isfinite(depth) & (depth > 0)
    return torch.where(known, depth, torch.nan)


def _stored_depth(path: Path) -> np.ndarray:
    if path.suffix.lower() == ".npy":
        return read_npy(path)
    if path.suffix.lower() == ".pfm":
        return read_pfm(path)
    values = _decode(path, upright=False)
    if values.dtype == np.uint8:
        raise ValueError(f"{path}: expected a grey depth image of 16 or 32 bits, got 8 bits a channel")
    return values


def read_pfm(path: Path) -> np.ndarray:
    """Values (H, W), float32, of a grey portable float map: `Pf`, width, height, scale, then rows from the bottom up.

    A negative scale means little-endian, its size is not applied, as in MVSNet's loader. Raises ValueError naming a
    file that is missing, cut, or in colour. Source: P. Debevec, "Portable Float Map Image Format".
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    header = re.match(rb"Pf\s+(\d+)\s+(\d+)\s+([-+.\deE]+)\s", content)
    if header is None:
        raise ValueError(f"{path}: expected a grey .pfm file (Pf, width and height, scale), got {content[:20]!r}")
    try:
        width, height, scale = int(header[1]), int(header[2]), float(header[3])
    except ValueError:
        raise ValueError(f"{path}: expected a number for its scale, got {header[3]!r}") from None
    pixels = content[header.end() :]
    if len(pixels) != 4 * width * height:
        raise ValueError(
            f"{path}: expected {4 * width * height} bytes for {width} x {height} pixels, got {len(pixels)}"
        )
    return np.frombuffer(pixels, "<f4" if scale < 0 else ">f4").reshape(height, width)[::-1].astype(np.float32)


def resample_nearest(image: Tensor, grid: Sequence[Sequence[float]], height: int, width: int) -> Tensor:
    """out[v, u] = image[y, x] at (x, y) = grid (u, v, 1), grid (2, 3), in pixels with centres at 0.5; NaN outside."""
    rows, columns = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    v, u = torch.meshgrid(rows.double(), columns.double(), indexing="ij")
    return values_at(image, torch.stack([a * u + b * v + c for a, b, c in grid], -1))


def values_at(values: Tensor, pixels: Float[Tensor, "*n 2"]) -> Float[Tensor, "*n"]:
    """Values of the pixels of a map (H, W) into which positions (x, y) fall, NaN outside of it."""
    x, y = pixels.floor().long().unbind(-1)
    inside = (x >= 0) & (y >= 0) & (x < values.shape[1]) & (y < values.shape[0])
    found = values[y.clamp(0, values.shape[0] - 1), x.clamp(0, values.shape[1] - 1)]
    return torch.where(inside, found, torch.nan)


def read_npy(path: Path) -> np.ndarray:
    """Array of a .npy file, never unpickled. Raises ValueError naming one that is missing, cut or something else."""
    with decoding(path, "cannot be read as a .npy array"), open(path, "rb") as file:
        return npy_array(file, path.stat().st_size)


def npy_array(file: BufferedIOBase, size: int) -> np.ndarray:
    """Array in the .npy format of an open file of `size` bytes; ValueError where they do not hold what its head states.

    Source: numpy.lib.format, versions 1 and 2.
    """
    start = file.read(len(NUMPY_MAGIC))
    if start != NUMPY_MAGIC:
        archive = start.startswith(ZIP_MAGIC)
        raise ValueError("it is an archive of several" if archive else "it is no file of numpy's")
    header = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
    version = tuple(file.read(2))
    if len(version) < 2 or version[0] not in header:
        raise ValueError(f"expected version 1 or 2 of the format, got {version}")
    length = int.from_bytes(file.read(2 if version[0] == 1 else 4), "little")
    if b"\\" in file.read(length):  # Python, whose source a head is, warns of some; numpy writes none
        raise ValueError("it is no file of numpy's")
    file.seek(len(NUMPY_MAGIC) + 2)
    shape, _, kind = header[version[0]](file)
    if kind.hasobject:
        raise ValueError("it holds pickled objects")
    expected, got = math.prod(shape) * kind.itemsize, size - file.tell()
    if min(shape, default=0) < 0 or not 0 <= expected <= got:
        raise ValueError(f"expected {expected} bytes for shape {shape} of {kind}, got {got}")
    file.seek(0)
    return np.load(file, allow_pickle=False)


def read_mask(path: Path, upright: bool = True) -> Bool[Tensor, "height width"]:
    """Mask, true where the stored grey value (or alpha, where the file has one) is at least half of white."""
    pixels = _decode(path, upright)
    white = 255 if pixels.dtype == np.uint8 else 65535
    if pixels.ndim == 3:
        transparent = pixels.shape[-1] == 4 and bool((pixels[..., 3] < white).any())
        pixels = pixels[..., 3] if transparent else pixels[..., :3].max(-1)
    return torch.from_numpy(pixels >= (white + 1) // 2)
