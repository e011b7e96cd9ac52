"""What speed costs: PSNR over samples a ray, and bfloat16 beside float32, renderings and contracts."""

import time
from statistics import fmean

import torch

from raytrans.apps.benchmarks.measure import isolated
from raytrans.apps.benchmarks.settings import Settings
from raytrans.apps.benchmarks.tables import Table
from raytrans.data.generate import generated_scene
from raytrans.data.views import Views
from raytrans.equivariance import check_model
from raytrans.rendering.synthesis import encode, render
from raytrans.training.checkpoint import load
from raytrans.training.metrics import depth_median, psnr

FIRST_SEED = 500_100  # neither training nor the frozen test sets use it
KINDS = ("easy", "full")
LOSS = 0.1  # dB below the most samples that fewer may cost
ALIKE = 45  # dB wanted between the renderings of two precisions
CONTRACTS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def measured(settings: Settings, machine: dict) -> dict:
    """{"samples": {count: row}, "between_precisions": [dB of every scene], "contracts": {precision: {name: error}}}."""
    return isolated(_measured, settings)


def _measured(settings: Settings) -> dict:
    sizes, model = settings.sizes, load(settings.checkpoint)
    own, found, between = model.config.fine, {n: [] for n in sizes.quality_samples}, []
    for kind in KINDS:
        for seed in range(FIRST_SEED, FIRST_SEED + sizes.scenes):
            scene = generated_scene(seed, kind, (sizes.side, sizes.side), sizes.count + 1)
            views, camera = Views(list(scene.images[1:]), scene.cameras[1:]), scene.cameras[0]
            encoded = encode(model, views)
            for samples in found:
                model.config = model.config.with_changes(fine=samples)
                start = time.process_time()
                out = render(model, encoded, camera)
                seconds = time.process_time() - start
                errors = psnr(out.color, scene.images[0]), depth_median(out.depth, scene.depth[0])
                found[samples].append((*errors, camera.height * camera.width / seconds))
            model.config = model.config.with_changes(fine=own)
            fine, coarse = (render(model, views, camera, precision).color for precision in CONTRACTS)
            between.append(psnr(coarse, fine))
    rows = {
        n: dict(
            zip(("psnr", "depth_median", "rays_per_cpu_second"), map(fmean, zip(*values, strict=True)), strict=True)
        )
        for n, values in found.items()
    }
    small = camera.resized(sizes.contracts, sizes.contracts)
    few = views[: min(4, len(views))].resized(sizes.contracts)
    reports = {name: check_model(model, few, small, dtype) for name, dtype in CONTRACTS.items()}
    return {
        "samples": rows,
        "own_samples": own,
        "scenes": [f"{kind} {FIRST_SEED + i}" for kind in KINDS for i in range(sizes.scenes)],
        "between_precisions": between,
        "contracts": {name: {row.name: row.error for row in report.rows} for name, report in reports.items()},
    }


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
