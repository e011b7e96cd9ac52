"""Render novel views and depth of a captured scene into a folder that is a scene again."""

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from raytrans.apps import cli
from raytrans.apps.captures import Capture
from raytrans.data.readers import open_scene
from raytrans.data.readers.transforms import read_cameras
from raytrans.export.files import (
    depth_colors,
    depth_range,
    write_json,
    write_npy,
    write_png,
    write_transforms,
    write_video,
)
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.paths import orbit, spiral
from raytrans.rendering.compositing import Rendering
from raytrans.rendering.renderer import Renderer
from raytrans.rendering.synthesis import PRECISIONS, encode, render
from raytrans.training.metrics import SSIM_WINDOW, depth_abs_rel, depth_median, psnr, ssim

PATHS = {"orbit": orbit, "spiral": spiral}
SOLID = 0.5  # opacity from which a pixel shows a surface
PATH_RATE, STILL_RATE = 24, 2  # frames per second of a video along a path, and of one that hops between views


@dataclass(frozen=True)
class Target:
    """A camera to render; `index` is the view of the scene that it belongs to, if any."""

    camera: Cameras
    index: int | None = None


@dataclass
class Rendered:
    """One rendering with the CPU seconds spent on its encoding (0 where that was there already) and on its rays."""

    target: Target
    sources: list[int]
    out: Rendering
    encoding: float
    rendering: float


def parser() -> ArgumentParser:
    """Command line of `tools/render.py`."""
    out = ArgumentParser(
        prog="render",
        description="Render novel views and depth of a scene from its photographs. DIR receives color/0000.png, "
        "depth/0000.npy (float32 z-depth in the units of the scene, NaN where opacity is below 0.05), depth/0000.png "
        "(the same as colours, near red, far blue, one scale for all, black where less than half of a ray meets a "
        "surface), video.mp4, transforms.json (the rendered cameras, so that DIR is a scene again) and summary.json. "
        "Numbered pictures that an earlier rendering left in DIR are removed.",
    )
    out.add_argument("scene", metavar="SCENE", help="folder with a transforms.json, or the path of that file")
    out.add_argument("--out", type=cli.output_folder, required=True, metavar="DIR", help="folder to write to")
    cli.add_checkpoint_argument(out)
    text = "what to render: the held-out views (default), all views, a path around or before the scene, or the "
    out.add_argument(
        "--views",
        default="holdout",
        metavar="holdout|all|orbit|spiral|FILE.json",
        help=text + "cameras of a transforms.json in the frame of the scene",
    )
    cli.add_source_arguments(out, max_size=400)
    text = "number of frames of an orbit or spiral (default: 48)"
    out.add_argument("--frames", type=cli.positive_int, default=48, metavar="N", help=text)
    text = "float32 (default), or bfloat16: faster and less exact"
    out.add_argument("--precision", choices=("float32", "bfloat16"), default=PRECISIONS[0], help=text)
    text = "recorded in the summary; rendering itself draws nothing at random (default: 0)"
    out.add_argument("--seed", type=cli.seed, default=0, help=text)
    cli.add_json_argument(out)
    return out


def main(arguments: Namespace) -> int:
    """Render as the command line says; the exit status."""
    start = time.monotonic()
    torch.manual_seed(arguments.seed)
    check_no_capture(arguments.out)
    capture = Capture(open_scene(arguments.scene), arguments.sources, arguments.max_size)
    targets = chosen_targets(capture, arguments.views, arguments.frames)
    model = cli.load_model(arguments)
    cli.say(opening(capture, targets))
    frames, depths, rows = [], [], []
    for number, done in enumerate(rendered(model, capture, targets, arguments.precision)):
        cli.check_finite(done.out.color, arguments.checkpoint)
        if number == 0:
            remove_frames(arguments.out)
        rows.append({"number": number, **measured(capture, done)})
        frames.append(write_frame(arguments.out, number, done.out))
        depths.append(surface_depth(done.out))
        cli.say(progress(rows[-1], len(targets)))
    write_cameras(arguments.out, [target.camera for target in targets])
    rate = PATH_RATE if targets[0].index is None else STILL_RATE
    write_video(arguments.out / "video.mp4", padded(frames), rate)
    values = {
        **summary(rows),
        **write_depth_pictures(arguments.out, depths),
        "seconds": time.monotonic() - start,
        "peak_memory_bytes": cli.peak_memory(),
        **cli.checkpoint_facts(arguments.checkpoint),
        "versions": cli.versions(),
        "seed": arguments.seed,
        "scene": str(arguments.scene),
        "max_size": arguments.max_size,
        "precision": arguments.precision,
        "views": rows,
    }
    write_json(arguments.out / "summary.json", values)
    cli.write_report(arguments.json, values)
    cli.say(closing(values, arguments.out))
    return 0


