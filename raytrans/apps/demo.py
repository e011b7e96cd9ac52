"""Render a shipped scene, measure the contracts and put everything on one page."""

import time
from argparse import ArgumentParser, Namespace
from pathlib import Path

import torch

from raytrans.apps import cli, outputs
from raytrans.apps.captures import Capture
from raytrans.apps.progress import Progress
from raytrans.apps.render import Rendered, Target, errors, planned, rays_of, rendered
from raytrans.data.readers import open_scene
from raytrans.equivariance import Report, check_model
from raytrans.equivariance.models import ROWS
from raytrans.export.files import depth_colors, write_video
from raytrans.geometry.paths import orbit
from raytrans.rendering.renderer import Renderer
from raytrans.reports.page import Page
from raytrans.training.baselines import nearest_view
from raytrans.training.metrics import psnr

PAGE, ORBIT = "index.html", "orbit"
SHIPPED = Path(__file__).resolve().parents[2] / "scenes" / "blocks"
VIEW_SIZE, ORBIT_SIZE, CHECK_SIZE = 128, 72, 48
VIEWS, FRAMES, SOURCES, CHECK_SOURCES = 2, 24, 8, 4


def parser() -> ArgumentParser:
    """Command line of `tools/demo.py`."""
    out = ArgumentParser(
        prog="demo",
        description="Render two held-out views and an orbit of a small scene, measure the equivariance contracts, and "
        "write DIR/index.html with pictures and numbers. Takes less than three minutes on two cores.",
    )
    text = "folder to write to (default: out/demo)"
    out.add_argument("--out", type=cli.output_folder, default=Path("out/demo"), metavar="DIR", help=text)
    text = f"{cli.SCENE} (default: a scene of the repository)"
    out.add_argument("--scene", type=Path, default=SHIPPED, metavar="SCENE", help=text)
    cli.add_checkpoint_argument(out)
    cli.add_json_argument(out)
    return out


def main(arguments: Namespace) -> int:
    """Run the demo; the exit status is 1 where a contract is broken."""
    start = time.monotonic()
    if arguments.scene == SHIPPED and not SHIPPED.is_dir():
        raise ValueError("--scene: the default needs a clone of the repository, where scenes/blocks is; name a SCENE")
    scene = open_scene(arguments.scene)
    outputs.check_folder(arguments.out / ORBIT, outputs.scene_files(scene, arguments.scene), FRAMES)
    outputs.check_own(arguments.out / PAGE)
    model = cli.load_model(arguments, [scene])
    cli.say(f"{arguments.scene}: {VIEWS} held-out views, an orbit of {FRAMES} frames, then the contracts")
    page = Page(f"raytrans: {arguments.scene.name}")
    page.paragraph(
        "A network that was trained on other scenes renders this one from its nearest photographs. Neither the world "
        "frame, nor the scale, nor the order of the photographs, nor the roll of a camera changes what it renders."
    )
    views = show_views(model, Capture(scene, SOURCES, VIEW_SIZE), page)
    path = show_orbit(model, Capture(scene, SOURCES, ORBIT_SIZE), page, arguments.out / ORBIT)
    report = show_contracts(model, Capture(scene, CHECK_SOURCES, CHECK_SIZE), page)
    values = {
        "scene": str(arguments.scene),
        "views": views,
        "orbit": path,
        "equivariance": report.to_dict(),
        "seconds": time.monotonic() - start,
        "peak_memory_bytes": cli.peak_memory(),
        **cli.checkpoint_facts(arguments.checkpoint),
        "versions": cli.versions(),
    }
    page.paragraph(
        f"Made in {values['seconds']:.0f} seconds with at most {values['peak_memory_bytes'] / 1e6:.0f} MB, on "
        f"{torch.get_num_threads()} threads, by weights {values['checkpoint']} ({values['checkpoint_hash'][:12]})."
    )
    page.save(arguments.out / PAGE)
    cli.write_report(arguments.json, values)
    cli.say(f"{values['seconds']:.0f} seconds. Open this page in a browser: {(arguments.out / PAGE).resolve()}")
    return 0 if report.passed else 1


