"""Measure renderings of held-out views against three renderers that learn nothing."""

import difflib
import math
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from raytrans.apps import advice, cli, outputs
from raytrans.apps.captures import Capture, evenly_spaced
from raytrans.apps.progress import Progress
from raytrans.apps.reporting import chosen
from raytrans.apps.scoring import Case, Scored, Scores
from raytrans.data.generate import TEST_SETS, test_set
from raytrans.data.generate.scene import GeneratedScene
from raytrans.data.readers import open_scene
from raytrans.data.scene import HOLDOUT_STEP, Scene
from raytrans.data.selection import nearest
from raytrans.data.views import Views
from raytrans.equivariance.rigs import quarter_turned, rolled, scene_size
from raytrans.export.files import write_png
from raytrans.geometry.rigid import random_rotation
from raytrans.processes import ALONE, Processes
from raytrans.rendering.renderer import Renderer
from raytrans.rendering.sources import EncodedViews
from raytrans.rendering.synthesis import encode, render
from raytrans.reports.evaluation import evaluation_page
from raytrans.reports.page import Page
from raytrans.reports.pictures import Shown, contact_sheet
from raytrans.training.baselines import mean_of_sources, nearest_view, plane_sweep
from raytrans.training.metrics import DEPTH_METRICS

PROTOCOLS = ("I/I", "I/SE3", "I/roll", "I/target-roll", "I/any-roll", "I/disc", "I/3")
METHODS = ("model", "nearest", "mean", "sweep")
SETS = {
    f"{name}{tail}": (name, side, sources)
    for tail, side, sources in (("", 64, 6), ("-128", 128, 8))
    for name in TEST_SETS
}
PICTURES = 3  # of a scene in the report


def parser() -> ArgumentParser:
    """Command line of `tools/evaluate.py`."""
    out = ArgumentParser(
        prog="evaluate",
        description="Render every held-out view of some scenes from views that are not held out, and print PSNR, SSIM "
        "and depth errors beside those of three renderers that learn nothing: the nearest source view, the mean of the "
        "sources, and a plane sweep. 'margin': by how much the worst view beats its nearest source, in dB. Where depth "
        "is known: AbsRel, SqRel, RMSE (in its units), RMSE log, delta < 1.25, 1.25^2, 1.25^3 over predicted pixels, "
        "means over the views, as they are and with every view scaled by the ratio of medians.",
    )
    text = (
        f"{cli.SCENE}, or 'easy' or 'full': the generated test sets (64x64 pixels, 6 sources, exact depth), 'easy-128' "
        "or 'full-128': the same scenes at 128x128 pixels from 8 sources"
    )
    out.add_argument("scenes", nargs="+", metavar="SCENE", help=text)
    text = (
        "I/I: as given (default); I/SE3: cameras in a random world frame; I/roll: sources rolled by quarter turns with "
    )
    out.add_argument(
        "--protocol",
        nargs="+",
        choices=PROTOCOLS,
        default=[PROTOCOLS[0]],
        metavar="|".join(PROTOCOLS),
        help=text + "their images; I/target-roll: the target camera rolled, colours compared along the same rays; "
        "I/any-roll: sources rolled by any angle, images resampled, grey outside the disc that stays inside; I/disc: "
        "so, but not rolled; I/3: from the three nearest sources",
    )
    text = "measure N of the held-out views, evenly spaced in their order (default: all)"
    out.add_argument("--views", type=cli.positive_int, metavar="N", help=text)
    cli.add_checkpoint_argument(out)
    cli.add_source_arguments(out, max_size=200)
    text = "take the sources from all over a capture, not the nearest: for depth from a clip whose neighbouring frames "
    out.add_argument("--spread", action="store_true", help=text + "have hardly a baseline")
    text = "also write a picture of every held-out view: target, rendering, depth"
    out.add_argument("--contact-sheet", type=cli.output_file, metavar="FILE.png", help=text)
    out.add_argument("--seed", type=cli.seed, default=0, help="of the random frames and rolls (default: 0)")
    cli.add_page_argument(out)
    cli.add_json_argument(out)
    cli.share(out)
    return out


