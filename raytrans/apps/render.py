"""Render novel views and depth of a captured scene into a folder that is a scene again."""

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from raytrans.apps import advice, cli, outputs
from raytrans.apps.captures import Capture
from raytrans.apps.pixels import explained, sure_pixel
from raytrans.apps.progress import Progress
from raytrans.apps.reporting import page_of_rendering
from raytrans.data.readers import open_scene
from raytrans.data.readers.transforms import read_cameras
from raytrans.data.readers.viewer_paths import is_camera_path, read_camera_path
from raytrans.data.scene import Scene
from raytrans.export.files import write_json, write_video
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.paths import PATHS
from raytrans.processes import ALONE, Processes
from raytrans.rendering.compositing import Rendering
from raytrans.rendering.renderer import Renderer
from raytrans.rendering.synthesis import PRECISIONS, encode, render
from raytrans.training.baselines import nearest_view
from raytrans.training.metrics import SSIM_WINDOW, depth_abs_rel, depth_median, psnr, ssim

PATH_RATE, STILL_RATE = 24, 2  # frames per second of a video along a path, and of one that hops between views
FRAMES = 48  # of a path
SHORTEST_VIDEO = 3  # seconds
USUAL_RATE = 2500  # rays per second of one CPU core, from 8 sources, for the first guess of the time


@dataclass(frozen=True)
class Target:
    """A camera to render; `index` is the view of the scene that it belongs to, if any."""

    camera: Cameras
    index: int | None = None


@dataclass
class Rendered:
    """One rendering with the CPU seconds spent on its encoding (0 where that was there already) and on its rays.

    pixel: what made one of its pixels, where that was asked for.
    """

    target: Target
    sources: list[int]
    out: Rendering
    encoding: float
    rendering: float
    pixel: dict | None = None


def parser() -> ArgumentParser:
    """Command line of `tools/render.py`."""
    out = ArgumentParser(
        prog="render",
        description="Render novel views and depth of a scene from its photographs. DIR receives color/0000.png, "
        "depth/0000.npy (float32 z-depth in the units of the scene, NaN where opacity is below 0.05), depth/0000.png "
        "(the same as colours, near red, far blue, one scale for all, black where less than half of a ray meets a "
        "surface or its distance is a guess), depth16/0000.png (16 bits, 0 where unknown; times depth16_scale of "
        "summary.json it is the depth), opacity/0000.npy, spread/0000.npy (standard deviation of the distance), "
        "confidence/0000.npy (0 to 1), video.mp4, transforms.json (the rendered cameras, so that DIR is a scene "
        "again), summary.json, and report.html to look at: pictures beside the truth, and what made one of the pixels. "
        "An earlier rendering in DIR is replaced; a folder that holds a capture is refused.",
    )
    out.add_argument("scene", metavar="SCENE", help=cli.SCENE)
    out.add_argument("--out", type=cli.output_folder, required=True, metavar="DIR", help="folder to write to")
    cli.add_checkpoint_argument(out)
    text = "what to render: the held-out views (default), all views, a path around the scene (orbit), before it "
    text += "(spiral), through its views (interpolate) or about the most central one (wander), or the "
    out.add_argument(
        "--views",
        default="holdout",
        metavar="holdout|all|orbit|spiral|interpolate|wander|FILE.json",
        help=text + "cameras of a transforms.json in the frame of the scene, or of a camera_path.json of nerfstudio's "
        "viewer, which needs the dataparser_transforms.json of its training",
    )
    text = "the dataparser_transforms.json of a camera path (default: the one beside it)"
    out.add_argument("--dataparser-transforms", type=Path, metavar="FILE", help=text)
    cli.add_source_arguments(out, max_size=400)
    text = f"number of frames of a path (default: {FRAMES})"
    out.add_argument("--frames", type=cli.positive_int, metavar="N", help=text)
    text = "frames per second of the video (default: 24 along a path, 2 between views, fewer where they are few)"
    out.add_argument("--fps", type=cli.positive_float, metavar="F", help=text)
    text = "float32 (default), or bfloat16: faster and less exact"
    out.add_argument("--precision", choices=("float32", "bfloat16"), default=PRECISIONS[0], help=text)
    text = "recorded in the summary; rendering itself draws nothing at random (default: 0)"
    out.add_argument("--seed", type=cli.seed, default=0, help=text)
    text = "the pixel that the report explains: number of the picture, column and row, each from 0 (default: a sure "
    text += "one in the middle of the first picture)"
    out.add_argument("--pixel", type=cli.whole_number, nargs=3, metavar=("N", "X", "Y"), help=text)
    cli.add_no_page_argument(out)
    cli.add_json_argument(out)
    cli.share(out)
    return out


