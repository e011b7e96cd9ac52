import math

import pytest
import torch
from torch import nn

from raytrans import equivariance_error
from raytrans.equivariance import check_layer
from raytrans.equivariance.report import BROKEN
from raytrans.equivariance.strata import STRATA, ray_sets
from raytrans.fields.so3 import PointType
from raytrans.fields.types import FieldType
from raytrans.layers import Gate, RayAttention, RayConvolution, TensorProduct, TypedLinear, TypedNorm
from raytrans.layers.points import PointKernel, PointToRayKernel, RayToPointKernel

IN, OUT = "3x0 + 2x1 + 1x2 + 1x(1,0.7) + 1x(0,0.3)", "2x0 + 1x1 + 1x3 + 1x(0,0.7) + 1x(1,0.7)"
CHANGES = ["sections", "motion", "scale", "order"]


@pytest.mark.parametrize(
    "layer",
    [
        lambda: RayConvolution(IN, OUT),
        lambda: RayAttention(IN, "2x0 + 2x1", OUT, heads=2),
        lambda: nn.Sequential(TypedLinear(IN, IN), TypedNorm(IN), Gate(IN)),
        lambda: TensorProduct(IN, OUT, "2x0 + 1x1 + 1x2"),
    ],
)
def test_sound_layers_pass(layer):
    layer = layer()
    options = {"in_type": IN, "out_type": IN} if isinstance(layer, nn.Sequential) else {}
    report = check_layer(layer, **options)
    assert report.passed, str(report)
    assert all(row.error < 1e-12 for row in report.contracts)


def test_every_change_is_tried_on_every_stratum():
    errors = equivariance_error(RayConvolution(IN, OUT))
    assert list(errors) == [f"{change}, {stratum}" for stratum in STRATA for change in CHANGES]
    assert [row.name for row in check_layer(RayConvolution(IN, OUT)).contracts] == CHANGES
    assert list(equivariance_error(Gate(IN))) == ["sections, generic", "order, generic"]


def test_the_layer_is_measured_in_the_dtype_asked_for_and_left_as_it_was():
    layer = RayConvolution(IN, "2x0 + 1x1")
    rough = check_layer(layer, dtype=torch.float32)
    assert rough.passed and 1e-8 < max(row.error for row in rough.contracts) < 1e-3
    assert max(row.error for row in check_layer(layer).contracts) < 1e-12
    assert all(p.dtype == torch.float32 for p in layer.parameters())


def errors_of(function, in_type="2x0 + 1x1", out_type="2x0 + 1x1", **options):
    return equivariance_error(function, in_type=in_type, out_type=out_type, **options)


def bad_changes(errors, stratum="generic", tolerance=1e-9):
    return [change for change in CHANGES if not errors.get(f"{change}, {stratum}", 0.0) <= tolerance]


def good(x, y, features, unit):
    """A mean of invariants, weighted by angles between rays: every promise is kept."""
    return _mixed(x, y, features, ((x.direction[:, None] * y.direction).sum(-1)).exp())


def _mixed(x, y, features, weights):
    return weights.to(features) @ features[:, :2] / len(y)


def test_a_function_is_as_good_as_a_module():
    assert max(errors_of(good, "2x0", "2x0").values()) < 1e-12


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0, 1.0])
def test_constant_and_infinite_layers_are_refused(value):
    errors = errors_of(lambda x, y, features, unit: torch.full((len(x), 2), value, dtype=features.dtype), "2x0", "2x0")
    assert set(errors.values()) == {BROKEN}
    assert not check_layer(lambda f: torch.full_like(f, value), in_type="2x0", out_type="2x0").passed


def test_nan_at_one_stratum_is_not_passed():
    def layer(x, y, features, unit):
        chord = (x.direction[:, None] - y.direction).norm(dim=-1)
        return _mixed(x, y, features, chord / chord)

    errors = errors_of(layer, "2x0", "2x0")
    assert errors["sections, parallel"] == BROKEN and errors["sections, coincident"] == BROKEN
    assert errors["sections, generic"] < 1e-12


def test_a_thousandth_of_a_world_direction_is_found():
    def layer(x, y, features, unit):
        return good(x, y, features, unit) * (1 + 1e-3 * x.direction[:, :1])

    errors = errors_of(layer, "2x0", "2x0")
    assert bad_changes(errors) == ["motion", "scale"]
    assert 1e-5 < errors["motion, generic"] < 1e-2


def test_a_position_is_found():
    def layer(x, y, features, unit):
        return good(x, y, features, unit) * (1 + torch.tanh(x.moment[:, :1] / unit))

    assert bad_changes(errors_of(layer, "2x0", "2x0")) == ["motion", "scale"]


def test_an_absolute_length_is_found():
    def layer(x, y, features, unit, divide=False):
        w = y.anchor - x.anchor[:, None]
        offset = (w * torch.linalg.cross(x.direction[:, None].expand_as(w), y.direction.expand_as(w))).sum(-1)
        return _mixed(x, y, features, torch.tanh(offset / unit if divide else offset))

    assert bad_changes(errors_of(layer, "2x0", "2x0")) == ["scale"]
    assert bad_changes(errors_of(lambda x, y, f, unit: layer(x, y, f, unit, True), "2x0", "2x0")) == []


