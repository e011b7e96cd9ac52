"""The Equiformer: motions, orders, forces by differences, the softmax by a loop, the cutoff, bad input."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from raytrans.fields.so3 import PointType
from raytrans.geometry.rigid import random_rotation
from raytrans.layers.nonlinear import TypedNorm
from raytrans.systems.molecules import equiformer
from raytrans.systems.molecules.batches import collate
from raytrans.systems.molecules.equiformer import Equiformer, EquiformerConfig, GraphAttention
from raytrans.systems.molecules.forces import energy_and_forces
from raytrans.systems.molecules.training import Loss, Options, fit, loss_of
from raytrans.systems.molecules.xyz import Molecule

SMALL = EquiformerConfig(channels=(4, 2, 2), blocks=2, heads=2, basis=8, radial=8)
ARMS = {
    "mlp, non-linear": {},
    "mlp, linear": {"messages": "linear"},
    "dot, non-linear": {"attention": "dot"},
    "dot, linear": {"attention": "dot", "messages": "linear"},
    "l 0": {"channels": (8,)},
    "l 1": {"channels": (4, 3)},
    "l 3": {"channels": (4, 2, 2, 2)},
}


@pytest.fixture(autouse=True)
def double_precision():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def molecules():
    """Two of different sizes, of H, C, N and O about 1.5 Angstrom apart."""
    grid = 1.5 * torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0.0], [0, 1, 1]])
    made = []
    for numbers in ([6, 1, 8, 1], [6, 7, 1, 1, 8, 6]):
        positions = grid[: len(numbers)] + 0.2 * torch.randn(len(numbers), 3)
        made.append(Molecule(torch.tensor(numbers), positions, 1.0, torch.randn(len(numbers), 3)))
    return made


def model(**changes):
    made = Equiformer(replace(SMALL, **changes))
    for name, value in made.named_parameters():
        if name.endswith("bias"):
            value.data.normal_()
    return made


def worst(a, b):
    assert torch.isfinite(a).all() and b.std() > 1e-3
    return ((a - b).abs().max() / b.abs().max()).item()


def rotation_error(made):
    """Of energies and of forces, molecules turned and shifted each by its own motion."""
    batch = collate(molecules(), torch.float64)
    rotation, shift = random_rotation(batch.count, dtype=torch.float64), 10 * torch.randn(batch.count, 3)
    moved = batch.rotated(rotation)
    moved = replace(moved, positions=moved.positions + shift[moved.system])
    energies, forces = energy_and_forces(made, batch)
    other, turned = energy_and_forces(made, moved)
    expected = torch.einsum("aij,aj->ai", rotation[batch.system], forces)
    return max(worst(other, energies), worst(turned, expected))


@pytest.mark.parametrize("arm", ARMS)
def test_motions_leave_energies_and_turn_forces(arm):
    assert rotation_error(model(**ARMS[arm])) < 1e-10


@pytest.mark.parametrize("broken", ["table", "axes"])
def test_a_broken_model_is_caught(broken):
    made = model()
    if broken == "table":
        made.couplings.table_1[3, 4, 1] += 1e-3
    else:
        made.blocks[0].register_forward_hook(lambda block, given, x: x + 1e-3 * torch.arange(x.shape[-1]))
    assert rotation_error(made) > 1e-6


def test_features_turn_as_their_type_says():
    made, batch = model(channels=(4, 2, 2, 2)), collate(molecules(), torch.float64)
    rotation = random_rotation(dtype=torch.float64)

    def features(positions):
        edges = made.edges(positions, batch.system)
        x = made.embedding(batch.numbers, edges)
        return made.blocks[1](made.blocks[0](x, edges), edges)

    kind = made.config.type
    turned, plain = features(batch.positions @ rotation.mT), features(batch.positions)
    for part, block in zip(kind.split(plain), kind.blocks, strict=True):
        assert part.std() > 0.1, block
    assert worst(turned, kind.transform(plain, rotation)) < 1e-10


def test_the_order_of_atoms_and_the_company_of_a_molecule_do_not_matter():
    made, both = model(), molecules()
    energies, forces = energy_and_forces(made, collate(both, torch.float64))
    for index, molecule in enumerate(both):
        order = torch.randperm(len(molecule.numbers))
        alone = replace(
            molecule,
            numbers=molecule.numbers[order],
            positions=molecule.positions[order],
            forces=molecule.forces[order],
        )
        energy, force = energy_and_forces(made, collate([alone], torch.float64))
        own = forces[:4] if index == 0 else forces[4:]
        torch.testing.assert_close(energy[0], energies[index], rtol=0, atol=1e-11)
        torch.testing.assert_close(force, own[order], rtol=0, atol=1e-11)


def test_handedness_is_seen_with_vectors_and_not_without():
    batch = collate(molecules()[1:], torch.float64)
    mirrored = replace(batch, positions=batch.positions * torch.tensor([-1.0, 1, 1]))
    for channels, sees in (((8,), False), ((4, 3), True)):
        made = model(channels=channels)
        change = energy_and_forces(made, mirrored)[0] - energy_and_forces(made, batch)[0]
        assert (change.abs().item() > 1e-6) == sees


@pytest.mark.parametrize("arm", ARMS)
def test_forces_are_the_differences_of_energies(arm):
    made, batch, step = model(**ARMS[arm]), collate(molecules()[:1], torch.float64), 1e-4
    _, forces = energy_and_forces(made, batch)
    expected = torch.zeros_like(forces)
    for atom in range(4):
        for axis in range(3):
            for sign, weight in ((1, 8), (-1, -8), (2, -1), (-2, 1)):
                moved = batch.positions.clone()
                moved[atom, axis] += sign * step
                energy, _ = energy_and_forces(made, replace(batch, positions=moved))
                expected[atom, axis] -= weight * energy[0] / (12 * step)
    assert worst(forces, expected) < 1e-7
    torch.testing.assert_close(forces.sum(0), torch.zeros(3), rtol=0, atol=1e-11)


@pytest.mark.parametrize("arm", ["mlp, non-linear", "dot, linear"])
def test_second_derivatives_are_the_differences_of_forces(arm):
    made, batch = model(**ARMS[arm]), collate(molecules()[:1], torch.float64)

    def energy(positions):
        return made(batch.numbers, positions, batch.system, 1)

    assert torch.autograd.gradgradcheck(energy, (batch.positions.requires_grad_(),), atol=1e-6)


def test_the_gradient_of_a_loss_of_forces_is_the_difference_of_losses():
    made, batch, offsets = model(), collate(molecules(), torch.float64), torch.zeros(2)
    loss_of(made, batch, offsets, Loss()).backward()
    idle = [name for name, value in made.named_parameters() if value.grad is None or not bool(value.grad.any())]
    assert idle == []
    for name in ("blocks.0.attention.logits.score", "blocks.1.attention.second.weights.layers.0.weight"):
        value = made.get_parameter(name)
        found, step = [], 1e-5
        for sign in (1, -1):
            changed = copy.deepcopy(made)
            changed.get_parameter(name).data.view(-1)[3] += sign * step
            found.append(loss_of(changed, batch, offsets, Loss()).item())
        expected = (found[0] - found[1]) / (2 * step)
        assert abs(value.grad.view(-1)[3].item() - expected) < 1e-6 * max(1, abs(expected))


@pytest.mark.parametrize("attention", ["mlp", "dot"])
def test_attention_is_a_softmax_loop(attention):
    """Messages of the pairs come from the layer's own products, tested elsewhere; logits, softmax, heads by loops."""
    config = replace(SMALL, attention=attention, channels=(4, 2))
    made, layer = Equiformer(config), GraphAttention(config)
    batch = collate(molecules()[1:], torch.float64)
    edges = made.edges(batch.positions, batch.system)
    x, kind, count = torch.randn(6, config.type.dim), config.type, 6
    source, target, c = edges.pairs.source_index, edges.pairs.target_index, edges.cutoff
    message = layer.first(layer.source(x)[source] + layer.target(x)[target], edges)
    scalars, vectors = message[:, :8], message[:, 8:]
    if attention == "mlp":
        values = torch.cat([scalars[:, 4:], vectors], -1)
        z = scalars[:, :4].detach().numpy()
        slope = 0.2 * z + 0.8 * z / (1 + np.exp(-z))
        score = layer.logits.score.detach().numpy()
        logits = np.stack([slope[:, :2] @ score[0], slope[:, 2:] @ score[1]], -1)
    else:
        values = torch.cat([scalars[:, 4:], vectors[:, 6:]], -1)
        key = torch.cat([scalars[:, :4], vectors[:, :6]], -1).detach().numpy()
        product = layer.query(x).detach().numpy()[target] * key
        # channels 0, 2 and the first vector belong to head 0
        own = np.array([0, 1, 0, 1, 0, 0, 0, 1, 1, 1])
        logits = np.stack([product[:, own == head].sum(1) / math.sqrt(5) for head in (0, 1)], -1)
    values = layer.second(layer.gate(values), edges).detach().numpy()
    heads = np.array([0, 1, 0, 1, 0, 0, 0, 1, 1, 1])
    total = np.zeros((count, kind.dim))
    for i in range(count):
        mine = [p for p in range(len(c)) if target[p] == i]
        mass = np.array([c[p].item() * np.exp(logits[p]) for p in mine])
        for p, share in zip(mine, mass / mass.sum(0), strict=True):
            total[i] += share[heads] * c[p].item() * values[p]
    torch.testing.assert_close(layer(x, edges), layer.out(torch.tensor(total)), rtol=0, atol=1e-10)


