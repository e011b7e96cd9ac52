import pytest
import torch
import torch.nn.functional as F

from raytrans.fields.types import FieldType
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.pairs import RayPairs
from raytrans.geometry.rays import Rays
from raytrans.geometry.rigid import random_rotation
from raytrans.layers.attention import RayAttention
from raytrans.layers.convolution import RayConvolution
from raytrans.layers.neighborhood import Gathered
from raytrans.models.config import model_config
from raytrans.models.gather import RelativeCameras, project, read, read_planes, sample_pairs, sample_turn
from raytrans.models.reading import PlaneVolume
from raytrans.models.stages import MomentLayer, ViewLayer, ViewStage, pair_invariants

F64 = torch.float64


def rig(count=3, distortion=None):
    """Cameras on a circle that look at the origin, and target rays from beside them."""
    poses = torch.eye(4, dtype=F64).repeat(count, 1, 1)
    for i in range(count):
        forward = torch.tensor([-1.0, 0.2 * i, 0.3 - 0.2 * i], dtype=F64)
        forward = forward / forward.norm()
        right = torch.linalg.cross(torch.tensor([0.0, 0.1, 1.0], dtype=F64), forward)
        right = right / right.norm()
        poses[i, :3, :3] = torch.stack([right, torch.linalg.cross(forward, right), forward], -1)
        poses[i, :3, 3] = -3 * forward
    k = torch.tensor([[40.0, 0, 21], [0, 44, 15], [0, 0, 1]], dtype=F64).repeat(count, 1, 1)
    return Cameras(k, poses, (30, 40), distortion)


def target_rays(count=5):
    torch.manual_seed(1)
    origin = torch.tensor([2.8, 0.4, 0.2], dtype=F64) + 0.2 * torch.randn(count, 3, dtype=F64)
    toward = 0.3 * torch.randn(count, 3, dtype=F64) - origin
    return Rays.from_points(origin, toward).in_section(torch.rand(count) * 6)


def placed(cameras, center=None, unit=1.7):
    center = torch.tensor([0.3, 0.1, -0.2], dtype=F64) if center is None else center
    return RelativeCameras.of(cameras, center, torch.tensor(unit, dtype=F64), F64, torch.device("cpu"))


def samples_of(cameras, rays, distances):
    relative = placed(cameras)
    origin = (rays.origin - relative.center) / relative.unit
    inverse = (relative.unit / distances).expand(len(rays), -1)
    return relative, project(relative, origin, rays.direction, inverse)


def source_rays(cameras, points):
    """Rays of every camera through world points (R, S, 3), by way of their pixels: (N, R, S)."""
    return [camera.pixel_rays(camera.project(points)[0]) for camera in cameras]


def test_samples_land_where_the_cameras_project_them():
    lens = torch.tensor([0.05, -0.04, 0.001, -0.002, 0.0], dtype=F64)
    cameras, rays, distances = rig(distortion=lens), target_rays(), torch.tensor([2.0, 3.0, 4.0], dtype=F64)
    relative, samples = samples_of(cameras, rays, distances)
    points = rays.origin[:, None] + distances[:, None] * rays.direction[:, None]
    for i, camera in enumerate(cameras):
        pixels, depth = camera.project(points)
        expected = 2 * pixels / torch.tensor([40.0, 30.0], dtype=F64) - 1
        seen = samples.fade[i] > 0.5
        assert bool(seen.any())
        torch.testing.assert_close(samples.grid[i][seen], expected[seen], rtol=0, atol=1e-9)
        offset = (points - camera.centers).norm(dim=-1)
        torch.testing.assert_close(samples.ratio[i], offset / distances)
        torch.testing.assert_close(samples.inverse[i], relative.unit / offset)


