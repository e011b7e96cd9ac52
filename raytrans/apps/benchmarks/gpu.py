"""Frames per second on a GPU, in both precisions, with and without compilation; nothing where there is none."""

import time
from collections.abc import Callable
from statistics import median

import torch

from raytrans.apps.benchmarks.settings import Settings
from raytrans.apps.benchmarks.tables import Table
from raytrans.apps.benchmarks.workloads import Case, sources_and_target
from raytrans.rendering.synthesis import encode, render
from raytrans.training.checkpoint import load

PRECISIONS = ("float32", "bfloat16")


def measured(settings: Settings, machine: dict) -> dict:
    """{"device": name, "frames": [row]}, without rows where there is no CUDA device."""
    if not torch.cuda.is_available():
        return {"device": None, "frames": []}
    rows = [row for size in settings.sizes.gpu_frames for row in frames(settings, "cuda", size, "inductor")]
    return {"device": torch.cuda.get_device_name(), "frames": rows}


def frames(settings: Settings, device: str, size: tuple[int, int], backend: str) -> list[dict]:
    """Rows of every precision, as it is and compiled by a backend of torch, of (height, width) from sources alike."""
    views, camera = sources_and_target(Case(sources=settings.sizes.count, size=size))
    rows = []
    for precision in PRECISIONS:
        for compiled in (None, backend):
            model = load(settings.checkpoint, device)
            if compiled:
                model.compile(backend=compiled, dynamic=True)
            encoded = encode(model, views)
            speed = _frames_per_second(
                lambda m=model, e=encoded, p=precision: render(m, e, camera, p), device, settings
            )
            what = {"size": list(size), "sources": len(views), "precision": precision, "compiled": compiled is not None}
            rows.append({**what, **speed})
    return rows


def _frames_per_second(draw: Callable[[], object], device: str, settings: Settings) -> dict[str, float | int | None]:
    """Seconds of the first frame, which compiles and chooses kernels, and the median of those after it."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(settings.repeats + 1):
        start = time.perf_counter()
        draw()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    found = median(seconds[1:])
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else None
    return {"seconds": found, "first_seconds": seconds[0], "frames_per_second": 1 / found, "peak_memory_bytes": peak}


def tables(values: dict) -> list[Table]:
    """Frames per second; none without a GPU."""
    header = ("target", "precision", "compiled", "frames per second", "rays per second", "first, seconds", "peak MB")
    rows = []
    for row in values["frames"]:
        height, width = row["size"]
        peak = None if row["peak_memory_bytes"] is None else round(row["peak_memory_bytes"] / 1e6)
        speed = row["frames_per_second"], round(height * width / row["seconds"]), row["first_seconds"], peak
        rows.append((f"{width}x{height}", row["precision"], "yes" if row["compiled"] else "no", *speed))
    return [Table(f"On a GPU: {values['device']}", header, rows)] if rows else []
