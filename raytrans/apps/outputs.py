"""What may be written where: nothing takes the place of a file that is not ours, least of all of a scene.

The folder of a rendering is a scene again once it is complete, never a mixture of two, never the end of a capture.
`transforms.json` carries the mark of this command and lists the frames. While frames are written, `unfinished.json`
stands in its place, so that a later run knows what it may remove, and nobody takes a part for a scene.
"""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from raytrans.data.guards import read_json
from raytrans.data.readers import READERS
from raytrans.data.scene import Scene
from raytrans.export.files import (
    depth_colors,
    depth_range,
    write_depth_png,
    write_json,
    write_npy,
    write_png,
    write_transforms,
)
from raytrans.geometry.cameras import Cameras
from raytrans.rendering.compositing import Rendering
from raytrans.rendering.depth import confidence
from raytrans.reports.page import MARK

GENERATOR = "raytrans render"
CAMERAS, UNFINISHED = "transforms.json", "unfinished.json"
PAGE = "report.html"
WHOLE = (CAMERAS, "summary.json", "video.mp4", PAGE, UNFINISHED)  # cameras first: without them the rest is no scene
MAPS = ("depth", "opacity", "spread", "confidence")
KINDS = ("color/{}.png", "depth/{}.png", "depth16/{}.png", *(f"{kind}/{{}}.npy" for kind in MAPS))
TOP16 = 65535
COLOR = re.compile(r"color/(\d{4,})\.png")
SOLID = 0.5  # opacity from which a pixel shows a surface
UNSURE = 0.25  # spread over distance beyond which a pixel shows a guess: most floaters, few true surfaces


def number_of(index: int) -> str:
    """How the files of a frame are numbered."""
    return f"{index:04d}"


def frame_files(numbers: Iterable[str]) -> list[str]:
    """Every file of some frames, relative to the folder."""
    return [kind.format(number) for number in numbers for kind in KINDS]


def scene_files(scene: Scene, path: Path) -> list[Path]:
    """What an opened scene consists of: cameras, images, depths, masks, points, and last what was opened."""
    path = path.expanduser()
    cameras = [file for reader in READERS.values() for file in reader.found_in(path)]
    pixels = [file for frame in scene.frames for file in (frame.image, frame.depth, frame.mask) if file is not None]
    named = [(file, _content(file).get("ply_file_path")) for file in cameras if file.suffix.lower() == ".json"]
    return [*cameras, *pixels, *(file.parent / points for file, points in named if isinstance(points, str)), path]


def check_folder(folder: Path, files: Sequence[Path], count: int) -> None:
    """Refuse a folder in which `count` frames would mix with, hide or write over what no rendering wrote.

    files: those of the scene. Raises ValueError as `check_capture`, and where a file is in the way that no earlier
    rendering there lists.
    """
    check_capture(folder, files)
    planned = [*WHOLE, *frame_files(map(number_of, range(count)))]
    own = earlier_files(folder)
    for name in planned:
        if name not in own and ((folder / name).exists() or (folder / name).is_symlink()):
            raise ValueError(f"--out: {folder / name} is in the way, and not of a rendering; choose another folder")


def check_capture(folder: Path, files: Sequence[Path]) -> None:
    """Refuse a folder that a file of the scene lies in or below, or that holds another capture; ValueError."""
    inside = next((file for file in files if is_inside(file, folder)), None)
    if inside is not None:
        raise ValueError(f"--out: {folder} holds a file of the scene, {inside}; choose another folder")
    if not folder.is_dir():
        return
    captures = [file for reader in READERS.values() for file in reader.found_in(folder)]
    foreign = [file for file in (*captures, *sorted(folder.glob("transforms*.json"))) if not is_marked(file)]
    if foreign:
        raise ValueError(f"--out: {folder} holds a capture, {foreign[0].name}; choose another folder")


def check_file(option: str, file: Path | None, files: Iterable[Path]) -> None:
    """Refuse to write over a file in or below a folder of a scene; ValueError naming the option.

    files: those of the scene. A format has more of them than are listed (poses, intrinsics), in the same folders.
    """
    if file is not None and file.exists():
        folders = {one if one.is_dir() else one.parent for one in files}
        if any(is_inside(file, folder) for folder in folders):
            raise ValueError(f"{option}: {file} is there already, in a folder of the scene; choose another file")


def check_own(file: Path) -> None:
    """Refuse to write over a file, unless it is empty or numbers or a page of ours; ValueError naming the file."""
    if file.exists() and not is_own(file):
        raise ValueError(f"{file} is there already, and not a report of raytrans; choose another file")


def is_own(file: Path) -> bool:
    """Whether a file holds nothing, or numbers or a page that one of the commands wrote."""
    if not file.is_file():
        return False
    with open(file, "rb") as stream:
        head = stream.read(1024)
    if head.startswith(b"{"):
        versions = _content(file).get("versions")
        return isinstance(versions, dict) and "raytrans" in versions
    return not head or MARK.encode() in head


