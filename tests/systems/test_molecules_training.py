"""Batches, forces and the fit, on molecules of springs whose energies and forces are known in closed form."""

import copy

import pytest
import torch
from torch import nn

from raytrans.geometry.rigid import random_rotation
from raytrans.systems.molecules.batches import collate, kinds_of, turned
from raytrans.systems.molecules.forces import energy_and_forces
from raytrans.systems.molecules.training import Loss, Options, constants, errors, fit, loss_of
from raytrans.systems.molecules.xyz import Molecule

STIFFNESS, LENGTH = 2.0, 1.1


def springs(count, atoms=3, offset=0.0, seed=0):
    """E = offset + k/2 sum (|x_i - x_j| - l)^2 over all pairs, with its forces by hand."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(count):
        size = 0.5 + torch.rand((), generator=generator, dtype=torch.float64)
        positions = size * torch.eye(max(atoms, 3), 3, dtype=torch.float64)[:atoms]
        positions = positions + 0.1 * torch.randn(atoms, 3, generator=generator, dtype=torch.float64)
        energy, forces = offset, torch.zeros(atoms, 3, dtype=torch.float64)
        for i in range(atoms):
            for j in range(atoms):
                if i != j:
                    apart = positions[i] - positions[j]
                    length = apart.norm()
                    energy += STIFFNESS / 4 * (length - LENGTH).item() ** 2
                    forces[i] -= STIFFNESS * (length - LENGTH) * apart / length
        made.append(Molecule(torch.arange(1, atoms + 1), positions, energy, forces))
    return made


class Springs(nn.Module):
    """The reference with its two numbers to be learned; `broken` stands still while a molecule turns."""

    def __init__(self, stiffness=1.0, length=1.4, broken=0.0):
        super().__init__()
        self.constants = nn.Parameter(torch.tensor([stiffness, length], dtype=torch.float64))
        self.broken = broken

    def forward(self, numbers, positions, system, count):
        pairs = (system[:, None] == system) & ~torch.eye(len(system), dtype=torch.bool)
        i, j = pairs.nonzero(as_tuple=True)
        length = (positions[i] - positions[j]).norm(dim=-1)
        energy = self.constants[0] / 4 * (length - self.constants[1]).square()
        energies = positions.new_zeros(count).index_add(0, system[i], energy)
        return energies + self.broken * positions.new_zeros(count).index_add(0, system, positions[:, 0].square())


def test_a_selection_is_the_batch_of_the_selected():
    molecules = springs(3) + springs(2, atoms=2)
    kinds = kinds_of(molecules)
    index = torch.tensor([4, 0, 2])
    chosen = collate(molecules, torch.float64).select(index)
    expected = collate([molecules[i] for i in index], torch.float64, kinds)
    for name in ("numbers", "positions", "system", "kind", "energies", "forces"):
        assert torch.equal(getattr(chosen, name), getattr(expected, name)), name
    assert chosen.sizes().tolist() == [2, 3, 3] and kinds == ((1, 2), (1, 2, 3))


def test_bad_batches_are_refused():
    with pytest.raises(ValueError, match="expected at least one"):
        collate([])
    with pytest.raises(ValueError, match=r"compositions among the 1 known ones, got \(1, 2\)"):
        collate(springs(1, atoms=2), kinds=((1,),))


def test_forces_are_those_by_hand():
    batch = collate(springs(4), torch.float64)
    energies, forces = energy_and_forces(Springs(STIFFNESS, LENGTH), batch)
    torch.testing.assert_close(forces, batch.forces, rtol=0, atol=1e-12)
    torch.testing.assert_close(energies, batch.energies, rtol=0, atol=1e-12)
    assert not energies.requires_grad and not forces.requires_grad


def test_turned_molecules_keep_distances_and_turn_their_forces():
    (before,), (after,) = springs(1), turned(springs(1), seed=3)
    torch.testing.assert_close(torch.pdist(after.positions), torch.pdist(before.positions))
    work = (before.forces * (before.positions - before.positions.mean(0))).sum()
    torch.testing.assert_close((after.forces * after.positions).sum(), work)
    assert (after.positions - before.positions + before.positions.mean(0)).abs().max() > 0.1


def test_constants_are_the_least_squares_ones():
    molecules = springs(5, offset=-40.0) + springs(4, atoms=2, offset=-7.0)
    batch = collate(molecules, torch.float64)
    one_hot = nn.functional.one_hot(batch.kind).double()
    expected = torch.linalg.lstsq(one_hot, batch.energies[:, None]).solution[:, 0]
    torch.testing.assert_close(constants(batch.energies, batch), expected)


@pytest.mark.parametrize("loss", [Loss(1.0, 1.0), Loss(0.0, 1.0), Loss(1.0, 0.0)])
def test_a_fit_finds_the_springs_whatever_the_loss(loss):
    molecules = springs(24, offset=-400.0) + springs(8, atoms=2, offset=-70.0)
    done = fit(Springs(), molecules, Options(loss, steps=300, batch=16, learning_rate=0.05, average=0.9))
    found = done.model.constants.tolist()
    # energies of one length alone, less their mean, say less about the length than forces do
    assert found == pytest.approx([STIFFNESS, LENGTH], abs=1e-2 if loss.forces else 0.1)
    if loss.forces:
        assert done.offsets == pytest.approx({(1, 2, 3): -400.0, (1, 2): -70.0}, abs=1e-3)
        assert errors(done.model, springs(5, seed=1)).force < 10


def test_the_loss_is_its_formula_and_ignores_what_it_does_not_weigh():
    molecules = springs(2)
    batch, model = collate(molecules, torch.float64), Springs()
    energies, forces = energy_and_forces(model, batch)
    by_hand = 0.3 * (energies - batch.energies + 5).square().mean() + 2 * (forces - batch.forces).square().mean()
    torch.testing.assert_close(loss_of(model, batch, torch.tensor([5.0]), Loss(0.3, 2.0)).detach(), by_hand)
    assert loss_of(model, batch, torch.tensor([torch.nan]), Loss(0.0, 2.0)).isfinite()


def test_a_budget_of_steps_repeats_itself_and_one_of_seconds_ends():
    molecules, options = springs(8), Options(steps=7, batch=3, augment=True, seed=5)
    first, second = (fit(Springs(), copy.deepcopy(molecules), options) for _ in range(2))
    assert first.losses == second.losses and first.steps == 7
    other = fit(Springs(), molecules, Options(steps=7, batch=3, augment=True, seed=6))
    assert other.losses != first.losses
    assert 0 < fit(Springs(), molecules, Options(cpu_seconds=0.05)).cpu_seconds < 5


def test_errors_are_in_thousandths_and_see_a_broken_symmetry():
    molecules = springs(6, offset=3.0)
    right = errors(Springs(STIFFNESS, LENGTH), molecules)
    assert max(right.force, right.energy, right.rotation) < 1e-9
    wrong = errors(Springs(STIFFNESS, LENGTH, broken=0.1), molecules)
    batch = collate(molecules, torch.float64)
    expected = 200 * batch.positions[:, 0].abs().mean().item() / 3  # F_x is off by 0.2 x eV/A, F_y and F_z are right
    assert wrong.force == pytest.approx(expected) and wrong.rotation > 10 and wrong.energy > 1


def test_what_the_loss_needs_has_to_be_known():
    (known,) = springs(1)
    bare = Molecule(known.numbers, known.positions)
    with pytest.raises(ValueError, match="expected forces of all of them"):
        fit(Springs(), [bare], Options(Loss(0.0, 1.0), steps=1))
    with pytest.raises(ValueError, match="expected energies of all of them"):
        errors(Springs(), [bare])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Options(), "expected a budget"),
        (lambda: Options(steps=0), "steps: expected more than 0"),
        (lambda: Options(steps=1, average=1.0), "average: expected at least 0 and less than 1"),
        (lambda: Loss(0.0, 0.0), "not both"),
        (lambda: Loss(-1.0, 2.0), "at least 0"),
    ],
)
def test_bad_options_are_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_rotations_of_a_batch_turn_each_molecule_by_its_own():
    batch = collate(springs(2), torch.float64)
    rotation = random_rotation(2, generator=torch.Generator().manual_seed(1))
    after = batch.rotated(rotation)
    for b in range(2):
        own = batch.system == b
        torch.testing.assert_close(after.positions[own], batch.positions[own] @ rotation[b].mT)
        torch.testing.assert_close(after.forces[own], batch.forces[own] @ rotation[b].mT)
