"""Measure speed and memory: rendering, training steps and single layers. CPU time counts all threads."""

import copy
import math
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable

import numpy as np
import torch

from raytrans.apps import cli
from raytrans.data.generate import generated_scene
from raytrans.data.selection import nearest
from raytrans.data.views import Views
from raytrans.geometry.rays import Rays
from raytrans.layers.attention import RayAttention
from raytrans.layers.convolution import RayConvolution
from raytrans.layers.neighborhood import Gathered
from raytrans.rendering.renderer import Renderer
from raytrans.rendering.synthesis import encode, render
from raytrans.training.config import DataConfig, OptimConfig
from raytrans.training.loop import sample_losses
from raytrans.training.samples import SceneData, draw_sample

SEED = 900_000
SIDE, SOURCES = 128, 8
STEPS = {"training step, 6 sources of 64x64": (64, 6), "training step, 8 sources of 128x128": (128, 8)}
STEP_RAYS = 1024
FEATURES, QUERY, PER_TARGET = "8x0 + 4x1 + 2x2", "8x0 + 4x1", 16
PAIRS = (16384, 65536, 262144)


def parser() -> ArgumentParser:
    """Command line of `tools/benchmark.py`."""
    out = ArgumentParser(
        prog="benchmark",
        description="Measure rays per CPU-second (process time over all threads) of rendering and of training steps, "
        "peak memory, and how the cost of the ray layers grows with the number of pairs, beside what this machine does "
        "in a matrix product and a copy.",
    )
    out.add_argument("--quick", action="store_true", help="small sizes, once each: a smoke test, no measurement")
    out.add_argument("--skip-layers", action="store_true", help="measure the model only")
    cli.add_checkpoint_argument(out)
    cli.add_json_argument(out)
    return out


