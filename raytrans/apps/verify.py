"""Measure the equivariance contracts of a checkpoint on a scene."""

from argparse import ArgumentParser, Namespace

import torch

from raytrans.apps import advice, cli
from raytrans.apps.captures import Capture
from raytrans.apps.progress import Progress
from raytrans.data.generate import generated_scene
from raytrans.data.readers import open_scene
from raytrans.data.scene import Scene
from raytrans.data.views import Views
from raytrans.equivariance import check_model
from raytrans.equivariance.models import ROWS
from raytrans.geometry.cameras import Cameras
from raytrans.rendering.sources import source_unit
from raytrans.reports.verification import verification_page

DTYPES = {"float32": torch.float32, "float64": torch.float64}
GENERATED_SEED = 600_000  # neither training nor the frozen test sets use it
BROKEN_CONTRACT = 1


def parser() -> ArgumentParser:
    """Command line of `tools/verify.py`."""
    out = ArgumentParser(
        prog="verify",
        description="Measure what a rendering must not depend on: the world frame, its origin and scale, the order of "
        "the sources, the sections of rays, the roll of any camera. Renders one held-out view of SCENE many times, and "
        "prints the largest relative change for every contract. The exit status is 1 when a contract is broken, and 2 "
        "when nothing can be measured, as where all cameras share one place.",
    )
    out.add_argument("scene", nargs="?", metavar="SCENE", help=f"{cli.SCENE} (default: a generated scene)")
    cli.add_checkpoint_argument(out)
    text = "arithmetic to measure in, which also fixes the tolerances (default: float32)"
    out.add_argument("--dtype", choices=tuple(DTYPES), default="float32", help=text)
    text = "long side of all images in pixels (default: 96)"
    out.add_argument("--max-size", type=cli.positive_int, default=96, metavar="P", help=text)
    text = "number of source views (default: 6)"
    out.add_argument("--sources", type=cli.positive_int, default=6, metavar="N", help=text)
    out.add_argument(
        "--seed", type=cli.seed, default=0, help="draws the motions and orders that are tried (default: 0)"
    )
    cli.add_page_argument(out)
    cli.add_json_argument(out)
    return out


def main(arguments: Namespace) -> int:
    """Verify as the command line says; the exit status."""
    scene = None if arguments.scene is None else open_scene(arguments.scene)
    model = cli.load_model(arguments, [] if scene is None else [scene])
    if scene is None:
        views, camera = generated_views(arguments.sources, arguments.max_size)
    else:
        views, camera = captured_views(scene, arguments.sources, arguments.max_size)
    if source_unit(Cameras.stack([*views.cameras, camera])) is None:
        raise ValueError(f"{arguments.scene}: no baseline: all cameras share one place, so that depth has no scale")
    with Progress("contracts", ROWS, "rows") as tell:
        report = check_model(model, views, camera, DTYPES[arguments.dtype], arguments.seed, tell)
    cli.say(str(report))
    cli.warn(advice.on_checks(views.cameras))
    facts = {
        "scene": "generated" if arguments.scene is None else str(arguments.scene),
        "dtype": arguments.dtype,
        "sources": len(views),
        "size": [camera.height, camera.width],
        "seed": arguments.seed,
        **cli.checkpoint_facts(arguments.checkpoint),
        "versions": cli.versions(),
    }
    values = {**report.to_dict(), **facts}
    cli.write_report(arguments.json, values)
    cli.write_page(arguments.report, lambda: verification_page(values, views))
    return 0 if report.passed else BROKEN_CONTRACT


def generated_views(count: int, max_size: int) -> tuple[Views, Cameras]:
    """Sources and target of a generated scene, 3 pixels high to 4 wide."""
    size = (max(1, max_size * 3 // 4), max_size)
    scene = generated_scene(GENERATED_SEED, "full", size, count + 1)
    return Views(scene.images[1:], scene.cameras[1:]), scene.cameras[0]


def captured_views(scene: Scene, count: int, max_size: int) -> tuple[Views, Cameras]:
    """The middle one of the held-out views of a scene as the target, and the sources nearest to it."""
    capture = Capture(scene, count, max_size)
    holdout = capture.scene.split("holdout") or [0]
    target = holdout[len(holdout) // 2]
    return capture.views(capture.sources(capture.scene.cameras[target], target)), capture.camera(target)
