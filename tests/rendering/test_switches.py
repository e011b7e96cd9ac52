"""Switches of the model: the defaults are the model without them, and each does what its line of the docstring says."""

import pytest
import torch

import raytrans
from raytrans.equivariance import check_model
from raytrans.models.config import CHOICES, ModelConfig, model_config
from raytrans.models.reading import PlaneVolume
from raytrans.rendering import head
from raytrans.rendering.renderer import Renderer
from raytrans.rendering.sources import source_unit
from raytrans.training.checkpoint import RELEASED, load_model, read_tensors, save_model, write_tensors
from raytrans.training.config import read_config

F64 = torch.float64
SWITCHES = {
    "kernel": {"kernel": "real"},
    "pooling": {"pooling": "moments"},
    "logits": {"logits": "dot"},
    "mlp": {"logits": "mlp"},
    "messages": {"messages": "nonlinear"},
    "moments": {"moments": False},
    "visibility": {"visibility": "none"},
    "proposal": {"proposal": "uniform"},
    "encoder": {"encoder": "plain"},
    "scales": {"scales": 2},
    "color_stride": {"color_stride": 2},
    "residual": {"residual": True},
    "exposure": {"exposure": True},
    "n up to 0": {"fine_type": "14x0", "typed": ()},
    "n up to 1": {"fine_type": "8x0 + 3x1", "typed": (3,)},
    "n up to 3": {"fine_type": "8x0 + 1x1 + 1x2 + 1x3", "typed": (1, 1, 1)},
}
MOST = {k: v for s in SWITCHES.values() for k, v in s.items() if k not in ("logits", "messages", "encoder")}


def rig(sources=3, size=(18, 25)):
    """Waves of colour as images, of cameras beside each other that look ahead; the last camera is the target."""
    y, x, c = torch.meshgrid(*(torch.arange(n, dtype=F64) for n in (*size, 3)), indexing="ij")
    images = [(0.5 + 0.4 * torch.sin(0.5 * x + 0.3 * i + c) * torch.cos(0.4 * y - c)).float() for i in range(sources)]
    poses = torch.eye(4, dtype=F64).repeat(sources + 1, 1, 1)
    poses[:, 0, 3] = torch.tensor([0.0, 1.0, 0.4, 0.7])
    poses[:, 1, 3] = torch.tensor([0.1, 0.0, 0.8, 0.3])
    k = torch.tensor([[22.0, 0, 12.5], [0, 22, 9], [0, 0, 1]], dtype=F64).repeat(sources + 1, 1, 1)
    cameras = raytrans.Cameras(k, poses, size)
    return raytrans.Views(images, cameras[list(range(sources))]), cameras[sources]


def fixed(model):
    """Weights by a formula, so that they are the same in every version of everything."""
    with torch.no_grad():
        for i, (_, value) in enumerate(sorted(model.state_dict().items())):
            value.copy_((0.3 * torch.sin(1.7 * torch.arange(value.numel(), dtype=F64) + i)).reshape(value.shape))
    return model.eval()


def placed(model, views):
    with torch.no_grad():
        return model.place(model.encode(views), source_unit(views.cameras))


def parameters(**changes):
    return sum(p.numel() for p in Renderer(model_config("small", **changes)).parameters())


def captured(model, views, camera, change=lambda views: None):
    """Inputs and outputs of the view stage for a few rays, after a change of the placed views."""
    encoded = placed(model, views)
    change(encoded)
    targets = model.target_rays(encoded, camera.rays()[::6, ::6].reshape(-1))
    found = []
    hook = model.views.register_forward_hook(lambda stage, given, out: found.append((given, out)))
    with torch.no_grad():
        model(encoded, targets, torch.zeros(3).to(model.dtype))
    hook.remove()
    return found[0]


def test_the_defaults_are_the_model_that_knew_no_switches(monkeypatch):
    """Numbers of a revision that had none, nor any preference for near rays, with weights by the same formula."""
    monkeypatch.setattr(head, "SAME_RAY", 0.0)
    views, camera = rig()
    model = fixed(Renderer(model_config("tiny"))).double()
    out = raytrans.render_rays(model, views, camera.rays()[4:16:5, 6:20:6], precision="float64")
    color = [[0.395041149, 0.669304712, 0.416436880], [0.577987560, 0.477920192, 0.475095451]]
    color.append([0.650937894, 0.337874857, 0.643237198])
    distance = [[1.337003709, 1.473473253, 3.199644482], [1.271603310, 1.469272947, 1.482747308]]
    distance.append([1.777029343, 1.704370644, 2.620095591])
    torch.testing.assert_close(out.color.mean(-1), torch.tensor(color, dtype=F64), rtol=0, atol=1e-7)
    torch.testing.assert_close(out.distance_mean, torch.tensor(distance, dtype=F64), rtol=0, atol=1e-6)


