"""What all systems share: every attention commutes with the group of its space, and none has a softmax of its own."""

import ast
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

import raytrans
from raytrans.fields.so3 import PointType
from raytrans.fields.types import FieldType
from raytrans.geometry.rays import Rays
from raytrans.geometry.spaces import DIRECTIONS, POINTS, RAYS, DirectionPairs, LatticeSpace
from raytrans.layers.attention import RayAttention
from raytrans.layers.kernel import RayKernel
from raytrans.layers.points import PointKernel
from raytrans.systems.algebra import MultivectorTransformer
from raytrans.systems.molecules.equiformer import Equiformer, EquiformerConfig
from raytrans.systems.molecules.torchmd import Architecture, EquivariantTransformer
from raytrans.systems.spins.effective import SpinAttention

SYSTEMS = Path(raytrans.__file__).parent / "systems"
ROTATION = torch.tensor(Rotation.random(random_state=7).as_matrix())
SHIFT = torch.tensor([0.8, -1.3, 0.4], dtype=torch.float64)
OWN = {"softmax", "scaled_dot_product_attention", "MultiheadAttention", "scatter_reduce", "svd", "eigh"}


@dataclass(frozen=True)
class Case:
    """A layer with its input, how the group moves that, and how it moves the output."""

    layer: Callable[[object], Tensor]
    elements: object
    act: Callable[[object], object]
    turn: Callable[[Tensor], Tensor]


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(len(shape)))


def attention_between(space, kernel=RayKernel) -> Case:
    """`RayAttention` of a space on itself; features of points turn with the world, those of rays with nothing."""
    kind = PointType("2x0 + 1x1 + 1x2") if space is POINTS else FieldType("2x0 + 1x1 + 1x2")
    layer = RayAttention(kind, kind, kind, heads=2, kernel=kernel).double()
    points, features = drawn(6, 3), drawn(6, kind.dim)
    elements = points if space is POINTS else Rays.from_points(points, drawn(6, 2, 3)[:, 1])

    def turn(values: Tensor) -> Tensor:
        return kind.transform(values, ROTATION) if space is POINTS else values

    return Case(
        lambda given: layer(given[0], given[0], given[1], given[1]),
        (elements, features),
        lambda given: (space.act(given[0], ROTATION, SHIFT), turn(given[1])),
        turn,
    )


def multivectors(variant: str) -> Case:
    model = MultivectorTransformer(variant, ((3, 2), (4, 4), (2, 2)), layers=1, heads=2).double()
    # coordinates of the Euclidean algebra are those from a centre, which moves along
    shift = 0 * SHIFT if variant == "E" else SHIFT
    tokens = drawn(5, model.in_type.dim)
    return Case(
        model,
        tokens,
        lambda given: model.in_type.transform(given, ROTATION, shift),
        lambda out: model.out_type.transform(out, ROTATION, shift),
    )


def molecule(model, kind: PointType | None) -> Case:
    """Energies, or the features of the atoms where `kind` names their type."""
    numbers, system = torch.tensor([6, 1, 1, 8, 1]), torch.zeros(5, dtype=torch.long)

    def layer(positions: Tensor) -> Tensor:
        return model(numbers, positions, system, 1) if kind is None else model.features(numbers, positions, system)

    return Case(
        layer,
        1.2 * drawn(5, 3),
        lambda positions: POINTS.act(positions, ROTATION, SHIFT),
        lambda out: out if kind is None else kind.transform(out, ROTATION),
    )


def spins() -> Case:
    space = LatticeSpace(4, 4)
    layer = SpinAttention(space, heads=2).double()
    torch.nn.init.normal_(layer.sums.weight)
    moved = space.act(torch.arange(16), 1, (2, 3), mirror=True)

    def act(values: Tensor) -> Tensor:
        out = torch.empty_like(values)
        out[moved] = values @ ROTATION.mT
        return out

    return Case(layer, torch.nn.functional.normalize(drawn(16, 3), dim=-1), act, act)


CASES = {
    "rays": lambda: attention_between(RAYS),
    "directions": lambda: attention_between(DIRECTIONS, partial(RayKernel, pairs=DirectionPairs)),
    "points": lambda: attention_between(POINTS, PointKernel),
    **{f"multivectors {variant}": lambda v=variant: multivectors(v) for variant in ("E", "P", "iP", "C")},
    "equivariant transformer": lambda: molecule(
        EquivariantTransformer([1, 6, 8], Architecture(8, 2, 2, 6)).double(), Architecture(8, 2, 2, 6).type
    ),
    "Equiformer": lambda: molecule(
        Equiformer(EquiformerConfig(elements=(1, 6, 8), channels=(8, 4, 4), blocks=1, heads=2)).double(), None
    ),
    "spins": spins,
}


@pytest.mark.parametrize("name", CASES)
def test_a_moved_input_gives_a_moved_output_in_every_space(name):
    torch.manual_seed(0)
    case = CASES[name]()
    with torch.no_grad():
        plain, moved = case.layer(case.elements), case.layer(case.act(case.elements))
    expected = case.turn(plain)
    assert torch.isfinite(plain).all() and plain.abs().max() > 1e-3
    assert (moved - expected).abs().max() < 1e-9 * expected.abs().max()


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("rays", "directions", "Equiformer")])
def test_an_output_that_stays_is_caught(name):
    """Outputs in the axes of the world have to move: where they stay, the test above would not hold."""
    torch.manual_seed(0)
    case = CASES[name]()
    with torch.no_grad():
        plain, moved = case.layer(case.elements), case.layer(case.act(case.elements))
    assert (moved - plain).abs().max() > 1e-3 * plain.abs().max()


def own_mechanisms(source: str) -> list[str]:
    """Names in a module that only the core should call: softmaxes, fused attention, null spaces."""
    names = [node.attr for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)]
    names += [node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)]
    return sorted(OWN & set(names))


def test_no_system_has_an_attention_or_a_null_space_of_its_own():
    files = sorted(SYSTEMS.rglob("*.py"))
    assert len(files) > 20
    assert {file.name: found for file in files if (found := own_mechanisms(file.read_text()))} == {}
    assert own_mechanisms("import torch\ntorch.softmax(x, -1)") == ["softmax"]