def chain(last):
    """Four atoms, the last of which is `last` from its only neighbour but one, along no axis."""
    step = torch.tensor([0.6, 0.64, 0.48])
    positions = torch.cat([torch.tensor([[0.0, 0, 0], [0, 2.9, 0], [1.1, 1.3, -2.0]]), -last * step[None]])
    return collate([Molecule(torch.tensor([6, 1, 8, 1]), positions)], torch.float64)


def test_energy_and_force_are_continuous_where_a_pair_passes_the_cutoff():
    """Atoms 0 and 1 see each other, atoms 2 and 3 too; between 0 and 2 the cutoff is passed."""
    made = model(cutoff=3.0)

    def at(distance):
        positions = torch.tensor([[0.0, 0, 0], [0, 1.5, 0], [distance, 0, 0], [distance, -1.5, 0.0]])
        return energy_and_forces(made, collate([Molecule(torch.tensor([6, 1, 8, 1]), positions)], torch.float64))

    (inside, force_in), (outside, force_out) = at(3 - 1e-4), at(3 + 1e-4)
    # beyond the cutoff nothing changes any more; c leaves with the third power
    assert (inside - outside).abs().item() < 1e-9 and (force_in - force_out).abs().max() < 1e-6
    assert (at(2.5)[0] - outside).abs().item() > 1e-3 and force_out.abs().max() > 1e-2