def without_switches(path):
    """Rewrite a checkpoint as a version wrote it that knew no switches."""
    tensors, metadata = read_tensors(path)
    known = [*CHOICES, "moments", "residual", "exposure"]
    metadata["model"] = {k: v for k, v in metadata["model"].items() if k == "directions" or k not in known}
    write_tensors(path, tensors, metadata)


@pytest.mark.parametrize("source", ["released", "tiny"])
def test_checkpoints_without_the_keys_load_and_render_the_same_bits(tmp_path, source):
    views, camera = rig()
    model = load_model(RELEASED) if source == "released" else fixed(Renderer(model_config("tiny")))
    assert model.config == model_config("small" if source == "released" else "tiny")
    path = tmp_path / "model.safetensors"
    save_model(path, model)
    without_switches(path)
    assert "kernel" not in read_tensors(path)[1]["model"]
    old = load_model(path)
    assert old.config == model.config
    rays = camera.rays()[::5, ::5]
    expected, found = (raytrans.render_rays(m, views, rays) for m in (model, old))
    assert torch.equal(found.color, expected.color) and torch.equal(found.opacity, expected.opacity)


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_changes_the_rendering_and_trains_every_weight(name):
    views, camera = rig()
    default, model = fixed(Renderer(model_config("tiny"))), fixed(Renderer(model_config("tiny", **SWITCHES[name])))
    same = {k: v for k, v in default.state_dict().items() if k in model.state_dict()}
    same = {k: v for k, v in same.items() if v.shape == model.state_dict()[k].shape}
    model.load_state_dict(same, strict=False)
    for m in (default.double(), model.double()):
        m.head.density[-1].bias.data -= 3  # samples that shine through
    rays = camera.rays()[1::4, 1::4]
    plain, out = (raytrans.trace(m, views, rays) for m in (default, model))
    assert out.color.shape == (*rays.shape, 3) and bool(torch.isfinite(out.color).all())
    assert (out.color - plain.color).abs().max() > 1e-6  # in float64, which rounds at 1e-16
    encoded = model.place(model.encode(views), source_unit(views.cameras))
    _, proposal = model.propose_weights(encoded, model.target_rays(encoded, rays.reshape(-1)))
    (out.color.sum() + out.distance_mean.nansum() + proposal.square().sum()).backward()
    idle = [n for n, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())]
    # a bias before a norm has a gradient that is zero but for rounding, if there is any
    assert [n for n in idle if not n.endswith("convs.0.bias")] == []


LINES = [  # as in docs/training.md
    ["model.kernel=real"],
    ["model.pooling=moments"],
    ["model.logits=dot"],
    ["model.logits=mlp"],
    ["model.messages=nonlinear"],
    ["model.moments=false"],
    ["model.visibility=none"],
    ["model.proposal=uniform"],
    ["model.encoder=plain"],
    ["model.scales=2"],
    ["model.color_stride=2"],
    ["model.residual=true"],
    ["model.exposure=true"],
    ["model.fine_type=36x0", "model.typed=[]"],
    ['model.fine_type="24x0 + 6x1"', "model.typed=[6]"],
    ['model.fine_type="24x0 + 3x1 + 2x2 + 1x3"', "model.typed=[3, 2, 1]"],
]


@pytest.mark.parametrize("lines", LINES, ids=" ".join)
def test_the_variants_have_about_as_many_parameters(lines):
    count, variant = parameters(), read_config("configs/small.toml", lines).model
    found = sum(p.numel() for p in Renderer(variant).parameters())
    assert abs(found / count - 1) < 0.02 and variant != ModelConfig()


def contracts(**changes):
    views, camera = rig()
    return check_model(fixed(Renderer(model_config("tiny", **changes))), views, camera.cropped(5, 7, 7, 10), dtype=F64)


def test_the_contracts_hold_with_most_switches_at_once():
    report = contracts(**MOST)
    assert report.passed, str(report)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SWITCHES if name != "encoder"])
def test_the_contracts_hold_with_each_switch(name):
    report = contracts(**SWITCHES[name])
    assert report.passed, str(report)


@pytest.mark.slow
def test_a_plain_encoder_breaks_the_quarter_turns_alone():
    report = contracts(encoder="plain")
    assert report.broken == ["source_quarter_turn"], str(report)


