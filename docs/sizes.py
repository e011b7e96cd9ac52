"""Measures what steps and renderings of the size `base` cost beside the released weights, for docs/scale.md.

`python docs/sizes.py` prints, for untrained weights of `base` and for the released ones, CPU-seconds (one thread, the
second of two runs), operations of products and convolutions, bytes of all operands and results, and the peak memory of
a process of its own.
"""

import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from raytrans.apps.benchmarks.counting import counted
from raytrans.apps.benchmarks.workloads import Case, prepared
from raytrans.apps.cli import peak_memory
from raytrans.models.config import model_config
from raytrans.rendering.renderer import Renderer
from raytrans.training.checkpoint import save_model

CASES = (
    Case("training", 4, (128, 128), rays=1024),
    Case("training", 8, (64, 64), rays=1024),
    Case("training", 8, (128, 128), rays=1024),
    Case("training", 8, (128, 128), rays=4096),
    Case("rendering", 8, (128, 128)),
)


def measured(checkpoint: Path | None, case: Case) -> str:
    """One line of the table."""
    torch.set_num_threads(1)
    work = prepared(case, checkpoint)
    work.run()
    peak, begin = peak_memory(), time.process_time()
    work.run()
    seconds, found = time.process_time() - begin, counted(work.run)
    what = f"{case.task}, {case.sources} sources of {case.size[1]}x{case.size[0]}, {work.rays} rays"
    counts = f"{found['flops'] / 1e9:.1f} GFLOP, {found['bytes'] / 1e9:.1f} GB"
    return f"{what}: {seconds:.2f} CPU-seconds, {counts}, peak {peak / 1e6:.0f} MB"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "base.safetensors"
        torch.manual_seed(0)
        save_model(base, Renderer(model_config("base")), {})
        for name, path in (("base", base), ("released", None)):
            for one in CASES:
                with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                    print(name, pool.submit(measured, path, one).result(), flush=True)