def main(arguments: Namespace) -> int:
    """Render as the command line says; the exit status."""
    with cli.together(arguments.device) as processes:
        return render_share(arguments, processes)


def render_share(arguments: Namespace, processes: Processes) -> int:
    """Render one's share of the pictures, as one of some processes, and write those of all as the first."""
    start = time.monotonic()
    torch.manual_seed(arguments.seed)
    check_options(arguments.views, arguments.frames, arguments.dataparser_transforms)
    capture = Capture(open_scene(arguments.scene), arguments.sources, arguments.max_size)
    count, transforms = arguments.frames or FRAMES, arguments.dataparser_transforms
    targets, rate = chosen_targets(capture, arguments.views, count, transforms)
    if processes.first:
        check_outputs(arguments, capture.scene, len(targets))
    asked = None if arguments.no_report else arguments.pixel or [0]
    check_pixel(arguments.pixel, arguments.no_report, targets)
    plan = planned(capture, targets)
    model = cli.load_model(arguments, [capture.scene], processes.device)
    cli.say(opening(capture, plan, next(model.parameters()).device.type == "cpu"))
    cli.warn(advice.on_orbit(capture.scene.cameras) if arguments.views == "orbit" else [])
    cli.warn(advice.on_sources(capture, [sources for _, sources in plan]))
    processes.tell()  # before the first hour of work: whether all can do theirs
    frames, depths, rows, pixel = [], [], [], None
    bar = Progress("rendering", rays_of(plan[processes.rank :: processes.count]), "rays")
    own = rendered(model, capture, plan, arguments.precision, asked, processes, bar.traced)
    own = ((done, checked(capture, done, arguments.checkpoint)) for done in own)
    for number, (done, row) in enumerate(bar.over(processes.interleaved(own))):
        rows.append({"number": number, **row})
        pixel = pixel or done.pixel
        if number == 0:
            outputs.begin(arguments.out, len(targets))
        frames.append(outputs.write_frame(arguments.out, number, done.out))
        depths.append(outputs.surface_depth(done.out))
        cli.say(told(rows, len(targets)))
    if not processes.first:
        return 0
    scale = outputs.write_depth_pictures(arguments.out, depths) | outputs.write_depth16(arguments.out, len(depths))
    write_video(arguments.out / "video.mp4", outputs.padded(frames), arguments.fps or rate)
    outputs.write_cameras(arguments.out, [target.camera for target in targets], scale["depth16_scale"])
    values = {
        **summary(rows),
        **scale,
        "seconds": time.monotonic() - start,
        "peak_memory_bytes": cli.peak_memory(),
        **cli.checkpoint_facts(arguments.checkpoint),
        "versions": cli.versions(),
        "seed": arguments.seed,
        "scene": str(arguments.scene),
        "max_size": arguments.max_size,
        "precision": arguments.precision,
        "processes": processes.count,
        "fps": arguments.fps or rate,
        "views": rows,
        "pixel": pixel,
    }
    write_json(arguments.out / "summary.json", values)
    outputs.finish(arguments.out)
    cli.write_report(arguments.json, values)
    cli.say(closing(values, arguments.out))
    cli.warn(remarks(rows, values))
    cameras, file = [target.camera for target in targets], arguments.out / outputs.PAGE
    cli.write_page(None if asked is None else file, lambda: page_of_rendering(capture, cameras, frames, depths, values))
    return 0


def check_options(views: str, frames: int | None, transforms: Path | None) -> None:
    """Refuse options that these views would not listen to; ValueError naming the option."""
    if frames is not None and (views in ("holdout", "all") or Path(views).is_file()):
        raise ValueError(
            f"--frames: expected with --views {', '.join(PATHS)}, got --views {views}, whose number is fixed"
        )
    if transforms is None or not (views in ("holdout", "all", *PATHS) or Path(views).is_file()):
        return  # an unknown word, or a file that is missing, has an error of its own
    if views.endswith(".json") and is_camera_path(Path(views)):
        return
    raise ValueError(
        f"--dataparser-transforms: expected with a camera path of nerfstudio's viewer, got --views {views}"
    )