def show_views(model: Renderer, capture: Capture, page: Page) -> list[dict]:
    """Held-out views beside what the model and the nearest source view make of them."""
    page.heading("Views that the model was not given")
    holdout = capture.scene.split("holdout")[:VIEWS]
    targets, rows = [Target(capture.camera(i), i) for i in holdout], []
    plan = planned(capture, targets)
    bar = Progress("views", rays_of(plan), "rays")
    for done in bar.over(rendered(model, capture, plan, tell=bar.traced)):
        rows.append(_measured_view(capture, done))
        _show_view(capture, done, page)
        cli.say("  ".join(f"{name} {value:.4g}" for name, value in rows[-1].items() if value is not None))
    header = (
        "view",
        "PSNR",
        "PSNR of the nearest source",
        "SSIM",
        "depth error, mean",
        "median",
        "rays per CPU-second",
    )
    keys = ("view", "psnr", "psnr_nearest", "ssim", "depth_abs_rel", "depth_median", "rays_per_second")
    page.table(header, [[row[key] for key in keys] for row in rows], "Depth errors are relative, over all surfaces.")
    return rows


def _measured_view(capture: Capture, done: Rendered) -> dict:
    index = done.target.index
    image, depth = capture.image(index), capture.depth(index)
    closest = nearest_view(capture.views(done.sources), done.target.camera)
    speed = image.shape[0] * image.shape[1] / max(done.rendering, 1e-9)
    return {
        "view": index,
        **errors(done.out, image, depth),
        "psnr_nearest": psnr(closest, image),
        "rays_per_second": speed,
    }


def _show_view(capture: Capture, done: Rendered, page: Page) -> None:
    index = done.target.index
    known, shown = capture.depth(index), 2 * capture.max_size
    pictures = [(f"view {index}", capture.image(index)), ("rendering", done.out.color.clamp(0, 1))]
    if known is not None:
        inverse = 1 / known[torch.isfinite(known)]
        ends = (1 / inverse.quantile(0.98)).item(), (1 / inverse.quantile(0.02)).item()
        pictures += [("its depth, exact", depth_colors(known, *ends))]
    else:
        ends = None, None
    page.images([*pictures, ("its depth, rendered", depth_colors(done.out.depth, *ends))], width=shown)


def show_orbit(model: Renderer, capture: Capture, page: Page, folder: Path) -> dict:
    """A closed path as a video of colours beside depths; the frames go to a folder that is a scene again."""
    page.heading("An orbit")
    cameras = [capture.fitted(camera) for camera in orbit(capture.scene.cameras, FRAMES)]
    plan = planned(capture, [Target(camera) for camera in cameras])
    frames, depths, rays, cpu = [], [], 0, 0.0
    start = time.monotonic()
    bar = Progress("orbit", rays_of(plan), "rays")
    for number, done in enumerate(bar.over(rendered(model, capture, plan, tell=bar.traced))):
        if number == 0:
            outputs.begin(folder, FRAMES)
        frames.append(outputs.write_frame(folder, number, done.out))
        depths.append(outputs.surface_depth(done.out))
        rays, cpu = rays + done.out.opacity.numel(), cpu + done.rendering
    outputs.write_depth_pictures(folder, depths)
    write_video(folder / "video.mp4", outputs.padded(frames), 12)
    outputs.write_cameras(folder, cameras)
    outputs.finish(folder)
    page.video(f"{FRAMES} frames", frames, fps=12, width=4 * ORBIT_SIZE)
    speed, seconds = rays / max(cpu, 1e-9), time.monotonic() - start
    page.paragraph(f"{rays} rays in {seconds:.1f} seconds, {speed:.0f} rays per CPU-second, the encoder left out.")
    cli.say(f"orbit: {FRAMES} frames, {seconds:.1f} seconds, {speed:.0f} rays per CPU-second")
    return {"frames": FRAMES, "rays": rays, "seconds": seconds, "rays_per_second": speed}


def show_contracts(model: Renderer, capture: Capture, page: Page) -> Report:
    """The table of contracts, measured on a held-out view."""
    page.heading("What may not change the rendering")
    index = capture.scene.split("holdout")[0]
    camera = capture.camera(index)
    with Progress("contracts", ROWS, "rows") as tell:
        report = check_model(model, capture.views(capture.sources(camera, index)), camera, tell=tell)
    rows = [(row.name, row.error, row.tolerance, row.passed, row.note) for row in report.contracts]
    page.table(("contract", "error", "tolerance", "kept", "what"), rows, "Error is max|a - b| / max|b|.")
    page.paragraph("Reported, not promised:")
    page.table(("change", "error", "what"), [(row.name, row.error, row.note) for row in report.reported])
    cli.say(str(report))
    return report