def main(arguments: Namespace) -> int:
    """Evaluate as the command line says; the exit status."""
    with cli.together(arguments.device) as processes:
        return evaluate_share(arguments, processes)


def evaluate_share(arguments: Namespace, processes: Processes) -> int:
    """Measure one's share of the views, as one of some processes, and report those of all as the first."""
    if arguments.contact_sheet is not None and arguments.contact_sheet.suffix.lower() != ".png":
        raise ValueError(f"--contact-sheet: expected a .png file, got {arguments.contact_sheet}")
    captures = {name: None if name in SETS else opened(name) for name in arguments.scenes}
    files = [file for name, scene in captures.items() if scene for file in outputs.scene_files(scene, Path(name))]
    if processes.first:
        outputs.check_file("--contact-sheet", arguments.contact_sheet, files)
    model = cli.load_model(arguments, filter(None, captures.values()), processes.device)
    results, shown = [], {}
    for name, scene in captures.items():
        capture = None if scene is None else Capture(scene, arguments.sources, arguments.max_size, arguments.spread)
        cases = set_cases(name) if capture is None else scene_cases(capture, arguments.views)
        shown[name] = []
        bar = Progress(Path(name).name, rays_of(name, capture, arguments, processes), "rays")
        scored = bar.over(processes.interleaved(evaluated(model, cases, arguments, processes, bar.traced)))
        results += collected(name, scored, arguments.protocol, shown[name])
    if not processes.first:
        return 0
    cli.say(report(results))
    if any(one[method]["depth_metrics"] for one in results for method in METHODS):
        cli.say("\n" + depth_report(results))
    for one in results:
        if one["protocol"] == arguments.protocol[0]:
            views, nearest = zip(*((row["view"], row["nearest"]["psnr"]) for row in one["views"]), strict=True)
            cli.warn(f"{one['scene']}: {line}" for line in advice.on_duplicates(views, nearest))
    values = {
        "scenes": results,
        "seed": arguments.seed,
        **cli.checkpoint_facts(arguments.checkpoint),
        "versions": cli.versions(),
        "sources": arguments.sources,
        "max_size": arguments.max_size,
        "spread": arguments.spread,
    }
    cli.write_report(arguments.json, values)
    if arguments.contact_sheet is not None:
        write_png(arguments.contact_sheet, contact_sheet([one for views in shown.values() for one in views]))
        cli.say(f"contact sheet: {arguments.contact_sheet}")
    cli.write_page(arguments.report, lambda: page(values, shown))
    return 0


def opened(name: str) -> Scene:
    """The scene of that path; ValueError with the test set that a path of nothing comes close to."""
    near = [] if Path(name).expanduser().exists() else difflib.get_close_matches(name, SETS, 1)
    if near:
        raise ValueError(f"{name}: no such file or folder (is it the test set {near[0]}?)")
    return open_scene(name)


def rays_of(name: str, capture: Capture | None, arguments: Namespace, processes: Processes = ALONE) -> int:
    """How many rays of a scene or test set this process renders, under all protocols."""
    if capture is None:
        kind, side, _ = SETS[name]
        sizes = [side * side] * (2 * len(TEST_SETS[kind]))
    else:
        cameras = [capture.camera(i) for i in measured_views(capture, arguments.views)]
        sizes = [camera.height * camera.width for camera in cameras]
    return len(arguments.protocol) * sum(sizes[processes.rank :: processes.count])


def set_cases(name: str) -> Iterator[Case]:
    """Held-out views of the scenes of a generated test set, 0 and 8, from the nearest of the other eight."""
    kind, side, sources = SETS[name]
    for scene in test_set(kind, side):
        yield from generated_cases(scene, sources)