def check_pixel(pixel: Sequence[int] | None, unused: bool, targets: list[Target]) -> None:
    """Refuse `--pixel` outside of what is rendered, or beside `--no-report`; ValueError."""
    if pixel is None:
        return
    if unused:
        raise ValueError("--pixel: expected without --no-report, since it is the report that explains it")
    number, x, y = pixel
    if number >= len(targets):
        raise ValueError(f"--pixel: expected a picture from 0 to {len(targets) - 1}, got {number}")
    camera = targets[number].camera
    if x >= camera.width or y >= camera.height:
        raise ValueError(f"--pixel: expected a place in {camera.width}x{camera.height} pixels, got {x} {y}")


def check_outputs(arguments: Namespace, scene: Scene, count: int) -> None:
    """Refuse outputs that would mix with the scene, or write over it, over another capture, or over the cameras."""
    files = outputs.scene_files(scene, Path(arguments.scene))
    outputs.check_folder(arguments.out, files, count)
    cameras, old = Path(arguments.views), arguments.out / outputs.CAMERAS
    if cameras.is_file() and old.is_file() and cameras.samefile(old):
        raise ValueError(f"--views: {cameras} would be written over; choose another --out")


def opening(capture: Capture, plan: list[tuple[Target, list[int]]], on_cpu: bool) -> str:
    """What is about to be done, and on a CPU about how long it takes."""
    cameras, most = [target.camera for target, _ in plan], max(len(sources) for _, sources in plan)
    largest = max(cameras, key=lambda camera: camera.width * camera.height)
    same = all((c.width, c.height) == (largest.width, largest.height) for c in cameras)
    size = f"{'' if same else 'up to '}{largest.width}x{largest.height} pixels (width x height)"
    counts = f"{len(plan)} picture{'s'[: len(plan) > 1]} of {size}, from {most} source view{'s'[: most > 1]} each"
    seconds = rays_of(plan) / USUAL_RATE
    return f"{capture.scene.path}: {counts}" + (f"; about {cli.duration(seconds)} on one core" if on_cpu else "")


def chosen_targets(
    capture: Capture, views: str, frames: int, transforms: Path | None = None
) -> tuple[list[Target], float]:
    """What `--views` stands for, and the frames per second of its video.

    ValueError for an unknown word, a file that is no list of cameras, no view at all.
    """
    scene, rate = capture.scene, None
    if views in ("holdout", "all"):
        indices = scene.split("holdout") if views == "holdout" else range(len(scene))
        if not indices:
            raise ValueError(f"--views: {scene.path} has no held-out view ({len(scene)} in all); try --views orbit")
        targets = [Target(capture.camera(i), i) for i in indices]
    else:
        cameras, rate = path_cameras(scene, views, frames, transforms)
        targets = [Target(capture.fitted(camera)) for camera in cameras]
    return targets, rate or video_rate(targets)


def path_cameras(scene: Scene, views: str, frames: int, transforms: Path | None) -> tuple[Cameras, float | None]:
    """Cameras along a path or of a file, and its frames per second where the file says."""
    if views in PATHS:
        return PATHS[views](scene.cameras, frames), None
    if not views.endswith(".json"):
        words = ", ".join(("holdout", "all", *PATHS))
        raise ValueError(f"--views: expected {words} or a .json file of cameras, got {views!r}")
    if not Path(views).is_file():
        raise ValueError(f"--views: no such file {views}")
    if is_camera_path(Path(views)):
        path = read_camera_path(Path(views), transforms)
        return path.cameras, path.fps
    return read_cameras(Path(views)), None


def planned(capture: Capture, targets: list[Target]) -> list[tuple[Target, list[int]]]:
    """The targets with the views that each is rendered from; ValueError where none is left for one of them."""
    return [(target, capture.sources(target.camera, target.index)) for target in targets]