def test_views_fade_at_the_border_and_behind_the_camera():
    cameras = rig(1)
    camera = cameras[0]
    pixels = torch.tensor([[0.0, 15.0], [0.5, 15.0], [1.5, 15.0], [20.0, 15.0], [45.0, 15.0]], dtype=F64)
    through = camera.pixel_rays(pixels)
    relative = placed(cameras)
    origin = (through.origin - relative.center) / relative.unit
    fade = project(relative, origin, through.direction, torch.ones(5, 1, dtype=F64)).fade[0, :, 0]
    torch.testing.assert_close(fade, torch.tensor([0.0, 0.5, 1.0, 1.0, 0.0], dtype=F64), rtol=0, atol=1e-6)
    behind = project(relative, origin, -through.direction, torch.ones(5, 1, dtype=F64)).fade
    assert behind.abs().max() == 0


def test_sample_pairs_are_the_pair_geometry_of_rays_that_meet():
    cameras, rays, distances = rig(), target_rays(), torch.tensor([2.0, 3.5], dtype=F64)
    relative, samples = samples_of(cameras, rays, distances)
    fast = sample_pairs(relative, rays.frame, samples)
    points = rays.origin[:, None] + distances[:, None] * rays.direction[:, None]
    for i, y in enumerate(source_rays(cameras, points)):
        slow = RayPairs.of(rays[:, None], y, relative.unit)
        assert slow.reciprocal.abs().max() < 1e-12
        for n_out, n_in in [(0, 1), (0, 2), (1, 0), (1, 1), (1, -1), (2, 2), (2, 0), (2, 1), (1, 2)]:
            torch.testing.assert_close(fast.phase(n_out, n_in)[i], slow.phase(n_out, n_in), rtol=0, atol=1e-9)
        torch.testing.assert_close(fast.cosine[i], slow.cosine)


def layer_with(in_type, out_type, edit):
    """A ray convolution whose kernel is constant, its weights set by `edit(term, weight)`."""
    layer = RayConvolution(in_type, out_type, basis=1).double()
    for parameter in layer.parameters():
        torch.nn.init.zeros_(parameter)
    torch.nn.init.ones_(layer.kernel.radial.layers[-1].bias)
    with torch.no_grad():
        for term, weight in zip(layer.kernel.terms, layer.kernel.weights, strict=True):
            edit(term, weight[0])
    return layer