def test_the_last_neighbour_leaves_without_a_jump(monkeypatch):
    """The softmax of one neighbour is one however far it is; without the cutoff of the values a force would remain."""
    made = model(cutoff=3.0)
    assert chain(2.9999).positions[3].norm().item() == pytest.approx(2.9999)
    near = energy_and_forces(made, chain(2.5))[1][3].norm().item()
    last = energy_and_forces(made, chain(2.9999))[1][3].norm().item()
    assert near > 1e-2 and last < 1e-4
    attend = equiformer.attend
    monkeypatch.setattr(equiformer, "attend", lambda l, v, h, p, w: attend(l, v / w[:, None], h, p, w))
    assert energy_and_forces(made, chain(2.9999))[1][3].norm().item() > 1e-2


def test_a_fit_lowers_the_loss():
    made = model(channels=(4, 2)).float()
    found = fit(made, molecules(), Options(steps=30, batch=2, learning_rate=1e-2))
    assert np.mean(found.losses[-5:]) < 0.8 * found.losses[0]


def test_what_no_energy_exists_of_is_refused():
    made = model()
    numbers, system = torch.tensor([6, 1, 1]), torch.zeros(3, dtype=torch.long)
    places = torch.tensor([[0.0, 0, 0], [1.1, 0, 0], [0, 1.1, 0]])
    assert made(numbers, places, system, 1).shape == (1,)
    with pytest.raises(ValueError, match="numbers: expected elements among H C N O, got 17 for atom 1"):
        made(torch.tensor([6, 17, 1]), places, system, 1)
    with pytest.raises(ValueError, match="expected a neighbour within 5 Angstrom of every atom, got none for atom 2"):
        made(numbers, places + torch.tensor([[0.0], [0], [50]]), system, 1)
    with pytest.raises(ValueError, match="points: expected different places, got points 0 and 1 at the same"):
        made(numbers, places * torch.tensor([[1.0], [0], [1]]), system, 1)
    with pytest.raises(ValueError, match="expected finite coordinates"):
        made(numbers, places + torch.tensor([[0.0], [0], [torch.nan]]), system, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blocks": True}, "blocks: expected a whole number, got True"),
        ({"channels": ()}, "channels: expected 1 to 4 positive numbers"),
        ({"channels": (4, 2, 2, 2, 2)}, "channels: expected 1 to 4 positive numbers"),
        ({"channels": (4, 0, 2)}, "channels: expected 1 to 4 positive numbers"),
        ({"channels": (5, 2)}, r"channels: expected a multiple of heads \(2\) scalars, got 5"),
        ({"cutoff": 0.0}, "cutoff: expected a positive number, got 0.0"),
        ({"cutoff": math.nan}, "cutoff: expected a positive number, got nan"),
        ({"blocks": 0}, "blocks: expected a positive number, got 0"),
        ({"attention": "cosine"}, "attention: expected one of mlp, dot, got 'cosine'"),
        ({"messages": "none"}, "messages: expected one of nonlinear, linear, got 'none'"),
    ],
)
def test_configurations_that_mean_nothing_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **changes)


def test_the_norm_is_the_formula_channel_by_channel():
    """Invariants are centred and divided by their deviation, degrees by the root mean square of their lengths."""
    kind = PointType("4x0 + 3x1 + 2x3")
    layer, x = TypedNorm(kind), 5 * torch.randn(kind.dim)
    for value in layer.parameters():
        value.data.normal_()
    scalars, vectors, cubic = x[:4].numpy(), x[4:13].view(3, 3).numpy(), x[13:].view(2, 7).numpy()
    scales = [scale.detach().numpy() for scale in layer.scales]
    expected = [(scalars - scalars.mean()) / np.sqrt(scalars.var() + 1e-5) * scales[0] + layer.bias.detach().numpy()]
    for part, scale in ((vectors, scales[1]), (cubic, scales[2])):
        size = np.sqrt((part**2).sum(1).mean() + 1e-5)
        expected.append((part / size * scale[:, None]).flatten())
    np.testing.assert_allclose(layer(x).detach().numpy(), np.concatenate(expected), atol=1e-12)