def generated_cases(scene: GeneratedScene, count: int) -> Iterator[Case]:
    """Held-out views of one generated scene, with `count` sources each."""
    holdout = list(range(0, len(scene), HOLDOUT_STEP))
    for i in holdout:
        camera = scene.cameras[i]
        chosen = sorted(nearest(scene.cameras, camera, count, exclude=holdout))
        views = Views([scene.images[k] for k in chosen], scene.cameras[chosen])
        yield Case(f"{scene.seed}/{i}", views, camera, scene.images[i], scene.depth[i])


def measured_views(capture: Capture, wanted: int | None = None) -> list[int]:
    """The held-out views of a scene, or `wanted` of them; ValueError where it has none."""
    holdout = capture.scene.split("holdout")
    if not holdout:
        raise ValueError(f"{capture.scene.path}: no held-out view ({len(capture.scene)} in all)")
    return [holdout[k] for k in evenly_spaced(len(holdout), wanted)]


def scene_cases(capture: Capture, wanted: int | None = None) -> Iterator[Case]:
    """Held-out views of a scene on disk, or `wanted` of them; ValueError where it has none."""
    for i in measured_views(capture, wanted):
        camera = capture.camera(i)
        views = capture.views(capture.sources(camera, i))
        yield Case(str(i), views, camera, capture.image(i), capture.depth(i))


def evaluated(
    model: Renderer,
    cases: Iterator[Case],
    arguments: Namespace,
    processes: Processes = ALONE,
    tell: Callable[[int], None] | None = None,
) -> Iterator[tuple[str, Scored]]:
    """Names and scores of this process's share of the cases, in order. tell: as in `raytrans.render`."""
    for number, case in enumerate(cases):
        if number % processes.count != processes.rank:
            continue
        protocols = {protocol: Scores() for protocol in arguments.protocol}
        baselines, shown = {method: Scores() for method in METHODS[1:]}, None
        add_baselines(baselines, case)
        encoded = encode(model, case.views)
        for protocol, scores in protocols.items():
            color, depth = render_case(model, case, protocol, arguments.seed + number, encoded, tell)
            cli.check_finite(color, arguments.checkpoint)
            scores.add(color, depth, case)
            shown = shown or Shown(f"view {case.name}", color, depth, case.image, case.depth)
        yield case.name, Scored(protocols, baselines, shown)


def collected(
    name: str, scored: Iterable[tuple[str, Scored]], protocols: Sequence[str], shown: list[Shown]
) -> list[dict]:
    """One result of a scene for each protocol, none without a case; appends the rendering of every view to `shown`."""
    scores = {protocol: Scores() for protocol in protocols}
    baselines = {method: Scores() for method in METHODS[1:]}
    names = []
    for view, one in scored:
        names.append(view)
        shown.append(one.shown)
        for total, part in ((scores, one.protocols), (baselines, one.baselines)):
            for key, values in part.items():
                total[key].extend(values)
        found = [f"{method} {s.psnr[-1]:.2f}" for method, s in {**scores, **baselines}.items()]
        cli.say(f"{name} {view}  {'  '.join(found)} dB")
    return [result(name, protocol, names, own, baselines) for protocol, own in scores.items() if names]


def add_baselines(scores: dict[str, Scores], case: Case) -> None:
    """Render a case, in the frames as given, with the three renderers that learn nothing."""
    scores["nearest"].add(nearest_view(case.views, case.camera), None, case)
    scores["mean"].add(mean_of_sources(case.views, case.camera), None, case)
    scores["sweep"].add(*plane_sweep(case.views, case.camera), case)