def main(arguments: Namespace) -> int:
    """Run the benchmark; the exit status."""
    model = cli.load_model(arguments)
    repeats = 1 if arguments.quick else 3
    values: dict[str, object] = {"machine": reference(512 if arguments.quick else 1024, repeats)}
    cli.say("  ".join(f"{name} {value:.4g}" for name, value in values["machine"].items()))
    speeds = {"rendering, 8 sources of 128x128": rendering(model, 32 if arguments.quick else SIDE, repeats)}
    for name, (side, sources) in STEPS.items():
        side = 32 if arguments.quick else side
        speeds[name] = training(model, side, sources, repeats)
    rows = [
        (name, s["rays_per_cpu_second"], s["rays_per_second"], s["peak_memory_bytes"] / 1e6)
        for name, s in speeds.items()
    ]
    cli.say(cli.table(("what", "rays per CPU-second", "rays per second", "peak MB"), rows))
    values |= {"speed": speeds}
    if not arguments.skip_layers:
        values["layers"] = layers([p // 16 for p in PAIRS] if arguments.quick else PAIRS, repeats)
        cli.say(layer_table(values["layers"]))
    facts = {**cli.checkpoint_facts(arguments.checkpoint), "versions": cli.versions()}
    cli.write_report(arguments.json, {**values, "threads": torch.get_num_threads(), **facts})
    return 0


def timed(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Least CPU seconds and least seconds of `repeats` calls."""
    cpu, wall = [], []
    for _ in range(repeats):
        start = time.process_time(), time.perf_counter()
        work()
        cpu.append(time.process_time() - start[0])
        wall.append(time.perf_counter() - start[1])
    return max(min(cpu), 1e-9), max(min(wall), 1e-9)


def reference(size: int, repeats: int) -> dict[str, float]:
    """What the machine does while nothing else of ours runs: GFLOP/s of a float32 matrix product, GB/s of a copy."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    block, target = torch.zeros(2**25), torch.empty(2**25)
    _, product = timed(lambda: a @ b, repeats + 2)
    _, copied = timed(lambda: target.copy_(block), repeats + 2)
    return {
        "matmul_gflops": 2 * size**3 / product / 1e9,
        "copy_gb_per_second": 2 * block.nbytes / copied / 1e9,
        "threads": torch.get_num_threads(),
    }


def _speed(rays: int, cpu: float, wall: float) -> dict[str, float]:
    return {
        "rays": rays,
        "cpu_seconds": cpu,
        "seconds": wall,
        "rays_per_cpu_second": rays / cpu,
        "rays_per_second": rays / wall,
        "peak_memory_bytes": cli.peak_memory(),
    }


def rendering(model: Renderer, side: int, repeats: int) -> dict[str, float]:
    """Speed of `render` from eight sources, encoded beforehand; the encoder's CPU seconds beside it."""
    scene = generated_scene(SEED, "easy", (side, side), SOURCES + 1)
    indices = nearest(scene.cameras, scene.cameras[0], SOURCES, exclude=[0])
    views, camera = Views([scene.images[i] for i in indices], scene.cameras[indices]), scene.cameras[0]
    encoding = timed(lambda: encode(model, views), repeats)[0]
    encoded = encode(model, views)
    render(model, encoded, camera.resized(16, 16))
    found = timed(lambda: render(model, encoded, camera), repeats)
    return {**_speed(side * side, *found), "encode_cpu_seconds": encoding}


def training(model: Renderer, side: int, sources: int, repeats: int) -> dict[str, float]:
    """Speed of a training step of `STEP_RAYS` rays: encoder, loss, gradients and AdamW; drawing scenes is left out."""
    model = copy.deepcopy(model).train()
    optim = OptimConfig()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    drawn = generated_scene(SEED, "easy", (side, side), sources + 1)
    scene = SceneData(list(drawn.images), drawn.cameras, list(drawn.depth))
    config = DataConfig(sources=(sources, sources), rays=STEP_RAYS)

    def step() -> None:
        sample = draw_sample(scene, config, np.random.default_rng(SEED))
        terms = sample_losses(model, sample, optim, torch.Generator().manual_seed(SEED))
        optimizer.zero_grad(set_to_none=True)
        terms["total"].backward()
        optimizer.step()

    step()
    return _speed(STEP_RAYS, *timed(step, repeats))


def layers(pairs: list[int] | tuple[int, ...], repeats: int) -> dict[str, dict]:
    """CPU seconds of a forward and backward pass of each layer at some numbers of pairs, and the fitted exponent."""
    generator = torch.Generator().manual_seed(SEED)
    convolution, attention = RayConvolution(FEATURES, FEATURES), RayAttention(FEATURES, QUERY, FEATURES, heads=2)
    out = {}
    for layer in (convolution, attention):
        seconds = [timed(_layer_work(layer, count, generator), repeats)[0] for count in pairs]
        exponent = float(np.polyfit(np.log(pairs), np.log(seconds), 1)[0])
        out[type(layer).__name__] = {"pairs": list(pairs), "cpu_seconds": seconds, "exponent": exponent}
    return out


def _layer_work(layer: torch.nn.Module, pairs: int, generator: torch.Generator) -> Callable[[], None]:
    """A pass of a layer over targets that see `PER_TARGET` sources each, of as many sources as targets."""
    targets = pairs // PER_TARGET
    x, y = _rays(targets, generator), _rays(targets, generator)
    index = torch.randint(targets, (targets, PER_TARGET), generator=generator)
    neighborhood = Gathered.from_index(index, (targets,))
    features = torch.randn(targets, layer.in_type.dim, generator=generator, requires_grad=True)
    typed = [layer.query_type] if isinstance(layer, RayAttention) else []
    inputs = [torch.randn(targets, t.dim, generator=generator, requires_grad=True) for t in typed]

    def work() -> None:
        layer(x, y, *inputs, features, neighborhood).square().sum().backward()

    work()
    return work


def _rays(count: int, generator: torch.Generator) -> Rays:
    origin, direction = (torch.randn(count, 3, generator=generator) for _ in range(2))
    return Rays.from_points(origin, direction / direction.norm(dim=-1, keepdim=True))


def layer_table(values: dict[str, dict]) -> str:
    """Microseconds of CPU a pair, forward and backward, and the exponent of the cost in the number of pairs."""
    rows = []
    for name, value in values.items():
        cost = [1e6 * s / p for s, p in zip(value["cpu_seconds"], value["pairs"], strict=True)]
        rows.append((name, *cost, value["exponent"]))
    counts = next(iter(values.values()))["pairs"]
    ratio = math.log2(counts[-1] / counts[0])
    header = ("layer", *(f"us a pair at {count}" for count in counts), f"exponent over 2^{ratio:g}")
    return cli.table(header, rows)
