"""Geometric algebras of any diagonal metric: products, duals and norms of multivectors (*batch, 2^n).

A blade e_I is a product of different generators in ascending order. Blades are sorted by grade and then by their
generators, so a multivector over (e1, e2, e3) lists 1, e1, e2, e3, e12, e13, e23, e123. Source: Dorst, Fontijne and
Mann, Geometric Algebra for Computer Science, chapters 2, 3 and 6.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from raytrans.shapes import Float

LARGEST = 6  # generators: a table has 8^n entries


def blade_product(left: Sequence[int], right: Sequence[int], metric: Sequence[int]) -> tuple[int, tuple[int, ...]]:
    """Factor and blade of e_left e_right: generators are sorted by exchanges, and equal neighbours become squares."""
    factor, blade = 1, list(left)
    for generator in right:
        place = len(blade)
        while place and blade[place - 1] > generator:
            place -= 1
        factor *= (-1) ** (len(blade) - place)
        if place and blade[place - 1] == generator:
            factor *= metric[generator]
            del blade[place - 1]
        else:
            blade.insert(place, generator)
    return factor, tuple(blade)


class Algebra:
    """The geometric algebra of generators that square to the entries of `metric`, each +1, -1 or 0.

    Raises ValueError for no generators, more than six, or another square.
    """

    def __init__(self, metric: Sequence[int]):
        self.metric = tuple(metric)
        if not 0 < len(self.metric) <= LARGEST:
            raise ValueError(f"metric: expected 1 to {LARGEST} squares of generators, got {len(self.metric)}")
        if any(square not in (1, -1, 0) for square in self.metric):
            raise ValueError(f"metric: expected squares +1, -1 or 0, got {self.metric}")
        generators = range(len(self.metric))
        self.blades = tuple(blade for grade in range(len(self.metric) + 1) for blade in combinations(generators, grade))
        self.index = {blade: place for place, blade in enumerate(self.blades)}
        self.dim = len(self.blades)
        self.grades = np.array([len(blade) for blade in self.blades])
        self.table = np.zeros((self.dim,) * 3)
        for i, left in enumerate(self.blades):
            for j, right in enumerate(self.blades):
                factor, blade = blade_product(left, right, self.metric)
                self.table[i, j, self.index[blade]] = factor
        added = self.grades[:, None, None] + self.grades[:, None] == self.grades
        self._exterior = np.where(added, self.table, 0.0)
        # e_I goes to the blade that completes it to e_I ^ dual(e_I) = e_{1...n}: a permutation with signs
        self._dual = self._exterior[:, :, -1].T.copy()
        self._join = np.einsum("ai,bj,abk,kl->ijl", *[self._dual] * 2, self._exterior, self._dual, optimize=True)
        self._tensors: dict[tuple, Tensor] = {}

    def constant(self, name: str, value: np.ndarray, like: Tensor) -> Tensor:
        """`value`, always the same under that name, as a tensor of the type and on the device of `like`."""
        key = (name, like.dtype, like.device)
        if key not in self._tensors:
            with torch.inference_mode(False):
                self._tensors[key] = torch.tensor(value, dtype=like.dtype, device=like.device)
        return self._tensors[key]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Algebra) and self.metric == other.metric

    def __hash__(self) -> int:
        return hash(("algebra", self.metric))

    def __repr__(self) -> str:
        return f"Algebra({self.metric})"

    @property
    def degenerate(self) -> bool:
        """Whether a generator squares to zero, so that the pseudoscalar has no inverse."""
        return 0 in self.metric

    def check(self, x: Tensor, name: str = "x") -> None:
        """Raise ValueError unless the last axis of x has the 2^n components of a multivector."""
        if not isinstance(x, Tensor) or x.shape[-1:] != (self.dim,):
            got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"{name}: expected multivectors (..., {self.dim}) of {self}, got {got}")

    def blade(self, *generators: int, dtype: torch.dtype = torch.float64) -> Float[Tensor, " dim"]:
        """The blade of ascending generators, counted from 0; none give the number one. Raises ValueError for others."""
        if generators not in self.index:
            raise ValueError(f"generators: expected ascending ones below {len(self.metric)}, got {generators}")
        value = torch.zeros(self.dim, dtype=dtype)
        value[self.index[generators]] = 1
        return value

    def vector(self, components: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch dim"]:
        """Grade 1: sum_i v_i e_i."""
        if components.shape[-1] != len(self.metric):
            raise ValueError(f"components: expected last axis {len(self.metric)}, got {tuple(components.shape)}")
        zeros = components.new_zeros(*components.shape[:-1], self.dim - 1 - len(self.metric))
        return torch.cat([torch.zeros_like(components[..., :1]), components, zeros], -1)

    def _bilinear(self, name: str, table: np.ndarray, x: Tensor, y: Tensor) -> Tensor:
        self.check(x)
        self.check(y, "y")
        matrices = x @ self.constant(name, table.reshape(self.dim, -1), x)
        return (y[..., None, :] @ matrices.unflatten(-1, (self.dim, self.dim)))[..., 0, :]

    def product(self, x: Float[Tensor, "*#batch dim"], y: Float[Tensor, "*#batch dim"]) -> Tensor:
        """Geometric product xy, (*batch, dim)."""
        return self._bilinear("product", self.table, x, y)

    def exterior(self, x: Float[Tensor, "*#batch dim"], y: Float[Tensor, "*#batch dim"]) -> Tensor:
        """Exterior product x ^ y: the part of the product whose grade is the sum of the grades."""
        return self._bilinear("exterior", self._exterior, x, y)

    def dual(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Complement: e_I ^ dual(e_I) = e_{1...n}; of no metric, so it exists where the pseudoscalar has no inverse."""
        self.check(x)
        return x @ self.constant("dual", self._dual.T, x)

    def undual(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Inverse of `dual`."""
        self.check(x)
        return x @ self.constant("undual", self._dual, x)

    def polarity(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """x I^{-1}, the dual by the pseudoscalar I. Raises ValueError for a singular metric, which has no I^{-1}."""
        if self.degenerate:
            raise ValueError(
                f"metric: expected no zero, as the pseudoscalar then has no inverse, got {self.metric}; use `dual`"
            )
        pseudoscalar = self.blade(*range(len(self.metric)), dtype=x.dtype).to(x.device)
        return self.product(x, self.inverse(pseudoscalar))

    def join(self, x: Float[Tensor, "*#batch dim"], y: Float[Tensor, "*#batch dim"]) -> Tensor:
        """undual(dual(x) ^ dual(y)), (*batch, dim): of two points the line through them, where points meet planes.

        Under a versor it changes by the determinant too: a mirror changes its sign, a motion does not.
        """
        return self._bilinear("join", self._join, x, y)

    def _signs(self, name: str, signs: np.ndarray, x: Tensor) -> Tensor:
        self.check(x)
        return x * self.constant(name, signs, x)

    def reverse(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """~x, the order of the factors turned around: (-1)^{k(k-1)/2} at grade k."""
        return self._signs("reverse", (-1.0) ** (self.grades * (self.grades - 1) // 2), x)

    def involute(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Grade involution, (-1)^k at grade k."""
        return self._signs("involute", (-1.0) ** self.grades, x)

    def grade(self, x: Float[Tensor, "*batch dim"], *grades: int) -> Float[Tensor, "*batch dim"]:
        """The part of some grades, <x>_k. Raises ValueError for a grade that does not exist."""
        if any(not 0 <= grade <= len(self.metric) for grade in grades):
            raise ValueError(f"grades: expected 0 to {len(self.metric)}, got {grades}")
        return self._signs(f"grade {sorted(grades)}", np.isin(self.grades, grades).astype(float), x)

    @property
    def weights(self) -> np.ndarray:
        """<~e_I e_I>_0 of every blade: +1, -1 or 0."""
        return np.array([float(np.prod([self.metric[g] for g in blade])) for blade in self.blades])

    def inner(self, x: Float[Tensor, "*#batch dim"], y: Float[Tensor, "*#batch dim"]) -> Float[Tensor, "*batch"]:
        """<~x y>_0, invariant under versors of square one; not positive where the metric is not."""
        self.check(y, "y")
        return (self._signs("weights", self.weights, x) * y).sum(-1)

    def squares(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch grades"]:
        """<~x_k x_k>_0 of every grade k."""
        self.check(x)
        masks = self.weights[:, None] * (self.grades[:, None] == np.arange(len(self.metric) + 1))
        return x.square() @ self.constant("squares", masks, x)

    def norms(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch grades"]:
        """sqrt |<~x_k x_k>_0| of every grade, also of an indefinite metric; no gradient where it vanishes."""
        square = self.squares(x).abs()
        return torch.where(square > 0, square, 1.0).sqrt() * (square > 0)

    def inverse(self, versor: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """~v/<v ~v>_0 of a product v of vectors. Raises ValueError where that is not the inverse."""
        turned = self.reverse(versor)
        square = self.inner(versor, versor)[..., None]
        inverse = turned / torch.where(square == 0, 1.0, square)
        rest = self.product(versor, inverse) - self.blade(dtype=versor.dtype).to(versor.device)
        slack = 1e3 * torch.finfo(versor.dtype).eps * (1 + versor.square().sum(-1) * inverse.square().sum(-1)).sqrt()
        if bool((rest.abs().amax(-1) > slack).any()):
            raise ValueError("versor: expected a product of vectors that have an inverse, got one that has none")
        return inverse

    def sandwich(self, versor: Float[Tensor, "*#batch dim"], x: Float[Tensor, "*#batch dim"]) -> Tensor:
        """v x v^{-1} of an even versor, v involute(x) v^{-1} of an odd one, (*batch, dim): an automorphism of products.

        An odd versor of one factor is the mirror orthogonal to it, acting on planes. Raises ValueError for what is no
        versor.
        """
        odd = self.grade(versor, *range(1, len(self.metric) + 1, 2)).abs().amax(-1, keepdim=True)
        even = self.grade(versor, *range(0, len(self.metric) + 1, 2)).abs().amax(-1, keepdim=True)
        if bool(((odd > 0) & (even > 0)).any()):
            raise ValueError("versor: expected even grades alone or odd ones alone, got both")
        turned = torch.where(odd > 0, self.involute(x), x)
        return self.product(self.product(versor, turned), self.inverse(versor))

    def left(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim dim"]:
        """Matrix of y -> x y on columns."""
        self.check(x)
        table = self.constant("product", self.table.reshape(self.dim, -1), x)
        return (x @ table).unflatten(-1, (self.dim, self.dim)).mT

    def right(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim dim"]:
        """Matrix of y -> y x on columns."""
        self.check(x)
        table = self.constant("right", self.table.transpose(1, 0, 2).reshape(self.dim, -1), x)
        return (x @ table).unflatten(-1, (self.dim, self.dim)).mT