def render_case(
    model: Renderer,
    case: Case,
    protocol: str,
    seed: int,
    encoded: EncodedViews | None = None,
    tell: Callable[[int], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Colour and z-depth of a case under a protocol, on the pixels of the case.

    encoded: the sources of the case as they are, encoded once for the protocols that do not change them.
    """
    generator = torch.Generator().manual_seed(seed)
    views, camera, back = case.views, case.camera, 0
    if protocol == "I/SE3":
        motion = random_rotation(generator=generator), torch.randn(3, dtype=torch.float64, generator=generator)
        motion = motion[0], scene_size(views, camera) * motion[1]
        views, camera = views.moved(*motion), camera.moved(*motion)
    elif protocol == "I/roll":
        turns = torch.randint(1, 4, (len(views),), generator=generator).tolist()
        views = quarter_turned(views, dict(enumerate(turns)))
    elif protocol in ("I/any-roll", "I/disc"):
        angles = 2 * math.pi * torch.rand(len(views), generator=generator)
        views = rolled(views, (angles * (protocol == "I/any-roll")).tolist())
    elif protocol == "I/target-roll":
        back = int(torch.randint(1, 4, (), generator=generator))
        camera = camera.quarter_turned(back)
    elif protocol == "I/3":
        views = views[sorted(nearest(views.cameras, camera, 3))]
    out = render(model, encoded if encoded is not None and views is case.views else views, camera, tell=tell)
    return tuple(torch.rot90(value.cpu(), -back, (0, 1)) for value in (out.color, out.depth))


def result(name: str, protocol: str, names: list[str], own: Scores, baselines: dict[str, Scores]) -> dict:
    """Numbers of one scene under one protocol, with a row for each view."""
    methods = {"model": own, **baselines}
    margins = [a - b for a, b in zip(own.psnr, baselines["nearest"].psnr, strict=True)]
    rows = []
    for i, view in enumerate(names):
        row = {"view": view, "margin": margins[i]}
        rows.append(row | {method: {"psnr": s.psnr[i], "ssim": _at(s.ssim, i, names)} for method, s in methods.items()})
    values = {method: scores.values() for method, scores in methods.items()}
    return {"scene": name, "protocol": protocol, **values, "worst_margin": min(margins), "views": rows}


def _at(values: list[float], index: int, names: list[str]) -> float | None:
    return values[index] if len(values) == len(names) else None


def report(results: list[dict]) -> str:
    """The table: a row for each scene, protocol and method."""
    rows = []
    for one in results:
        for method in METHODS:
            values = one[method]
            depth = [values[key] for key in ("depth_median", "depth_mean", "depth_close")]
            margin = f"{one['worst_margin']:+.2f}" if method == "model" else ""
            quality = f"{values['psnr']:.2f}", "-" if values["ssim"] is None else f"{values['ssim']:.3f}"
            known = ["-" if d is None else f"{100 * d:.1f} %" for d in depth]
            rows.append(
                (Path(one["scene"]).name, one["protocol"], str(len(one["views"])), method, *quality, *known, margin)
            )
    header = (
        "scene",
        "protocol",
        "views",
        "method",
        "PSNR",
        "SSIM",
        "depth median",
        "depth mean",
        "within 3 %",
        "margin",
    )
    return cli.table(header, rows)


def depth_report(results: list[dict]) -> str:
    """The table of `depth_metrics`: a row for each scene, protocol and method with depth, and scaling."""
    rows = []
    for one in results:
        for method in METHODS:
            for scaling, key in (("none", "depth_metrics"), ("median", "depth_metrics_scaled")):
                values = one[method][key]
                if values is not None:
                    shown = ["-" if values[name] is None else f"{values[name]:.4g}" for name in DEPTH_METRICS]
                    rows.append((Path(one["scene"]).name, one["protocol"], method, scaling, *shown))
    names = ("AbsRel", "SqRel", "RMSE", "RMSE log", "d < 1.25", "d < 1.25^2", "d < 1.25^3", "predicted")
    return cli.table(("depth of", "protocol", "method", "scaling", *names), rows)


def page(values: dict, shown: dict[str, list[Shown]]) -> Page:
    """The page of `--report`: the numbers of `--json`, and a few views of every scene."""
    some = {}
    for name, views in shown.items():
        first = next(one for one in values["scenes"] if one["scene"] == name)
        some[name] = [views[k] for k in chosen([row["model"]["psnr"] for row in first["views"]], PICTURES)]
    return evaluation_page(values, METHODS, some)
