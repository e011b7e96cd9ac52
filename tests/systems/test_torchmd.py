"""The equivariant transformer of molecules: exact properties, a slow loop as oracle, and broken variants."""

import math

import pytest
import torch

from raytrans.fields.so3 import PointType
from raytrans.geometry.rigid import random_rotation
from raytrans.systems.molecules.batches import collate
from raytrans.systems.molecules.forces import energy_and_forces
from raytrans.systems.molecules.plain import DisplacementFeatures, PlainTransformer
from raytrans.systems.molecules.torchmd import Architecture, EquivariantTransformer
from raytrans.systems.molecules.training import Loss, constants, loss_of
from raytrans.systems.molecules.xyz import Molecule

SMALL = {"channels": 8, "layers": 2, "heads": 2, "basis": 6, "cutoff": 3.0}
ELEMENTS = [1, 6, 8]


def loose(model):
    """In float64, with weights that are all different from zero: new biases would hide a jump at the cutoff."""
    generator = torch.Generator().manual_seed(7)
    for parameter in model.double().parameters():
        parameter.data.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def transformer(**changes):
    torch.manual_seed(0)
    return loose(EquivariantTransformer(ELEMENTS, Architecture(**{**SMALL, **changes})))


def plain():
    torch.manual_seed(0)
    return loose(PlainTransformer(ELEMENTS, Architecture(**SMALL)))


def displaced():
    torch.manual_seed(0)
    return loose(EquivariantTransformer(ELEMENTS, Architecture(**SMALL, vectors=False), DisplacementFeatures))


MODELS = {
    "equivariant": transformer,
    "published": lambda: transformer(vector_cutoff=False),
    "invariant": lambda: transformer(vectors=False),
    "plain": plain,
    "displaced": displaced,
}
BLIND = ("plain", "displaced")


def atoms(count=5, seed=0):
    """Atoms on a bent chain, about 1.2 Angstrom apart: some pairs are beyond the cutoff, none on it."""
    generator = torch.Generator().manual_seed(seed)
    step = torch.tensor([[0.9, 0.6, 0.1], [0.9, -0.6, 0.3]], dtype=torch.float64).repeat(count, 1)[:count]
    positions = step.cumsum(0) + 0.1 * torch.randn(count, 3, generator=generator, dtype=torch.float64)
    return torch.tensor((ELEMENTS * count)[:count]), positions, torch.zeros(count, dtype=torch.long)


def energy(model, numbers, positions, system):
    with torch.no_grad():
        return model(numbers, positions, system, int(system.max()) + 1)


@pytest.mark.parametrize("name", MODELS)
def test_energies_know_no_order_and_no_place(name):
    model, (numbers, positions, system) = MODELS[name](), atoms()
    before = energy(model, numbers, positions, system)
    order = torch.tensor([3, 0, 4, 1, 2])
    shift = torch.tensor([3.0, -40.0, 7.0], dtype=torch.float64)
    torch.testing.assert_close(energy(model, numbers[order], positions[order], system), before, rtol=0, atol=1e-10)
    torch.testing.assert_close(energy(model, numbers, positions + shift, system), before, rtol=0, atol=1e-10)
    assert (energy(model, numbers.flip(0), positions, system) - before).abs() > 1e-4, "elements are not read"


@pytest.mark.parametrize("name", MODELS)
def test_energies_know_no_rotation_but_in_the_arms_without(name):
    model, (numbers, positions, system) = MODELS[name](), atoms()
    rotation = random_rotation(generator=torch.Generator().manual_seed(1))
    apart = (energy(model, numbers, positions @ rotation.mT, system) - energy(model, numbers, positions, system)).abs()
    assert (apart > 1e-3) if name in BLIND else (apart < 1e-10)


