"""Single layers: cost of a token or a pair, growth over pairs, and what geometry costs beside plain attention."""

from collections.abc import Callable

import torch

from raytrans.apps.benchmarks import attention, growth
from raytrans.apps.benchmarks.counting import roofline
from raytrans.apps.benchmarks.measure import isolated, often
from raytrans.apps.benchmarks.settings import Settings
from raytrans.apps.benchmarks.stages import stages
from raytrans.apps.benchmarks.tables import Table
from raytrans.geometry.rays import Rays
from raytrans.layers.attention import RayAttention
from raytrans.layers.convolution import RayConvolution
from raytrans.layers.neighborhood import Gathered
from raytrans.training.checkpoint import load

FEATURES, QUERY, PER_TARGET = "8x0 + 4x1 + 2x2", "8x0 + 4x1", 16
LAYERS = {
    "RayConvolution": lambda: RayConvolution(FEATURES, FEATURES),
    "RayAttention": lambda: RayAttention(FEATURES, QUERY, FEATURES, heads=2),
}


def measured(settings: Settings, machine: dict) -> dict:
    """{"stages": {name: row}, "pairs": {layer: {count: row, "growth": fit}}, "attention": {name: row}}."""
    found = isolated(_measured, settings)
    rows = [*found["stages"].values(), *(row for along in found["pairs"].values() for row in along["rows"].values())]
    for row in rows:
        row |= roofline(row["flops"], row["bytes"], row["cpu_seconds"], machine)
    return found


def _measured(settings: Settings) -> dict:
    sizes, model = settings.sizes, load(settings.checkpoint)
    alone = {
        name: {**often(call, settings.repeats), "over": what, "count": count}
        for name, (call, what, count) in stages(model, sizes).items()
    }
    compared = {}
    for name, (ours, plain, count) in attention.pairs(sizes, model.config).items():
        both = [often(work, settings.repeats)["cpu_seconds"] for work in (ours, plain)]
        compared[name] = {
            "cpu_seconds": both[0],
            "plain_cpu_seconds": both[1],
            "ratio": both[0] / both[1],
            "pairs": count,
        }
    kernel = often(attention.scaled_dot_product(sizes), settings.repeats)
    return {
        "stages": alone,
        "pairs": {name: _over_pairs(name, settings) for name in LAYERS},
        "attention": compared,
        "scaled_dot_product": {"tokens": sizes.tokens[0], "dim": sizes.tokens[1], **kernel},
    }


def _over_pairs(name: str, settings: Settings) -> dict:
    rows = {}
    for count in settings.sizes.pairs:
        rows[count] = {**often(layer_pass(LAYERS[name](), count), settings.repeats), "over": "pair", "count": count}
    fit = growth.fitted(list(rows), [row["cpu_seconds"] for row in rows.values()])
    return {"rows": rows, "growth": {"values": list(rows), **fit}}


def layer_pass(layer: torch.nn.Module, pairs: int) -> Callable[[], None]:
    """Forward and backward over targets that see `PER_TARGET` sources each, of as many sources as targets."""
    generator = torch.Generator().manual_seed(0)
    targets = pairs // PER_TARGET
    x, y = _rays(targets, generator), _rays(targets, generator)
    index = torch.randint(targets, (targets, PER_TARGET), generator=generator)
    neighborhood = Gathered.from_index(index, (targets,))
    types = [layer.query_type] if isinstance(layer, RayAttention) else []
    inputs = [torch.randn(targets, t.dim, generator=generator, requires_grad=True) for t in (*types, layer.in_type)]
    return lambda: layer(x, y, *inputs, neighborhood).square().sum().backward()


def _rays(count: int, generator: torch.Generator) -> Rays:
    origin, direction = (torch.randn(count, 3, generator=generator) for _ in range(2))
    return Rays.from_points(origin, direction / direction.norm(dim=-1, keepdim=True))


HEADER = ("CPU-us each", "of", "how many", "GFLOP", "GB", "share, memory", "share, cache")
NOTE = (
    "Stages without gradients, on the inputs of the first chunk of a rendering (the encoder on one batch of sources, "
    "the sweep on all of them); ray layers forward and backward, 16 sources a target."
)
ATTENTION_NOTE = (
    "Ours over a block of plain attention with projections, and feed-forward where ours has one, on the same tokens in "
    "the same run. `RayAttention` makes a key and a value of its own for every pair of rays, which plain attention "
    "makes once for every token: that is what a complete kernel costs, and why the renderer's stages do without."
)


def tables(values: dict) -> list[Table]:
    """Stages and layers alone, growth over pairs, and attention beside torch's."""
    rows = [(name, *_cells(row)) for name, row in values["stages"].items()]
    for name, along in values["pairs"].items():
        rows += [(f"{name}, {count} pairs", *_cells(row)) for count, row in along["rows"].items()]
    fits = [("forward and backward", name, *growth.cells(along["growth"])) for name, along in values["pairs"].items()]
    kernel = values["scaled_dot_product"]
    beside = [
        (name, 1e3 * row["cpu_seconds"], 1e3 * row["plain_cpu_seconds"], row["ratio"])
        for name, row in values["attention"].items()
    ]
    name = f"torch's kernel alone, {kernel['tokens']} tokens of {kernel['dim']}"
    beside.append((name, None, 1e3 * kernel["cpu_seconds"], None))
    return [
        Table("Layers alone", ("layer", *HEADER), rows, NOTE),
        Table("Growth over pairs", ("pass", "layer", *growth.HEADER), fits),
        Table("Attention", ("layer", "CPU-ms", "plain CPU-ms", "ratio"), beside, ATTENTION_NOTE),
    ]


def _cells(row: dict) -> tuple:
    shares = (f"{row[name]:.0%}" for name in ("share_memory", "share_cache"))
    each = 1e6 * row["cpu_seconds"] / row["count"]
    return (each, row["over"], row["count"], row["flops"] / 1e9, row["bytes"] / 1e9, *shares)