@pytest.mark.parametrize(("value", "same"), [("none", True), ("sweep", False)])
def test_without_visibility_weights_and_tokens_do_not_know_the_sweeps(value, same):
    views, camera = rig()
    # uniform samples: those of the proposal would move with the sweeps
    model = fixed(Renderer(model_config("tiny", visibility=value, proposal="uniform")))

    def other(encoded):
        encoded.volume = [PlaneVolume(v.values.flip(1)) for v in encoded.volume]

    (tokens, weight, scalars, *_), _ = captured(model, views, camera)
    (tokens2, weight2, scalars2, *_), _ = captured(model, views, camera, other)
    assert torch.equal(tokens, tokens2) == same and torch.equal(weight, weight2) == same
    assert not torch.equal(scalars, scalars2)


def test_a_second_scale_adds_the_matching_features_to_the_tokens():
    views, camera = rig()
    model = fixed(Renderer(model_config("tiny", scales=2))).double()
    first = model.fine_type.dim

    def grown(encoded):
        encoded.match = [3 * m for m in encoded.match]

    tokens, tripled = (captured(model, views, camera, change)[0][0] for change in (lambda encoded: None, grown))
    factor = torch.ones(tokens.shape[-1], dtype=F64)
    factor[first : first + 12] = 3  # 8x0 + 2x1
    assert tokens[..., first : first + 12].std() > 0.01
    torch.testing.assert_close(tripled, factor * tokens)


def test_uniform_samples_are_evenly_spaced_in_the_root_of_inverse_distance():
    views, camera = rig()
    model = fixed(Renderer(model_config("tiny", proposal="uniform")))
    encoded = placed(model, views)
    targets = model.target_rays(encoded, camera.rays()[::8, ::8].reshape(-1))
    with torch.no_grad():
        still, drawn = (
            model(encoded, targets, torch.zeros(3), None if u is None else torch.full((len(targets.near), 8), u))
            for u in (None, 0.25)
        )
    for traced, u in ((still, 0.5), (drawn, 0.25)):
        root = (traced.inverse / targets.near[:, None]).sqrt()
        expected = torch.cat([1 - (torch.arange(8) + u) / 8, torch.zeros(1)]).expand_as(root)
        torch.testing.assert_close(root, expected)
    assert not any(name.startswith("propose") for name in model.state_dict())
    torch.testing.assert_close(still.proposal, torch.full_like(still.proposal, 1 / 24))


def test_colours_at_half_the_size_are_means_of_blocks_and_turn_with_the_image():
    views, _ = rig()
    model = fixed(Renderer(model_config("tiny", color_stride=2)))
    image = views.images[0][:18, :24]
    two, turned = (
        model.encode(raytrans.Views([i], raytrans.Cameras.stack([views.cameras[0].resized(*i.shape[:2])])))
        for i in (image, torch.rot90(views.images[0], 1, (0, 1)))
    )
    blocks = image.reshape(9, 2, 12, 2, 3).mean((1, 3)).permute(2, 0, 1)
    torch.testing.assert_close(two.colors[0], blocks)
    odd = model.encode(views).colors[0]
    assert odd.shape == (3, 9, 13)
    torch.testing.assert_close(turned.colors[0], torch.rot90(odd, 1, (1, 2)))


def test_the_residual_starts_at_zero_and_is_bounded():
    views, camera = rig()
    rays = camera.rays()[::5, ::5]
    default, model = (Renderer(model_config("tiny", residual=r)) for r in (False, True))
    with torch.no_grad():
        model.load_state_dict(default.state_dict(), strict=False)
        plain, start = (raytrans.trace(m, views, rays).color for m in (default, model))
        assert torch.equal(plain, start)
        model.head.residual[-1].bias.copy_(torch.tensor([50.0, -50.0, 0.0]))
        change = raytrans.trace(model, views, rays, background=(0, 0, 0)).color
        base = raytrans.trace(default, views, rays, background=(0, 0, 0)).color
    change = (change - base).flatten(0, 1)
    assert 0.05 < change[:, 0].max() <= 0.1 + 1e-6 and -0.1 - 1e-6 <= change[:, 1].min() < -0.05
    torch.testing.assert_close(change[:, 2], torch.zeros(len(change)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("typed", [(), (2,), (0, 1), (1, 1, 1)])
def test_samples_have_typed_channels_of_the_orders_asked_for(typed):
    views, camera = rig()
    model = fixed(Renderer(model_config("tiny", fine_type="4x0 + 2x1 + 1x2 + 1x3", typed=typed)))
    _, (_, _, fields, _) = captured(model, views, camera)
    assert {n: f.shape[-1] for n, f in fields.items()} == {n: c for n, c in enumerate(typed, 1) if c}
    assert all(f.abs().mean() > 1e-4 for f in fields.values())