def is_inside(file: Path, folder: Path) -> bool:
    """Whether a file lies in a folder or below it, as it is named or where links lead."""
    named = Path(os.path.abspath(file)).is_relative_to(os.path.abspath(folder))
    return named or file.resolve().is_relative_to(folder.resolve())


def is_marked(file: Path) -> bool:
    """Whether this command wrote a JSON file."""
    return _read(file) is not None


def _read(file: Path) -> dict | None:
    """Content of a JSON file that carries the mark, else None."""
    content = _content(file)
    return content if content.get("generator") == GENERATOR else None


def _content(file: Path) -> dict:
    """What a JSON file holds; empty where it is none, or no object."""
    try:
        content = read_json(file)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _numbers(folder: Path) -> list[str]:
    """Numbers of the frames that an earlier rendering, finished or not, lists."""
    contents = [content for name in (CAMERAS, UNFINISHED) if (content := _read(folder / name)) is not None]
    listed = [frames for content in contents if isinstance(frames := content.get("frames"), list)]
    names = [str(frame.get("file_path")) for frames in listed for frame in frames if isinstance(frame, dict)]
    return sorted({match[1] for name in names if (match := COLOR.fullmatch(name))})


def earlier_files(folder: Path) -> set[str]:
    """Names of all files of an earlier rendering, finished or not; empty where there is none."""
    marked = any(is_marked(folder / name) for name in (CAMERAS, UNFINISHED))
    return {*WHOLE, *frame_files(_numbers(folder))} if marked else set()


def begin(folder: Path, count: int) -> None:
    """Remove what an earlier rendering lists, to be called when the first of `count` new frames is there."""
    old = earlier_files(folder)
    numbers = sorted({*_numbers(folder), *map(number_of, range(count))})
    frames = [{"file_path": KINDS[0].format(number)} for number in numbers]
    write_json(folder / UNFINISHED, {"generator": GENERATOR, "frames": frames})
    for name in (*WHOLE, *frame_files(numbers)):
        if name in old - {UNFINISHED}:
            (folder / name).unlink(missing_ok=True)


def finish(folder: Path) -> None:
    """Say that everything is written."""
    (folder / UNFINISHED).unlink(missing_ok=True)


def write_frame(folder: Path, index: int, out: Rendering) -> np.ndarray:
    """Write colours, depth, opacity, spread and confidence of a rendering; the colours as uint8, for the video."""
    number = number_of(index)
    write_png(folder / f"color/{number}.png", out.color.clamp(0, 1))
    for kind in MAPS:
        write_npy(folder / f"{kind}/{number}.npy", confidence(out) if kind == "confidence" else getattr(out, kind))
    return (out.color.clamp(0, 1) * 255).round().byte().numpy()


def surface_depth(out: Rendering) -> np.ndarray:
    """Depth for pictures: NaN where less than half of a ray meets a surface, or where its distance is a guess."""
    hidden = (out.opacity < SOLID) | (out.spread > UNSURE * out.distance)
    return torch.where(hidden, torch.nan, out.depth).numpy().astype(np.float32)


def write_depth_pictures(folder: Path, depths: list[np.ndarray]) -> dict[str, float | None]:
    """Write depth as colours, all pictures on one scale; the ends of the scale."""
    near, far = depth_range(depths)
    for index, depth in enumerate(depths):
        write_png(folder / f"depth/{number_of(index)}.png", depth_colors(depth, near, far))
    return {"depth_near": near, "depth_far": far}


def write_depth16(folder: Path, count: int) -> dict[str, float | None]:
    """Write the depths of `count` frames again as 16-bit PNG, 0 where unknown; the scale, units for a step, of all.

    The farthest depth of all frames is step 65535. None where nothing is known.
    """
    files = [folder / f"depth/{number_of(index)}.npy" for index in range(count)]
    farthest = max(float(np.nan_to_num(np.load(file)).max(initial=0)) for file in files)
    scale = farthest / TOP16 if farthest > 0 else None
    for index, file in enumerate(files):
        write_depth_png(folder / f"depth16/{number_of(index)}.png", np.load(file), scale or 1.0)
    return {"depth16_scale": scale}


def write_cameras(folder: Path, cameras: list[Cameras], depth16_scale: float | None = None) -> None:
    """Write the rendered cameras as `transforms.json`, naming colours and depths, and the scale of `depth16/`."""
    numbers = [number_of(index) for index in range(len(cameras))]
    colors, depths = [f"color/{number}.png" for number in numbers], [f"depth/{number}.npy" for number in numbers]
    extra = {"generator": GENERATOR, "depth16_scale": depth16_scale}
    write_transforms(folder / CAMERAS, Cameras.stack(cameras), colors, depths, extra=extra, replace=True)


def padded(frames: list[np.ndarray]) -> list[np.ndarray]:
    """Frames of differing sizes in the middle of black ones of one size, as a video needs."""
    height, width = (max(frame.shape[axis] for frame in frames) for axis in (0, 1))
    out = []
    for frame in frames:
        missing = height - frame.shape[0], width - frame.shape[1]
        out.append(np.pad(frame, [*((m // 2, m - m // 2) for m in missing), (0, 0)]))
    return out
