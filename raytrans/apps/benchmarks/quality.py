"""What speed costs: PSNR over samples a ray, and bfloat16 beside float32, renderings and contracts."""

import time
from statistics import fmean

import torch

from raytrans.apps.benchmarks.measure import isolated
from raytrans.apps.benchmarks.settings import Settings
from raytrans.apps.benchmarks.tables import Table
from raytrans.data.generate import GeneratedScene, generated_scene
from raytrans.data.views import Views
from raytrans.equivariance import check_model
from raytrans.geometry.cameras import Cameras
from raytrans.rendering.synthesis import encode, render
from raytrans.training.checkpoint import load
from raytrans.training.metrics import depth_median, psnr

FIRST_SEED = 500_100  # neither training nor the frozen test sets use it
KINDS = ("easy", "full")
COLUMNS = ("psnr", "depth_median", "rays_per_cpu_second")
LOSS = 0.1  # dB below the most samples that fewer may cost
ALIKE = 45  # dB wanted between the renderings of two precisions
CONTRACTS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def measured(settings: Settings, machine: dict) -> dict:
    """{"samples": {count: row}, "between_precisions": [dB of every scene], "contracts": {precision: {name: error}}}."""
    return isolated(_renderings, settings) | {"contracts": isolated(_contracts, settings)}


def _scene(settings: Settings, seed: int, kind: str) -> tuple[GeneratedScene, Views, Cameras]:
    """A generated scene, its sources, and the camera of its first view, which is none of them."""
    side, count = settings.sizes.side, settings.sizes.count
    scene = generated_scene(seed, kind, (side, side), count + 1)
    return scene, Views(list(scene.images[1:]), scene.cameras[1:]), scene.cameras[0]


def _renderings(settings: Settings) -> dict:
    model = load(settings.checkpoint)
    own, between = model.config, []
    found = {n: [] for n in sorted({*settings.sizes.quality_samples, own.fine})}
    scenes = [(kind, FIRST_SEED + i) for kind in KINDS for i in range(settings.sizes.scenes)]
    for kind, seed in scenes:
        scene, views, camera = _scene(settings, seed, kind)
        encoded = encode(model, views)
        for samples, rows in found.items():
            model.config = own.with_changes(fine=samples)
            start = time.process_time()
            out = render(model, encoded, camera)
            speed = camera.height * camera.width / (time.process_time() - start)
            rows.append((psnr(out.color, scene.images[0]), depth_median(out.depth, scene.depth[0]), speed))
        model.config = own
        fine, coarse = (render(model, views, camera, precision).color for precision in CONTRACTS)
        between.append(psnr(coarse, fine))
    return {
        "samples": {
            n: dict(zip(COLUMNS, map(fmean, zip(*rows, strict=True)), strict=True)) for n, rows in found.items()
        },
        "own_samples": own.fine,
        "scenes": [f"{kind} {seed}" for kind, seed in scenes],
        "between_precisions": between,
    }


def _contracts(settings: Settings) -> dict[str, dict[str, float]]:
    """Errors of `check_model` on a small scene in both precisions."""
    model, side = load(settings.checkpoint), settings.sizes.contracts
    _, views, camera = _scene(settings, FIRST_SEED, KINDS[-1])
    few, small = views[: min(4, len(views))].resized(side), camera.resized(side, side)
    reports = {name: check_model(model, few, small, dtype) for name, dtype in CONTRACTS.items()}
    return {name: {row.name: row.error for row in report.rows} for name, report in reports.items()}


SAMPLES_NOTE = (
    f"Means over generated scenes that nothing was trained on. The column beside PSNR is its difference from that with "
    f"the most samples, of which at most {LOSS} dB may be lost."
)
PRECISION_NOTE = (
    f"Largest relative errors of `tools/verify.py`; those of float32 are contracts, those of bfloat16 are reported. "
    f"Between the renderings of the two precisions at least {ALIKE} dB are wanted."
)


def tables(values: dict) -> list[Table]:
    """Quality over samples, and the two precisions."""
    rows, most = values["samples"], list(values["samples"].values())[-1]["psnr"]
    cells = [
        (str(n), f"{row['psnr']:.2f}", f"{row['psnr'] - most:+.2f}", _percent(row), round(row["rays_per_cpu_second"]))
        for n, row in rows.items()
    ]
    scenes = f"{len(values['scenes'])} scenes, {values['scenes'][0]} to {values['scenes'][-1]}"
    header = ("samples a ray", "PSNR, dB", "against most", "depth error, median", "rays per CPU-s")
    between = values["between_precisions"]
    alike = [("between the renderings, dB, mean", None, f"{fmean(between):.1f}")]
    alike.append(("between the renderings, dB, worst scene", None, f"{min(between):.1f}"))
    errors = [
        (name, *(f"{by[name]:.1e}" for by in values["contracts"].values())) for name in values["contracts"]["float32"]
    ]
    return [
        Table(f"Quality over samples ({scenes})", header, cells, SAMPLES_NOTE),
        Table("Precision", ("row", *values["contracts"]), errors + alike, PRECISION_NOTE),
    ]


def _percent(row: dict) -> str:
    return f"{row['depth_median']:.2%}"