def rendered(
    model: Renderer,
    capture: Capture,
    plan: list[tuple[Target, list[int]]],
    precision: str = "float32",
    asked: Sequence[int] | None = None,
    processes: Processes = ALONE,
    tell: Callable[[int], None] | None = None,
) -> Iterator[Rendered]:
    """Render this process's share of the targets in order; neighbours with the same sources share their encoding.

    asked: the number of a target of which a pixel is explained, and column and row of that, or a sure one. tell: as in
    `raytrans.render`.
    """
    encoded, before = None, None
    for number in range(processes.rank, len(plan), processes.count):
        target, sources = plan[number]
        start = time.process_time()
        if sources != before:
            encoded, before = None, sources  # the old one goes before the new one is made
            encoded = encode(model, capture.views(sources))
        middle = time.process_time()
        out = render(model, encoded, target.camera, precision, tell=tell).map(lambda value: value.cpu())
        done = Rendered(target, sources, out, middle - start, time.process_time() - middle)
        if asked and number == asked[0]:
            pixel, views = tuple(asked[1:]) or sure_pixel(out), capture.views(sources)
            found = explained(model, views, sources, target.camera, pixel, encoded, precision)
            done.pixel = {"picture": number, **found}
        yield done


def checked(capture: Capture, done: Rendered, checkpoint: Path | None) -> dict[str, object]:
    """What is `measured` of a rendering; ValueError where its colours are no numbers."""
    cli.check_finite(done.out.color, checkpoint)
    return measured(capture, done)


def measured(capture: Capture, done: Rendered) -> dict[str, object]:
    """Sources, size and times of a rendering, and its errors where the truth is known."""
    camera, index = done.target.camera, done.target.index
    row: dict[str, object] = {"view": index, "sources": done.sources, "height": camera.height, "width": camera.width}
    row |= {"encode_cpu_seconds": done.encoding, "render_cpu_seconds": done.rendering}
    row["opacity"] = done.out.opacity.mean().item()
    if index is None:
        return row
    image = capture.image(index)
    nearest = nearest_view(capture.views(done.sources), camera)
    return {**row, **errors(done.out, image, capture.depth(index)), "psnr_nearest": psnr(nearest, image)}


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
    for name in ("psnr", "psnr_nearest", "ssim", "depth_abs_rel", "depth_median"):
        known = [row[name] for row in rows if row.get(name) is not None]
        values[name] = sum(known) / len(known) if known else None
    rays = sum(row["height"] * row["width"] for row in rows)
    cpu = {f"{kind}_cpu_seconds": sum(row[f"{kind}_cpu_seconds"] for row in rows) for kind in ("encode", "render")}
    return {**values, "rays": rays, "rays_per_second": rays / max(cpu["render_cpu_seconds"], 1e-9), **cpu}


def video_rate(targets: list[Target]) -> float:
    """Frames per second: a few frames last long enough to be seen."""
    rate = PATH_RATE if targets[0].index is None else STILL_RATE
    return min(rate, len(targets) / SHORTEST_VIDEO)


def rays_of(plan: list[tuple[Target, list[int]]]) -> int:
    """How many rays the targets of a plan have."""
    return sum(target.camera.height * target.camera.width for target, _ in plan)


def told(rows: list[dict], count: int) -> str:
    """One line about the latest of `count` renderings."""
    row = rows[-1]
    parts = [f"{len(rows)}/{count}", f"{row['width']}x{row['height']}"]
    parts += [] if row.get("psnr") is None else [f"view {row['view']}", f"{row['psnr']:.2f} dB"]
    parts += [] if row.get("depth_abs_rel") is None else [f"depth error {100 * row['depth_abs_rel']:.1f} %"]
    return "  ".join([*parts, f"{row['encode_cpu_seconds'] + row['render_cpu_seconds']:.1f} CPU-seconds"])


def closing(values: dict, folder: Path) -> str:
    """What to tell at the end."""
    known = {name: f"{values[name]:.4g}" for name in ("psnr", "ssim", "depth_abs_rel") if values[name] is not None}
    if "psnr" in known:
        known["psnr"] += f" (nearest source {values['psnr_nearest']:.4g})"
    speed = f"{values['rays_per_second']:.0f} rays per CPU-second, {values['peak_memory_bytes'] / 1e6:.0f} MB"
    means = [f"{name} {value}" for name, value in known.items()]
    return "  ".join([*means, speed]) + f"\nwritten to {folder}"


def remarks(rows: list[dict], values: dict) -> list[str]:
    """What the numbers and pictures should not be taken for."""
    tested = [row for row in rows if row["view"] is not None]
    views, nearest = [row["view"] for row in tested], [row["psnr_nearest"] for row in tested]
    alone = max(len(row["sources"]) for row in rows) < 2  # what one source shows says nothing of the poses
    return [
        *advice.on_opacity([row["opacity"] for row in rows]),
        *advice.on_duplicates(views, nearest),
        *([] if alone else advice.on_quality(values["psnr"], values["psnr_nearest"])),
    ]
