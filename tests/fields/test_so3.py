"""Harmonics, rotations and Clebsch-Gordan coefficients against e3nn; reading point features in ray frames."""

import pytest
import torch
from e3nn import o3

from raytrans.fields.so3 import PointType, clebsch_gordan, solid_harmonics, wigner
from raytrans.geometry.rays import section_from_axis

TYPE = PointType("3x0 + 2x1 + 1x2 + 2x3")


@pytest.fixture(autouse=True)
def double_precision():
    """e3nn keeps its constants in the default type."""
    torch.set_default_dtype(torch.float64)


def rotations(*batch):
    return o3.rand_matrix(*batch, dtype=torch.float64)


@pytest.mark.parametrize("l", range(7))
def test_harmonics_are_those_of_e3nn(l):
    points = torch.randn(20, 3).double()
    expected = o3.spherical_harmonics(l, points, normalize=False, normalization="norm")
    torch.testing.assert_close(solid_harmonics(l, points), expected, rtol=1e-11, atol=1e-11)
    assert solid_harmonics(l, torch.zeros(3)).tolist() == [0.0 if l else 1.0] * (2 * l + 1)


@pytest.mark.parametrize("l", range(5))
def test_rotation_matrices_are_those_of_e3nn(l):
    rotation = rotations(7)
    expected = o3.Irrep(l, 1).D_from_matrix(rotation)
    torch.testing.assert_close(wigner(l, rotation), expected, rtol=0, atol=1e-10)
    # composition is sharper than the angles that e3nn goes through
    a, b = rotations(2)
    torch.testing.assert_close(wigner(l, a @ b), wigner(l, a) @ wigner(l, b), rtol=0, atol=1e-13)
    assert torch.autograd.gradcheck(lambda r: wigner(l, r), (rotation[0].requires_grad_(),))


@pytest.mark.parametrize(
    "degrees", [(a, b, c) for a in range(4) for b in range(4) for c in range(abs(a - b), a + b + 1)]
)
def test_clebsch_gordan_is_that_of_e3nn_up_to_sign(degrees):
    ours, theirs = clebsch_gordan(*degrees), o3.wigner_3j(*degrees, dtype=torch.float64)
    sign = torch.sign((ours * theirs).sum())
    torch.testing.assert_close(ours, sign * theirs, rtol=0, atol=1e-10)


def test_clebsch_gordan_refuses_what_does_not_couple():
    with pytest.raises(ValueError, match="l3: expected 1 to 3 for l1=1, l2=2, got 4"):
        clebsch_gordan(1, 2, 4)


def test_transform_is_that_of_e3nn():
    irreps, features, rotation = o3.Irreps("3x0e + 2x1e + 1x2e + 2x3e"), torch.randn(4, TYPE.dim).double(), rotations()
    expected = features @ irreps.D_from_matrix(rotation).mT
    torch.testing.assert_close(TYPE.transform(features, rotation), expected, rtol=0, atol=1e-10)


def test_cached_constants_survive_inference_mode():
    with torch.inference_mode():
        wigner(6, rotations())
    rotation = rotations().requires_grad_()
    wigner(6, rotation).sum().backward()
    assert torch.isfinite(rotation.grad).all()


def test_features_in_a_ray_frame_are_typed():
    """Turning the frame multiplies by the characters of `on_ray`; harmonics of p have the angle of p about the ray."""
    frame = section_from_axis(
        torch.nn.functional.normalize(torch.randn(6, 3).double(), dim=-1), torch.randn(3).double()
    )
    features, turn = torch.randn(6, TYPE.dim).double(), torch.randn(6).double()
    e1, e2, d = frame.unbind(-1)
    c, s = turn.cos()[:, None], turn.sin()[:, None]
    turned = torch.stack([c * e1 + s * e2, c * e2 - s * e1, d], -1)
    assert str(TYPE.on_ray()) == "8x0 + 5x1 + 3x2 + 2x3" and TYPE.on_ray().dim == TYPE.dim
    read = TYPE.to_ray(features, frame)
    torch.testing.assert_close(TYPE.to_ray(features, turned), TYPE.on_ray().transform(read, turn), rtol=0, atol=1e-12)
    torch.testing.assert_close(TYPE.from_ray(read, frame), features, rtol=0, atol=1e-12)
    point = torch.randn(6, 3).double()
    about = torch.atan2((point * e2).sum(-1), (point * e1).sum(-1))
    parts = PointType("1x2").on_ray().split(PointType("1x2").to_ray(solid_harmonics(2, point), frame))
    for n in (1, 2):
        phase = torch.exp(1j * n * about) * torch.sign((point * d).sum(-1)) ** (2 - n)
        torch.testing.assert_close(parts[n][:, 0] / parts[n][:, 0].abs(), phase, rtol=0, atol=1e-10)


def test_text_and_sums():
    assert str(TYPE) == "3x0 + 2x1 + 1x2 + 2x3" and PointType(str(TYPE)) == TYPE and TYPE.dim == 3 + 6 + 5 + 14
    assert str(PointType("2x1 + 1x0 + 1x1")) == "1x0 + 3x1" and TYPE.channels == 8
    assert str(PointType("1x0 + 1x1") + PointType("2x1 + 1x3")) == "1x0 + 3x1 + 1x3"
    features = torch.randn(4, TYPE.dim)
    assert torch.equal(TYPE.join(TYPE.split(features)), features)


@pytest.mark.parametrize("text", ["", "x", "2x-1", "2y0", "1x(1,0.5)"])
def test_unreadable_text_is_named(text):
    with pytest.raises(ValueError, match="point type: expected terms like"):
        PointType(text)


def test_degrees_beyond_three_are_refused():
    with pytest.raises(ValueError, match="degrees 0 to 3"):
        PointType("1x4")
    with pytest.raises(ValueError, match="expected last axis 28"):
        TYPE.split(torch.zeros(27))