@pytest.mark.parametrize("name", MODELS)
def test_molecules_of_a_batch_do_not_see_each_other(name):
    model, first, second = MODELS[name](), atoms(5), atoms(4, seed=2)
    numbers, positions = (torch.cat([a, b]) for a, b in zip(first[:2], second[:2], strict=True))
    together = energy(model, numbers, positions, torch.cat([first[2], second[2] + 1]))
    alone = torch.cat([energy(model, *first), energy(model, *second)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-10)


@pytest.mark.parametrize("published", [False, True])
def test_vectors_rotate_and_scalars_stay(published):
    model, (numbers, positions, system) = transformer(vector_cutoff=not published), atoms()
    rotation = random_rotation(generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        before = model.features(numbers, positions, system)
        after = model.features(numbers, positions @ rotation.mT, system)
    expected = model.architecture.type.transform(before, rotation)
    torch.testing.assert_close(after, expected, rtol=0, atol=1e-10)
    assert before[:, 8:].abs().max() > 0.1 and (after - before)[:, 8:].abs().max() > 0.1


def test_a_layer_that_leans_to_an_axis_is_caught():
    model, (numbers, positions, system) = transformer(), atoms()
    layer = model.layers[0]
    right = layer.carried
    layer.carried = lambda *arguments: right(*arguments) + 1e-3  # the same number for x, y and z is no vector
    rotation = random_rotation(generator=torch.Generator().manual_seed(3))
    apart = (energy(model, numbers, positions @ rotation.mT, system) - energy(model, numbers, positions, system)).abs()
    assert apart > 1e-7


@pytest.mark.parametrize("name", MODELS)
def test_forces_are_the_slope_of_the_energy(name):
    model, (numbers, positions, system) = MODELS[name](), atoms()
    batch = collate([Molecule(numbers, positions)], torch.float64)
    _, forces = energy_and_forces(model, batch)
    step = 1e-5
    for atom in range(len(numbers)):
        for axis in range(3):
            move = torch.zeros_like(positions)
            move[atom, axis] = step
            up, down = (energy(model, numbers, positions + sign * move, system) for sign in (1, -1))
            assert forces[atom, axis].item() == pytest.approx(-((up - down) / (2 * step)).item(), abs=1e-7)


@pytest.mark.parametrize("name", ["equivariant", "invariant", "plain"])
def test_second_derivatives_exist(name):
    model, (numbers, positions, system) = MODELS[name](), atoms(3)
    positions = positions.requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: model(numbers, x, system, 1).sum(), positions, atol=1e-6)


def test_the_gradient_of_a_loss_of_forces_is_its_slope():
    model, (numbers, positions, _) = transformer(), atoms(4)
    batch = collate([Molecule(numbers, positions, 1.0, torch.sin(positions))], torch.float64)
    offsets, step = constants(batch.energies, batch), 1e-6
    gradients = torch.autograd.grad(
        loss_of(model, batch, offsets, Loss(0.2, 0.8)), list(model.parameters()), allow_unused=True
    )
    generator = torch.Generator().manual_seed(4)
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        way, values = torch.randn(parameter.shape, generator=generator, dtype=torch.float64), []
        for sign in (1, -1):
            parameter.data.add_(sign * step * way)
            values.append(loss_of(model, batch, offsets, Loss(0.2, 0.8)).item())
            parameter.data.sub_(sign * step * way)
        slope = 0.0 if gradient is None else (gradient * way).sum().item()
        assert slope == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-4, abs=1e-6)


def crossing(model, gap):
    """Energy and forces of three atoms whose ends are `gap` beyond the cutoff of each other."""
    reach = SMALL["cutoff"] + gap
    positions = torch.tensor([[0.0, 0, 0], [1.3, 0.8, 0.0], [reach, 0, 0]], dtype=torch.float64)
    batch = collate([Molecule(torch.tensor([6, 8, 1]), positions)], torch.float64)
    return energy_and_forces(model, batch)


def test_the_energy_is_smooth_where_a_pair_crosses_the_cutoff_and_jumps_in_the_published_form():
    """Limits from both sides by finite differences: the jump of a smooth function goes with the step."""
    jumps = {}
    for name in ("equivariant", "published"):
        model = MODELS[name]()
        for step in (1e-4, 1e-6):
            (below, force_below), (above, force_above) = crossing(model, -step), crossing(model, step)
            jumps[name, step] = (above - below).abs().item(), (force_above - force_below).abs().max().item()
    assert jumps["equivariant", 1e-6][0] < 1e-4 and jumps["equivariant", 1e-6][1] < 1e-4
    assert jumps["equivariant", 1e-6][0] == pytest.approx(jumps["equivariant", 1e-4][0] / 100, rel=1e-2)
    assert jumps["equivariant", 1e-6][1] < jumps["equivariant", 1e-4][1] / 50
    assert jumps["published", 1e-6][0] > 1e-2
    assert jumps["published", 1e-6][0] == pytest.approx(jumps["published", 1e-4][0], rel=0.1)


