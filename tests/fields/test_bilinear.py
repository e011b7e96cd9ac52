"""All equivariant bilinear maps of the projective algebra are counted: 117, of which the geometric product makes 111.

Motions keep the grades, so the maps are those of pairs of grades to a grade: 125 small null spaces instead of a large
one. Products compose with the linear maps before and after; their span is measured in the basis of all maps.
"""

from functools import lru_cache

import numpy as np
import pytest
import torch

from raytrans.fields.commutant import intertwiners
from raytrans.fields.embeddings import embedding

PROJECTIVE = embedding("projective")


def bilinear_maps(mirrors):
    """Orthonormal basis (k, 16 * 16 * 16) of T[a, b, c] with T(gx, gy) = g T(x, y)."""
    algebra, own = PROJECTIVE.algebra, PROJECTIVE.generators(mirrors)
    places = [np.flatnonzero(algebra.grades == k) for k in range(5)]
    group = [[g[np.ix_(p, p)] for p in places] for g in own]
    found = []
    for a in range(5):
        for b in range(5):
            pairs = [_on_pairs(g[a], g[b], mirrors and i == len(own) - 1) for i, g in enumerate(group)]
            for c in range(5):
                maps = intertwiners(pairs, [g[c] for g in group])
                whole = np.zeros((len(maps), 16, 16, 16))
                shape = (len(maps), len(places[c]), len(places[a]), len(places[b]))
                whole[np.ix_(range(len(maps)), places[a], places[b], places[c])] = maps.reshape(shape).transpose(
                    0, 2, 3, 1
                )
                found.append(whole.reshape(len(maps), 16**3))
    return np.concatenate(found)


def _on_pairs(a, b, mirror):
    """Action on a tensor product: of a group element g x g, of a generator g x 1 + 1 x g."""
    return np.kron(a, b) if mirror else np.kron(a, np.eye(len(b))) + np.kron(np.eye(len(a)), b)


@lru_cache
def spans(mirrors):
    """All maps, and coordinates in them of linear o product o (linear, linear): the geometric product, and the join."""
    every = bilinear_maps(mirrors)
    linear = PROJECTIVE.maps(mirrors)[0].numpy()
    coordinates = []
    algebra = PROJECTIVE.algebra
    # a join changes its sign in a mirror
    for table in [algebra.table] if mirrors else [algebra.table, algebra._join]:
        inner = np.einsum("iab,jcd,ace->ijbde", linear, linear, table, optimize=True).reshape(-1, 16, 16, 16)
        found = []
        for out in linear:
            maps = (inner @ out.T).reshape(len(inner), -1)
            found.append(maps @ every.T)
            assert np.abs(found[-1] @ every - maps).max() < 1e-10
        coordinates.append(np.concatenate(found))
    return every, coordinates


def rank(*coordinates):
    return np.linalg.matrix_rank(np.concatenate(coordinates), tol=1e-8)


def test_motions_leave_117_maps_the_product_makes_111_the_join_makes_them_all():
    every, (product, join) = spans(False)
    assert len(every) == 117
    assert rank(product) == 111
    assert rank(join) == 112
    assert rank(product, join) == 117


def test_with_mirrors_the_product_makes_54():
    every, (product,) = spans(True)
    assert rank(product) == 54 <= len(every)


def test_the_basis_holds_maps_that_commute_with_finite_motions_and_others_do_not():
    every = torch.tensor(spans(False)[0]).reshape(-1, 16, 16, 16)
    generator = torch.Generator().manual_seed(0)
    x, y, other = torch.randn(3, 16, generator=generator, dtype=torch.float64)
    versor = PROJECTIVE.translator(other[:3])

    def act(z):
        return PROJECTIVE.algebra.sandwich(versor, z)

    def apply(maps, x, y):
        return torch.einsum("kabc,a,b->kc", maps, x, y)

    torch.testing.assert_close(apply(every, act(x), act(y)), act(apply(every, x, y)), rtol=0, atol=1e-10)
    wrong = torch.randn(1, 16, 16, 16, generator=generator, dtype=torch.float64)
    assert (apply(wrong, act(x), act(y)) - act(apply(wrong, x, y))).abs().max() > 1


@pytest.mark.parametrize("product", ["product", "exterior", "join"])
def test_products_are_among_them(product):
    """Every product of the algebra is one vector of the space."""
    algebra, every = PROJECTIVE.algebra, spans(False)[0]
    eye = torch.eye(16, dtype=torch.float64)
    table = getattr(algebra, product)(eye[:, None].expand(16, 16, 16), eye[None].expand(16, 16, 16)).numpy().reshape(-1)
    assert np.abs(every.T @ (every @ table) - table).max() < 1e-10