def check_no_capture(folder: Path) -> None:
    """Refuse to write over the `transforms.json` of a capture; that of an earlier rendering may go."""
    if (folder / "transforms.json").exists() and not (folder / "color" / "0000.png").exists():
        raise ValueError(f"--out: {folder} holds a capture, whose transforms.json would be lost; choose another folder")


def remove_frames(folder: Path) -> None:
    """Remove the numbered pictures that an earlier rendering left in the folder."""
    for old in (*folder.glob("color/[0-9]*.png"), *folder.glob("depth/[0-9]*.png"), *folder.glob("depth/[0-9]*.npy")):
        if old.stem.isdigit():
            old.unlink()


def opening(capture: Capture, targets: list[Target]) -> str:
    """What is about to be done."""
    camera, more = targets[0].camera, "" if len(targets) == 1 else "s"
    sizes = f"{camera.width} wide and {camera.height} high"
    lines = f"{capture.scene.path}: {len(targets)} picture{more} {sizes}, from up to {capture.count} source views each"
    if min(capture.count, len(capture.scene) - 1) < 2:
        lines += "\nwarning: depth cannot be found from one source view"
    return lines


def chosen_targets(capture: Capture, views: str, frames: int) -> list[Target]:
    """What `--views` stands for; ValueError for an unknown word, a file that is no list of cameras, no view at all."""
    scene = capture.scene
    if views in PATHS:
        return [Target(capture.fitted(camera)) for camera in PATHS[views](scene.cameras, frames)]
    if views in ("holdout", "all"):
        indices = scene.split("holdout") if views == "holdout" else range(len(scene))
        if not indices:
            raise ValueError(f"--views: {scene.path} has no held-out view ({len(scene)} in all); try --views orbit")
        return [Target(capture.camera(i), i) for i in indices]
    if not views.endswith(".json"):
        raise ValueError(f"--views: expected holdout, all, orbit, spiral or a .json file of cameras, got {views!r}")
    if not Path(views).is_file():
        raise ValueError(f"--views: no such file {views}")
    return [Target(capture.fitted(camera)) for camera in read_cameras(Path(views))]


def rendered(
    model: Renderer, capture: Capture, targets: list[Target], precision: str = "float32"
) -> Iterator[Rendered]:
    """Render the targets one after the other; neighbours with the same sources share their encoding."""
    plan = [(target, capture.sources(target.camera, target.index)) for target in targets]
    encoded, before = None, None
    for target, sources in plan:
        start = time.process_time()
        if sources != before:
            encoded, before = None, sources  # the old one goes before the new one is made
            encoded = encode(model, capture.views(sources))
        middle = time.process_time()
        out = render(model, encoded, target.camera, precision).map(lambda value: value.cpu())
        yield Rendered(target, sources, out, middle - start, time.process_time() - middle)


def measured(capture: Capture, done: Rendered) -> dict[str, object]:
    """Sources, size and times of a rendering, and its errors where the truth is known."""
    camera, index = done.target.camera, done.target.index
    row: dict[str, object] = {"view": index, "sources": done.sources, "height": camera.height, "width": camera.width}
    row |= {"encode_cpu_seconds": done.encoding, "render_cpu_seconds": done.rendering}
    row["opacity"] = done.out.opacity.mean().item()
    return row if index is None else {**row, **errors(done.out, capture.image(index), capture.depth(index))}