def by_hand(layer, features, numbers, positions, basis, cutoff, repaired):
    """One layer by loops over atoms, heads and pairs, from its equations."""
    count, one, heads = len(numbers), 8, 2
    weight = {name: value.detach() for name, value in layer.named_parameters()}

    def affine(name, x):
        return weight[f"{name}.weight"] @ x + weight[f"{name}.bias"]

    def silu(x):
        return x / (1 + torch.exp(-x))

    x, vectors = features[:, :one], features[:, one:].reshape(count, one, 3)
    normal = torch.stack([(row - row.mean()) / (row.var(unbiased=False) + 1e-5).sqrt() for row in x])
    normal = normal * weight["norm.weight"] + weight["norm.bias"]
    out_x, out_v = torch.zeros_like(x), torch.zeros_like(vectors)
    for i in range(count):
        y, w = torch.zeros(one, dtype=x.dtype), torch.zeros(one, 3, dtype=x.dtype)
        for j in range(count):
            distance = (positions[j] - positions[i]).norm()
            if distance >= cutoff:
                continue
            unit = (positions[j] - positions[i]) / distance if i != j else torch.zeros(3, dtype=x.dtype)
            fade = 0.5 * (math.cos(math.pi * distance.item() / cutoff) + 1)
            e = basis(distance) * fade
            q, k = affine("query", normal[i]), affine("key", normal[j]) * silu(affine("key_filter", e))
            s = affine("value", normal[j]) * silu(affine("value_filter", e))
            for c in range(one):
                own = [d for d in range(one) if d % heads == c % heads]
                a = silu(sum(q[d] * k[d] for d in own) / math.sqrt(len(own))) * fade
                y[c] += a * s[c]
                share = fade if repaired else 1.0
                w[c] += share * (s[one + c] * vectors[j, c] + s[2 * one + c] * unit)
        o = affine("out", y)
        mixed = torch.einsum("iw,io->ow", vectors[i], weight["mix.weights.0"])
        u1, u2, u3 = mixed[:one], mixed[one : 2 * one], mixed[2 * one :]
        out_x[i] = (u1 * u2).sum(-1) * o[one : 2 * one] + o[2 * one :]
        out_v[i] = u3 * o[:one, None] + w
    return torch.cat([out_x, out_v.reshape(count, -1)], -1)


@pytest.mark.parametrize("repaired", [True, False])
def test_a_layer_is_its_equations(repaired):
    model, (numbers, positions, system) = transformer(vector_cutoff=repaired), atoms()
    features = torch.randn(5, 32, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    with torch.no_grad():
        found = model.layers[1](features, model.edges(positions, system))
        expected = by_hand(
            model.layers[1], features, numbers, positions, model.pair_features.basis, SMALL["cutoff"], repaired
        )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_attention_is_signed_fades_at_the_cutoff_and_is_what_the_layers_use():
    model, (numbers, positions, system) = transformer(), atoms()
    with torch.no_grad():
        pairs, attention = model.attention(numbers, positions, system)
        edges = model.edges(positions, system)
        features = model.embedding(numbers, edges)
        logits = model.layers[0].logit(model.layers[0].norm(features[:, :8]), edges)
    assert attention.shape == (2, len(pairs.target_index), 2)
    distance = (positions[pairs.target_index] - positions[pairs.source_index]).norm(dim=-1)
    fade = (1 + torch.cos(math.pi * distance / SMALL["cutoff"])) / 2
    expected = logits / (1 + torch.exp(-logits)) * fade[:, None]
    torch.testing.assert_close(attention[0], expected, rtol=0, atol=1e-12)
    assert attention.min() < 0 < attention.max(), "a softmax would have no negative weights"
    assert distance.max() < SMALL["cutoff"]


@pytest.mark.parametrize("name", MODELS)
def test_what_no_model_can_read_is_named(name):
    model, (numbers, positions, system) = MODELS[name](), atoms()
    with pytest.raises(ValueError, match="numbers: expected elements among H C O, got 7 for atom 2"):
        model(torch.where(torch.arange(5) == 2, 7, numbers), positions, system, 1)
    with pytest.raises(ValueError, match="points 1 and 3 at the same"):
        model(numbers, torch.cat([positions[:3], positions[1:2], positions[4:]]), system, 1)
    with pytest.raises(ValueError, match="got none for atom 4 of molecule 1"):
        model(numbers, positions, torch.tensor([0, 0, 0, 0, 1]), 2)


def test_atoms_beyond_the_cutoff_are_alone():
    numbers, positions, system = atoms()
    positions[4] += 100
    with pytest.raises(ValueError, match="within 3 Angstrom of every atom, got none for atom 4 of molecule 0"):
        transformer()(numbers, positions, system, 1)


def test_bad_sizes_are_refused():
    for wrong in ({"channels": 9}, {"heads": 3}, {"layers": 0}):
        with pytest.raises(ValueError, match="channels, layers, heads: expected"):
            Architecture(**{**SMALL, **wrong})
    with pytest.raises(ValueError, match="cutoff"):
        EquivariantTransformer(ELEMENTS, Architecture(cutoff=0.0))


def test_types_are_those_of_points():
    assert Architecture(**SMALL).type == PointType("8x0 + 8x1")
    assert Architecture(**SMALL, vectors=False).type == PointType("8x0")
    assert repr(transformer().layers[0]) == "AttentionLayer(8x0+8x1 -> 8x0+8x1)"
