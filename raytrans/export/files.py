"""Writers of files, each atomic: a reader sees the old file or the whole new one, never a part."""

import errno
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from raytrans.atomic import replacing, write_bytes
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.distortion import MODELS as COEFFICIENTS

OPENGL_FROM_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])
LENSES = {"opencv": "OPENCV", "rational": "FULL_OPENCV", "fisheye": "OPENCV_FISHEYE"}
UNKNOWN_COLOR = (0, 0, 0)


def refuse_existing(path: Path) -> None:
    """Raise ValueError naming a file that is there already, a dangling link included."""
    if path.exists() or path.is_symlink():
        raise ValueError(f"{path}: expected a new file, got one that exists; replace=True writes over it")


def write_text(path: str | Path, text: str) -> None:
    """Write text as UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, value: object) -> None:
    """Write JSON; tensors, arrays and paths are turned into plain values, NaN and infinity into null."""
    write_text(path, json_text(value, indent=2))


def json_text(value: object, indent: int | None = None) -> str:
    """JSON as `write_json` has it, on one line unless it is indented."""
    return json.dumps(_plain(value), indent=indent, allow_nan=False) + "\n"


def append_json_line(path: str | Path, value: object) -> None:
    """Append a value as one line of JSON, as `write_json` has it, in one piece; makes the file where there is none."""
    line, path = json_text(value).encode(), Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab", buffering=0) as file:
        try:
            written = file.write(line)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from None
    if written < len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def read_json_lines(path: str | Path) -> list[dict]:
    """What `append_json_line` wrote, without a last line that was cut; ValueError naming a line of anything else."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"log: no such file {path}")
    *lines, _cut = path.read_text(encoding="utf-8", errors="replace").split("\n")
    values = []
    for number, line in enumerate(lines, 1):
        try:
            values.append(json.loads(line))
        except (ValueError, RecursionError):
            raise ValueError(f"{path}: line {number}: expected JSON, got {line[:40]!r}") from None
        if not isinstance(values[-1], dict):
            raise ValueError(f"{path}: line {number}: expected an object, got {line[:40]!r}")
    return values


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, (list, tuple, set)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def write_npy(path: str | Path, array: Tensor | np.ndarray, dtype: type = np.float32) -> None:
    """Write an array as .npy, float32 unless told otherwise."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.save(file, _numpy(array).astype(dtype))


def _numpy(array: Tensor | np.ndarray) -> np.ndarray:
    return array.detach().cpu().numpy() if isinstance(array, Tensor) else np.asarray(array)


def _quantised(image: Tensor | np.ndarray, bits: int) -> np.ndarray:
    """Whole numbers of 8 or 16 bits: floats in [0, 1] are clamped, scaled and rounded; whole numbers stay."""
    pixels = _numpy(image)
    if bits not in (8, 16):
        raise ValueError(f"bits: expected 8 or 16, got {bits}")
    if pixels.ndim not in (2, 3) or pixels.ndim == 3 and pixels.shape[-1] not in (3, 4):
        raise ValueError(f"image: expected (H, W), (H, W, 3) or (H, W, 4), got shape {pixels.shape}")
    top, kind = (255, np.uint8) if bits == 8 else (65535, np.uint16)
    if np.issubdtype(pixels.dtype, np.floating):
        if np.isnan(pixels).any():
            raise ValueError("image: expected numbers, got NaN")
        return np.round(pixels.astype(np.float64).clip(0, 1) * top).astype(kind)
    if pixels.min(initial=0) < 0 or pixels.max(initial=0) > top:
        raise ValueError(f"image: expected whole numbers from 0 to {top}, got {pixels.min()} to {pixels.max()}")
    return pixels.astype(kind)


def write_png(path: str | Path, image: Tensor | np.ndarray, bits: int = 8) -> None:
    """Write an image (H, W), (H, W, 3) or (H, W, 4) of floats in [0, 1], or of whole numbers as they are."""
    write_bytes(path, png_bytes(image, bits))


def png_bytes(image: Tensor | np.ndarray, bits: int = 8, compression: int = 9) -> bytes:
    """An image as the content of a PNG file, as `write_png` has it; compression from 0, fast, to 9, small."""
    import cv2

    return _encoded(".png", _quantised(image, bits), [cv2.IMWRITE_PNG_COMPRESSION, compression])


def jpeg_bytes(image: Tensor | np.ndarray, quality: int) -> bytes:
    """An image of floats in [0, 1] or of bytes as the content of a JPEG file; quality from 1 to 100."""
    import cv2

    return _encoded(".jpg", _quantised(image, 8), [cv2.IMWRITE_JPEG_QUALITY, quality])


def _encoded(kind: str, pixels: np.ndarray, options: list[int]) -> bytes:
    import cv2

    if pixels.ndim == 3:
        pixels = pixels[..., [2, 1, 0, 3][: pixels.shape[-1]]]
    done, content = cv2.imencode(kind, np.ascontiguousarray(pixels), options)
    if not done:
        raise OSError(f"the image could not be encoded as {kind}")
    return content.tobytes()


def write_depth_png(path: str | Path, depth: Tensor | np.ndarray, scale: float) -> None:
    """Write depth as a 16-bit PNG of depth / scale, 0 where unknown; deeper than 65535 * scale is unknown too."""
    write_bytes(path, depth_png_bytes(depth, scale))


def depth_step(deepest: float) -> float:
    """Step of 16-bit depth: the smallest of one, two or five times a power of ten that reaches the deepest pixel.

    1e-3 where nothing has a depth.
    """
    if not deepest > 0:
        return 1e-3
    power = 10.0 ** np.floor(np.log10(deepest / 65535))
    return float(next(f"{lead * power:.0e}" for lead in (1, 2, 5, 10) if lead * power * 65535 >= deepest))


def depth_png_bytes(depth: Tensor | np.ndarray, scale: float) -> bytes:
    """Depth as the content of a file, as `write_depth_png` has it; ValueError for a scale that is not positive."""
    if not scale > 0:
        raise ValueError(f"scale: expected a positive number, got {scale}")
    steps = np.round(_numpy(depth).astype(np.float64) / scale)
    known = np.isfinite(steps) & (steps >= 1) & (steps <= 65535)
    return png_bytes(np.where(known, steps, 0).astype(np.int64), bits=16)


def depth_colors(
    depth: Tensor | np.ndarray, near: float | None = None, far: float | None = None, palette: str = "TURBO"
) -> np.ndarray:
    """Depth (H, W) as colours (H, W, 3) uint8: the turbo map over 1/depth, near red, far blue, black where unknown.

    `near` and `far` are the ends of the scale; by default the 2nd and 98th percentile of what is known. `palette`: a
    colour map of OpenCV, near at its upper end.
    """
    values = _numpy(depth).astype(np.float64)
    known = np.isfinite(values) & (values > 0)
    if not known.any():
        return np.zeros((*values.shape, 3), np.uint8)
    inverse = np.divide(1.0, values, where=known, out=np.zeros_like(values))
    nearest, farthest = depth_range([values])
    low, high = 1 / (far or farthest), 1 / (near or nearest)
    share = (inverse - low) / (high - low) if high > low else np.full_like(values, 0.5)
    return np.where(known[..., None], palette_colors(share, palette), np.array(UNKNOWN_COLOR, np.uint8))


def palette_colors(share: np.ndarray, palette: str) -> np.ndarray:
    """Numbers (H, W), clamped to [0, 1], as colours (H, W, 3) uint8 of a colour map of OpenCV."""
    import cv2

    steps = np.round(np.asarray(share).clip(0, 1) * 255).astype(np.uint8)
    return cv2.applyColorMap(steps, getattr(cv2, f"COLORMAP_{palette}"))[..., ::-1]


def depth_range(depths: Iterable[Tensor | np.ndarray]) -> tuple[float | None, float | None]:
    """Near and far end of one scale for some depth maps: 2nd and 98th percentile of all that is known; None if none."""
    values = np.concatenate([np.zeros(0), *(_numpy(depth).astype(np.float64).ravel() for depth in depths)])
    inverse = 1 / values[np.isfinite(values) & (values > 0)]
    if not len(inverse):
        return None, None
    return float(1 / np.percentile(inverse, 98)), float(1 / np.percentile(inverse, 2))


def write_video(path: str | Path, frames: Iterable[Tensor | np.ndarray], fps: float | int = 24) -> None:
    """Write frames (H, W, 3), floats in [0, 1] or uint8, all of one size, as H.264 in MP4.

    The format wants even sides: an odd one gets its last row or column twice. Raises ValueError for no frames or
    frames of different sizes.
    """
    import imageio_ffmpeg

    with replacing(path) as temporary:
        writer, size = None, None
        try:
            for frame in frames:
                pixels = _quantised(frame, 8)
                if size is None:
                    size = pixels.shape
                    even = (size[1] + size[1] % 2, size[0] + size[0] % 2)
                    writer = imageio_ffmpeg.write_frames(
                        str(temporary), even, fps=fps, codec="libx264", quality=8, macro_block_size=1
                    )
                    writer.send(None)
                if pixels.shape != size or pixels.ndim != 3 or size[2] != 3:
                    raise ValueError(f"frames: expected all of shape {size[:2]} and 3 colours, got {pixels.shape}")
                padding = ((0, size[0] % 2), (0, size[1] % 2), (0, 0))
                writer.send(np.ascontiguousarray(np.pad(pixels, padding, mode="edge")))
        finally:
            if writer is not None:
                writer.close()
        if size is None:
            raise ValueError("frames: expected at least one, got none")


def write_transforms(
    path: str | Path,
    cameras: Cameras,
    images: Sequence[str],
    depths: Sequence[str | None] | None = None,
    depth_scale: float = 1.0,
    extra: Mapping[str, object] | None = None,
    replace: bool = False,
) -> None:
    """Write cameras as a nerfstudio `transforms.json` (OpenGL axes), so that the folder is a scene again.

    images and depths: file paths relative to the folder of the json; depth_scale: units of the poses per stored depth
    value. Intrinsics, size, lens, near and far go with every frame. `extra` holds further top-level keys.
    Raises ValueError for a file that exists, unless `replace` says to write over it.
    """
    if not replace:
        refuse_existing(Path(path))
    if len(images) != len(cameras) or depths is not None and len(depths) != len(cameras):
        raise ValueError(f"images, depths: expected {len(cameras)} names, got {len(images)}, {len(depths or ())}")
    frames = [camera_frame(camera, image) for camera, image in zip(cameras, images, strict=True)]
    top: dict[str, object] = {"camera_model": camera_model(cameras), **(extra or {})}
    if depths is not None:
        top["depth_unit_scale_factor"] = depth_scale
        for frame, depth in zip(frames, depths, strict=True):
            frame |= {} if depth is None else {"depth_file_path": depth}
    write_json(path, {**top, "frames": frames})


def camera_model(cameras: Cameras) -> str:
    """nerfstudio's name of the lens."""
    return "PINHOLE" if cameras.distortion is None else LENSES[cameras.distortion.model]


def camera_frame(camera: Cameras, image: str) -> dict[str, object]:
    """The entry of one image in `frames`; ValueError for skewed pixels."""
    intrinsics = camera.intrinsics
    if intrinsics[0, 1].abs() > 1e-9 * intrinsics[0, 0]:
        raise ValueError(f"cameras: the format holds no skew, got {intrinsics[0, 1].item()}")
    frame: dict[str, object] = {"file_path": image, "w": int(camera.width), "h": int(camera.height)}
    frame |= {"fl_x": intrinsics[0, 0], "fl_y": intrinsics[1, 1], "cx": intrinsics[0, 2], "cy": intrinsics[1, 2]}
    if camera.distortion is not None:
        names = COEFFICIENTS[camera.distortion.model]
        frame |= dict(zip(names, torch.as_tensor(camera.distortion.coefficients).tolist(), strict=False))
    frame |= {name: value for name in ("near", "far") if (value := getattr(camera, name)) is not None}
    return {**frame, "transform_matrix": camera.world_from_camera.cpu().numpy() @ OPENGL_FROM_OPENCV}