def test_an_order_is_found():
    def layer(x, y, features, unit):
        return good(x, y, features * torch.linspace(1, 2, len(y))[:, None], unit)

    assert bad_changes(errors_of(layer, "2x0", "2x0")) == ["order"]


@pytest.mark.parametrize("stated", ["2x0 + 1x2", "4x0", "2x0 + 1x(1,0.5)"])
def test_a_wrongly_stated_type_is_found(stated):
    layer = RayConvolution("2x0 + 1x1", "2x0 + 1x1")
    assert bad_changes(errors_of(layer, out_type=stated)) == ["sections"]
    assert bad_changes(errors_of(layer, in_type=stated)) == ["sections"]


def test_features_mixed_without_transport_are_found():
    def layer(x, y, features, unit):
        return features.mean(0).expand(len(x), -1)

    assert bad_changes(errors_of(layer)) == ["sections"]
    assert errors_of(layer, "4x0", "4x0")["sections, generic"] < 1e-12


def test_a_fault_of_one_stratum_is_found_there():
    """Exact parallels treated as a case of their own, by a rule that reads the world."""
    sound = RayConvolution("2x0", "2x0").double()

    def layer(x, y, features, unit):
        parallel = (x.direction[:, None] - y.direction).norm(dim=-1).amax(1, keepdim=True) < 1e-12
        return sound(x, y, features, unit=unit) * torch.where(parallel, 1 + 0.1 * x.direction[:, :1], 1.0)

    errors = errors_of(layer, "2x0", "2x0")
    assert bad_changes(errors) == bad_changes(errors, "opposite") == bad_changes(errors, "intersecting") == []
    assert "motion" in bad_changes(errors, "parallel") and "motion" in bad_changes(errors, "coincident")


def test_what_the_caller_must_say():
    with pytest.raises(ValueError, match="in_type.*got none"):
        equivariance_error(good)
    with pytest.raises(ValueError, match=r"expected output of shape \(5, 3\).*got \(5, 2\)"):
        errors_of(good, "2x0", "3x0")
    with pytest.raises(ValueError, match="stratum: expected one of generic.*got 'odd'"):
        ray_sets("odd", 3, torch.Generator())


@pytest.mark.parametrize("stratum", STRATA)
def test_every_pair_lies_on_its_stratum(stratum):
    x, y = ray_sets(stratum, 6, torch.Generator().manual_seed(3))
    cosine = x.direction @ y.direction.mT
    sine = torch.linalg.cross(x.direction[:, None].expand(6, 7, 3), y.direction.expand(6, 7, 3)).norm(dim=-1)
    reciprocal = x.direction @ y.moment.mT + x.moment @ y.direction.mT
    across = torch.linalg.cross((y.anchor - x.anchor[:, None]), x.direction[:, None].expand(6, 7, 3)).norm(dim=-1)
    if stratum == "generic":
        assert bool((sine > 1e-2).all()) and bool((reciprocal.abs() > 1e-4).all())
    elif stratum == "intersecting":
        assert bool((sine > 1e-2).all()) and bool((reciprocal.abs() < 1e-12).all())
    else:
        sign = -1 if "opposite" in stratum else 1
        assert bool((sign * cosine > 1 - 1e-12).all())
        assert bool((sine > 1e-9).all() if stratum.startswith("nearly") else (sine < 1e-14).all())
        on_one_line = stratum in ("coincident", "opposite on one line")
        assert bool((across < 1e-12).all() if on_one_line else (across > 1e-2).all())


def test_the_types_of_a_layer_are_its_own():
    layer = RayConvolution("2x0 + 1x1", "1x0 + 1x2")
    stated = equivariance_error(layer, in_type=FieldType("2x0 + 1x1"), out_type="1x0 + 1x2", seed=4)
    assert stated == equivariance_error(layer, seed=4) != equivariance_error(layer, seed=5)


AT = PointType("2x0 + 2x1 + 1x2")


@pytest.mark.parametrize(
    "types", [(RayToPointKernel, FieldType(IN), AT), (PointToRayKernel, AT, FieldType(OUT)), (PointKernel, AT, AT)]
)
def test_layers_at_points_pass_and_spoiled_ones_do_not(types):
    kernel, source, target = types
    layer = RayConvolution(source, target, kernel=kernel).double()
    for sound in (layer, RayAttention(source, target, target, kernel=kernel)):
        assert max(equivariance_error(sound).values()) < 1e-9

    def spoiled(x, y, features, unit):
        place = (x if isinstance(x, torch.Tensor) else x.anchor)[:, :1]
        return layer(x, y, features, unit=unit) * (1 + torch.tanh(place / unit))

    errors = errors_of(spoiled, source, target)
    assert "motion, generic" in errors and "motion" in bad_changes(errors)


@pytest.mark.parametrize("layer", [TypedLinear(AT, AT), TypedNorm(AT)])
def test_features_of_a_point_alone_turn_with_it(layer):
    layer = layer.double()
    errors = equivariance_error(layer)
    assert set(errors) == {"motion, generic", "order, generic"} and max(errors.values()) < 1e-9
    scales = torch.linspace(1, 2, AT.dim, dtype=torch.float64)
    spoiled = equivariance_error(lambda f: layer(f) * scales, AT, AT)
    assert spoiled["motion, generic"] > 1e-3
