"""An effective weight for spins on a lattice: attention whose layers commute with O(3) and with the lattice's group.

    log W_eff(S) = sum_n K_n sum_{<ij>_n} s_i . s_j + C,     s = S, or s = what the attention layers make of S

n counts shells of equal distance; with no layer the model is linear in its parameters. Sites are points of
`LatticeSpace`, spins values of degree l = 1 that need no transport, weights relu of an invariant, by the package's one
`attend`. Source: Tomiya and Nagai, PoS LATTICE2023 001, and Nagai and Tomiya, 2306.11527.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from raytrans.fields.so3 import PointType
from raytrans.geometry.spaces import LatticeSpace
from raytrans.layers.attention import attend, component_heads
from raytrans.layers.neighborhood import Gathered
from raytrans.shapes import Float, Int
from raytrans.systems.spins.double_exchange import check_spins

SMALL = 0.05  # standard deviation of the first weights: attention with no softmax adds over all sites


class ShellSums(nn.Module):
    """X_hi = sum_n W_hn sum_{j in shell n of i} S_j: every linear map on spins that depends on distance alone."""

    def __init__(self, shells: Int[Tensor, "sites sites"], channels: int):
        super().__init__()
        self.weight = nn.Parameter(SMALL * torch.randn(channels, int(shells.max()) + 1))
        self.register_buffer("members", functional.one_hot(shells).movedim(-1, 0).flatten(1), persistent=False)

    def forward(self, spins: Float[Tensor, "*b sites 3"]) -> Float[Tensor, "*b channels sites 3"]:
        sites = spins.shape[-2]
        kernel = (self.weight @ self.members.to(spins)).reshape(-1, sites)
        return (kernel @ spins).unflatten(-2, (-1, sites))


class SpinAttention(nn.Module):
    """S -> N(S + sum_h A_h V_h), A_hij = relu(Q_hi . K_hj / sqrt 3), N(S)_i = S_i/|S_i|.

    Q, K and V are `ShellSums`: 3 heads shells parameters. Global rotations and reflections turn the output, symmetries
    of the lattice move it.
    """

    def __init__(self, space: LatticeSpace, heads: int = 1):
        super().__init__()
        if heads < 1:
            raise ValueError(f"heads: expected at least 1, got {heads}")
        self.heads, self.type = heads, PointType({1: heads})
        self.sums = ShellSums(space.shells(), 3 * heads)
        with torch.no_grad():  # of V: a new layer changes nothing, and a model starts as the linear one
            self.sums.weight[2 * heads :] = 0.0
        self.register_buffer("value_heads", component_heads(self.type, heads), persistent=False)

    def forward(self, spins: Float[Tensor, "*b sites 3"]) -> Float[Tensor, "*b sites 3"]:
        query, key, value = self.sums(spins).split(self.heads, -3)
        logits = (query / math.sqrt(3) @ key.mT).movedim(-3, -1)
        batch, sites = spins.shape[:-2], spins.shape[-2]
        pairs = Gathered.dense((*batch, sites), (*batch, sites), len(batch))
        values = pairs.source(value.movedim(-3, -2).flatten(-2))
        added = attend(logits, values, self.value_heads, pairs, activation="relu")
        return functional.normalize(spins + added.unflatten(-1, (self.heads, 3)).sum(-2), dim=-1)


class EffectiveModel(nn.Module):
    """log W_eff of spins: `layers` of attention with `heads` each, then couplings over shells of distance.

    The bonds of a shell are summed over the square root of their number, so that all couplings are of one order.
    """

    def __init__(self, space: LatticeSpace, layers: int = 0, heads: int = 1):
        super().__init__()
        if layers < 0:
            raise ValueError(f"layers: expected at least 0, got {layers}")
        self.space = space
        self.blocks = nn.Sequential(*(SpinAttention(space, heads) for _ in range(layers)))
        shells = space.shells()
        members = functional.one_hot(shells)[..., 1:].flatten(0, 1).double()
        self.register_buffer("bonds", members / (2 * members.sum(0)).sqrt(), persistent=False)
        self.couplings = nn.Parameter(torch.zeros(members.shape[1]))
        self.offset = nn.Parameter(torch.zeros(()))

    def features(self, spins: Float[Tensor, "*b sites 3"]) -> Float[Tensor, "*b shells"]:
        """sum_{<ij>_n} s_i . s_j / sqrt(number of bonds) of every shell n > 0, s the output of the layers."""
        check_spins(self.space, spins)
        dressed = self.blocks(spins)
        return (dressed @ dressed.mT).flatten(-2) @ self.bonds.to(spins)

    def forward(self, spins: Float[Tensor, "*b sites 3"]) -> Float[Tensor, "*b"]:
        """log W_eff(S)."""
        return self.features(spins) @ self.couplings + self.offset

    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    def flops(self) -> int:
        """Nominal floating-point operations of one log W_eff, two for each multiplication of the matrix products."""
        heads, shells = sum(block.heads for block in self.blocks), len(self.couplings)
        return 2 * self.space.sites**2 * (heads * (3 * 3 + 3 + 3) + 3 + shells)