def test_reading_typed_features_is_the_ray_convolution_restricted_to_rays_through_the_sample():
    cameras, rays, distances = rig(), target_rays(), torch.tensor([2.5], dtype=F64)
    relative, samples = samples_of(cameras, rays, distances)
    kind = FieldType("2x0 + 2x1 + 1x2")
    features = torch.randn(3, 5, 1, kind.dim, dtype=F64)
    fast = pair_invariants(kind, features, sample_pairs(relative, rays.frame, samples))
    points = rays.origin + 2.5 * rays.direction

    def parts(term, weight):
        # output channels of type 0: invariants, then real and imaginary part of every turned channel
        start = {0: 0, 1: 2, 2: 6}[term.source.n]
        for c in range(term.source.multiplicity):
            if term.source.real:
                weight[c, start + c] = 1
            else:
                weight[c, start + 2 * c, 0] = 1
                weight[c, start + 2 * c + 1, 1] = -1

    layer = layer_with(kind, "8x0", parts)
    for i, y in enumerate(source_rays(cameras, points)):
        slow = layer(rays, y[:, None], features[i], Gathered.laid_out((5,), 1), relative.unit)
        torch.testing.assert_close(fast[i, :, 0], slow, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kernel", ["complex", "real"])
def test_typed_values_of_the_view_stage_are_a_ray_convolution_over_the_sources(kernel):
    channels_of = {1: 2, 2: 1, 3: 2}
    cameras, rays, distances = rig(), target_rays(), torch.tensor([2.5], dtype=F64)
    relative, samples = samples_of(cameras, rays, distances)
    stage = ViewStage(
        4, 3, model_config("tiny", hidden=8, fine_type="2x1 + 1x2 + 2x3", typed=(2, 1, 2), kernel=kernel)
    ).double()
    torch.nn.init.normal_(stage.pass_on)
    tokens = torch.randn(3, 5, 1, 4, dtype=F64)
    sources = {n: torch.randn(3, 5, 1, c, dtype=torch.complex128) for n, c in channels_of.items()}
    pairs = sample_pairs(relative, rays.frame, samples)
    x = stage.embed(tokens)
    attention = torch.rand(3, 5, 1, dtype=F64)
    typed = stage._typed(x, attention, pairs, sources)
    coefficients, pass_on = stage.coefficients(x), stage.pass_on
    if kernel == "real":
        coefficients, pass_on = (
            torch.stack([real, 0 * real], -1).flatten(-2) for real in (coefficients, pass_on.flatten())
        )
    coefficients = torch.view_as_complex(coefficients.unflatten(-1, (-1, 2)).contiguous())
    pass_on = torch.view_as_complex(pass_on.reshape(-1, 2))
    points = rays.origin + 2.5 * rays.direction
    rays_y = source_rays(cameras, points)
    y = Rays.cat([r[:, None] for r in rays_y], 1)
    start = 0
    for n, channels in channels_of.items():
        g = coefficients[..., start : start + channels]
        # complex values that are invariants enter the layer as their real and imaginary parts
        laid = torch.cat([g.real, g.imag, torch.view_as_real(sources[n]).flatten(-2)], -1)[:, :, 0].movedim(0, 1)
        kind = FieldType({(0, 0.0): 2 * channels, (n, 0.0): channels})

        def edit(term, matrix, channels=channels, start=start):
            for c in range(channels):
                if term.source.real:
                    matrix[c, c, 0] = 1
                    matrix[channels + c, c, 1] = 1
                elif not term.conjugate:
                    matrix[c, c] = torch.view_as_real(pass_on[start + c])

        layer = layer_with(kind, FieldType({(n, 0.0): channels}), edit)
        slow = layer(rays, y, laid, Gathered.laid_out((5,), 3), relative.unit, attention[..., 0].T)
        torch.testing.assert_close(torch.view_as_real(typed[n][:, 0]).flatten(-2), slow, rtol=0, atol=1e-9)
        start += channels


def test_dot_logits_are_scaled_dot_product_attention_over_the_sources():
    hidden, heads, sources, targets = 16, 2, 3, 5
    stage = ViewLayer(hidden, heads, "dot").double()
    query, tokens = torch.randn(targets, hidden, dtype=F64), torch.randn(sources, targets, hidden, dtype=F64)
    bias = torch.randn(sources, targets, 1, dtype=F64)
    got, attention = stage.attended(query, tokens, bias)

    def dealt(x):  # (sources, targets, c) to (targets, heads, sources, c / heads)
        return x.unflatten(-1, (heads, -1)).permute(1, 2, 0, 3)

    expected = torch.nn.functional.scaled_dot_product_attention(
        dealt(stage.to_query(stage.norm(query))[None]),
        dealt(stage.to_key(tokens)),
        dealt(stage.to_value(tokens)),
        attn_mask=bias.permute(1, 2, 0)[:, :, None],
    )
    torch.testing.assert_close(got, expected[:, :, 0].flatten(-2), rtol=0, atol=1e-12)
    torch.testing.assert_close(attention.sum(0), torch.ones(targets, heads, dtype=F64))


def test_moments_are_weighted_means_and_variances_over_the_sources():
    layer = MomentLayer(6).double()
    query, x, weight = (torch.randn(s, dtype=F64) for s in ((5, 6), (3, 5, 6), (3, 5, 1)))
    weight = weight.square()
    out, share = layer(query, x, weight.log())
    torch.testing.assert_close(share, weight / weight.sum(0))
    for row in range(5):
        values = [layer.to_value(x[j, row]) for j in range(3)]
        shares = [weight[j, row] / weight[:, row].sum() for j in range(3)]
        mean = sum(s * v for s, v in zip(shares, values, strict=True))
        variance = sum(s * v * v for s, v in zip(shares, values, strict=True)) - mean**2
        own = query[row] + layer.out(torch.cat([mean, variance]))
        torch.testing.assert_close(out[row], own + layer.feed(layer.out_norm(own)))


@pytest.mark.parametrize("variance", [True, False])
def test_the_first_query_knows_the_variance_only_where_it_is_handed_on(variance):
    stage = ViewStage(4, 3, model_config("tiny", hidden=8, moments=variance)).double()
    stage.embed = torch.nn.Identity()
    stage.moments.weight.data = torch.nn.functional.pad(torch.eye(4), (0, 4, 0, 0)).double().repeat(2, 1)
    stage.moments.weight.data = stage.moments.weight.data[: stage.moments.out_features]
    found = []
    stage.query.register_forward_hook(lambda module, given, out: found.append(given[0]))
    mean, spread = torch.randn(1, 8, dtype=F64), torch.rand(1, 8, dtype=F64)
    kept = {n: torch.zeros(2, 1, c, dtype=torch.complex128) for n, c in ((1, 2), (2, 1))}
    relative, samples = samples_of(rig(2), target_rays(1), torch.tensor([2.5], dtype=F64))
    pairs = sample_pairs(relative, target_rays(1).frame, samples)
    pairs = RayPairs(**{k: v[..., 0] if isinstance(v, torch.Tensor) else v for k, v in vars(pairs).items()})
    for scale in (1, 2):
        x = torch.stack([mean - scale * spread, mean + scale * spread])
        stage(x, torch.ones(2, 1, dtype=F64), torch.zeros(1, 3, dtype=F64), pairs, kept)
    expected = torch.zeros(1, 11, dtype=F64)
    if variance:
        expected[0, 4:8] = 3 * spread[0, :4] ** 2
    torch.testing.assert_close(found[1] - found[0], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("logits", "messages"), [("difference", "linear"), ("mlp", "linear"), ("mlp", "nonlinear")])
def test_the_view_stage_is_ray_attention(logits, messages):
    """Tokens, their normed query and a constant 1 that carries the biases, as invariants on rays."""
    hidden, heads, sources, targets = 8, 2, 3, 5
    stage = ViewLayer(hidden, heads, logits, messages).double()
    query, tokens = torch.randn(targets, hidden, dtype=F64), torch.randn(sources, targets, hidden, dtype=F64)
    weight = torch.rand(sources, targets, dtype=F64)
    fast, attention = stage.attended(query, tokens, weight.log()[..., None])
    layer = RayAttention(f"{hidden + 1}x0", f"{hidden + 1}x0", f"{hidden}x0", heads=heads, basis=1, logits=logits)
    layer = layer.with_messages(messages).double()
    dealt = torch.arange(hidden).unflatten(0, (heads, -1)).T.flatten()  # the layer deals channels to heads in turn
    half = hidden // 2
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.kernel.radial.layers[-1].bias.fill_(1)
        kernel, take = layer.kernel.weights[0][0], layer.query.weights[0]
        kernel[:hidden, :half], kernel[hidden, :half] = stage.to_key.weight.T, stage.to_key.bias
        kernel[:hidden, hidden + 1 :] = stage.to_value.weight.T[:, dealt]
        kernel[hidden, hidden + 1 :] = stage.to_value.bias[dealt]
        take[:hidden, :half], take[hidden, :half] = stage.to_query.weight.T, stage.to_query.bias
        if logits == "difference":
            layer.logits.mix.weight[:, :half] = stage.to_logit.weight
        else:  # five numbers a head, of which it needs two
            own = [0, 1, 5, 6]
            layer.logits.mix.weight[own, :half] = torch.eye(half, dtype=F64)
            layer.logits.scores.score[:, : half // heads] = stage.scores.score
        if messages == "nonlinear":
            layer.message.mix.weights[0].copy_(stage.to_message.weight.T[dealt][:, dealt])
            layer.message.mix.bias.copy_(stage.to_message.bias[dealt])
        torch.diagonal(layer.mix.weights[0]).fill_(1)
    one = torch.ones(targets, 1, dtype=F64)
    slow = layer(
        target_rays(targets),
        Rays.cat([target_rays(targets)[:, None]] * sources, 1),
        torch.cat([stage.norm(query), one], -1),
        torch.cat([tokens.movedim(0, 1), one[:, None].expand(-1, sources, -1)], -1),
        Gathered.laid_out((targets,), sources),
        weights=weight.T,
    )
    torch.testing.assert_close(slow, fast[:, dealt], rtol=0, atol=1e-9)
    assert attention.shape == (sources, targets, heads) and slow.std() > 0.1


def test_the_turn_alone_is_that_of_the_pair():
    cameras, rays = rig(), target_rays(40)
    for toward in (1, -1):  # rays at small angles, and nearly opposite ones
        flipped = Rays.from_points(rays.origin + (1 - toward) * 3 * rays.direction, toward * rays.direction)
        relative, samples = samples_of(cameras, flipped, torch.tensor([2.0, 3.0, 4.0], dtype=F64))
        pairs = sample_pairs(relative, flipped.frame, samples)
        assert bool((toward * pairs.cosine > 0).any())
        torch.testing.assert_close(sample_turn(relative, flipped.frame, samples), pairs.difference, rtol=0, atol=1e-12)


def test_reading_is_bilinear_between_pixel_centres():
    cameras, rays = rig(1), target_rays(2)
    _, samples = samples_of(cameras, rays, torch.tensor([2.5], dtype=F64))
    image = torch.rand(3, 30, 40, dtype=F64)
    got = read([image], samples)[0, :, 0]
    for r in range(2):
        u, v = ((samples.grid[0, r, 0] + 1) / 2 * torch.tensor([40.0, 30.0], dtype=F64)).tolist()
        x, y = int(u - 0.5), int(v - 0.5)
        a, b = u - 0.5 - x, v - 0.5 - y
        corner, weights = image[:, y : y + 2, x : x + 2], [[(1 - a) * (1 - b), a * (1 - b)], [(1 - a) * b, a * b]]
        expected = (corner * torch.tensor(weights, dtype=F64)).sum((1, 2))
        torch.testing.assert_close(got[r], expected)


def test_planes_are_read_linearly_from_end_to_end():
    cameras, rays = rig(1), target_rays(2)
    _, samples = samples_of(cameras, rays, torch.tensor([2.5], dtype=F64))
    volume = torch.arange(5, dtype=F64)[None, :, None, None].expand(1, 5, 8, 10).contiguous()
    for plane in (0.0, 0.3, 0.5, 1.0):
        value = read_planes([PlaneVolume(volume)], samples, torch.full((1, 2, 1), plane, dtype=F64))
        torch.testing.assert_close(value, torch.full((1, 1, 2, 1), 4 * plane, dtype=F64), rtol=0, atol=1e-9)


def test_relative_cameras_do_not_see_the_world_frame():
    cameras, rays, distances = rig(), target_rays(), torch.tensor([2.0, 3.0], dtype=F64)
    _, before = samples_of(cameras, rays, distances)
    turn, shift = random_rotation(), torch.tensor([30.0, -4, 5], dtype=F64)
    moved = cameras.moved(turn, shift, 10.0)
    rays = rays.moved(turn, shift, 10.0)
    relative = placed(moved, center=moved.centers.mean(0), unit=17.0)
    origin = (rays.origin - relative.center) / relative.unit
    after = project(relative, origin, rays.direction, (relative.unit / (10 * distances)).expand(5, -1))
    for name in ("grid", "fade", "ratio", "inverse"):
        torch.testing.assert_close(getattr(after, name), getattr(before, name), rtol=0, atol=1e-9)
    assert F.mse_loss(after.grid, torch.zeros_like(after.grid)) > 1e-3