def errors(out: Rendering, image: Tensor, depth: Tensor | None) -> dict[str, float | None]:
    """PSNR, SSIM (None for images smaller than its window), mean and median relative depth error (None if unknown)."""
    known = depth is not None and bool(torch.isfinite(depth).any())
    return {
        "psnr": psnr(out.color, image),
        "ssim": ssim(out.color, image) if min(image.shape[:2]) >= SSIM_WINDOW else None,
        "depth_abs_rel": depth_abs_rel(out.depth, depth) if known else None,
        "depth_median": depth_median(out.depth, depth) if known else None,
    }


def summary(rows: list[dict]) -> dict[str, object]:
    """Means over the rendered views of what is known, and rays per CPU-second with the encoder's time left out."""
    values: dict[str, object] = {}
    for name in ("psnr", "ssim", "depth_abs_rel", "depth_median"):
        known = [row[name] for row in rows if row.get(name) is not None]
        values[name] = sum(known) / len(known) if known else None
    rays = sum(row["height"] * row["width"] for row in rows)
    cpu = {f"{kind}_cpu_seconds": sum(row[f"{kind}_cpu_seconds"] for row in rows) for kind in ("encode", "render")}
    return {**values, "rays": rays, "rays_per_second": rays / max(cpu["render_cpu_seconds"], 1e-9), **cpu}


def write_frame(folder: Path, number: int, out: Rendering) -> np.ndarray:
    """Write colours and depth of one rendering; the colours as uint8, for the video."""
    write_png(folder / f"color/{number:04d}.png", out.color.clamp(0, 1))
    write_npy(folder / f"depth/{number:04d}.npy", out.depth.numpy().astype(np.float32))
    return (out.color.clamp(0, 1) * 255).round().byte().numpy()


def surface_depth(out: Rendering) -> np.ndarray:
    """Depth for pictures: NaN where less than half of a ray meets a surface."""
    return torch.where(out.opacity < SOLID, torch.nan, out.depth).numpy().astype(np.float32)


def write_depth_pictures(folder: Path, depths: list[np.ndarray]) -> dict[str, float | None]:
    """Write depth as colours, all pictures on one scale; the ends of the scale."""
    near, far = depth_range(depths)
    for number, depth in enumerate(depths):
        write_png(folder / f"depth/{number:04d}.png", depth_colors(depth, near, far))
    return {"depth_near": near, "depth_far": far}


def write_cameras(folder: Path, cameras: list[Cameras]) -> None:
    """Write the rendered cameras as `transforms.json`, naming colours and depths."""
    numbers = [f"{number:04d}" for number in range(len(cameras))]
    colors, depths = [f"color/{number}.png" for number in numbers], [f"depth/{number}.npy" for number in numbers]
    write_transforms(folder / "transforms.json", Cameras.stack(cameras), colors, depths)


def padded(frames: list[np.ndarray]) -> list[np.ndarray]:
    """Frames of differing sizes in the middle of black ones of one size, as a video needs."""
    height, width = (max(frame.shape[axis] for frame in frames) for axis in (0, 1))
    out = []
    for frame in frames:
        missing = height - frame.shape[0], width - frame.shape[1]
        out.append(np.pad(frame, [*((m // 2, m - m // 2) for m in missing), (0, 0)]))
    return out


def progress(row: dict, total: int) -> str:
    """One line about one rendering."""
    parts = [f"{row['number'] + 1}/{total}", f"{row['height']}x{row['width']}"]
    parts += [] if row.get("psnr") is None else [f"view {row['view']}", f"{row['psnr']:.2f} dB"]
    parts += [] if row.get("depth_abs_rel") is None else [f"depth error {100 * row['depth_abs_rel']:.1f} %"]
    return "  ".join([*parts, f"{row['encode_cpu_seconds'] + row['render_cpu_seconds']:.1f} CPU-seconds"])


def closing(values: dict, folder: Path) -> str:
    """What to tell at the end."""
    means = [f"{name} {values[name]:.4g}" for name in ("psnr", "ssim", "depth_abs_rel") if values[name] is not None]
    speed = f"{values['rays_per_second']:.0f} rays per CPU-second, {values['peak_memory_bytes'] / 1e6:.0f} MB"
    return "  ".join([*means, speed]) + f"\nwritten to {folder}"
