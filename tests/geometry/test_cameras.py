"""Cameras against OpenCV, scipy and the pictures they belong to."""

import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from raytrans.geometry.cameras import Cameras
from raytrans.geometry.distortion import Distortion
from raytrans.geometry.rays import section_frame
from raytrans.geometry.rigid import inverse_rigid, random_rotation

# odd sizes, fx != fy, principal point off the centre
INTRINSICS = np.array([[61.0, 0.0, 27.3], [0.0, 52.0, 15.9], [0.0, 0.0, 1.0]])
SIZE = (37, 53)
LENSES = {
    "pinhole": None,
    "opencv": Distortion("opencv", torch.tensor([-0.2, 0.05, 0.004, -0.003, 0.01], dtype=torch.float64)),
    "rational": Distortion("rational", torch.tensor([0.3, -0.12, 0.002, -0.003, 0.02, 0.6, -0.1, 0.05]).double()),
    "fisheye": Distortion("fisheye", torch.tensor([0.05, -0.01, 0.003, -0.001], dtype=torch.float64)),
}


def pose(seed=0, *batch):
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.eye(4, dtype=torch.float64).repeat(*batch, 1, 1)
    matrix[..., :3, :3] = random_rotation(*batch, generator=generator)
    matrix[..., :3, 3] = torch.randn(*batch, 3, generator=generator, dtype=torch.float64)
    return matrix


def camera(lens="pinhole", **changes):
    arguments = {"intrinsics": INTRINSICS, "world_from_camera": pose(), "size": SIZE, "distortion": LENSES[lens]}
    return Cameras(**(arguments | changes))


def batch(lens="pinhole", count=4):
    """Cameras that differ in everything."""
    scale = torch.linspace(0.8, 1.3, count, dtype=torch.float64)[:, None, None]
    intrinsics = torch.from_numpy(INTRINSICS).repeat(count, 1, 1)
    intrinsics[:, :2] *= scale
    sizes = np.stack([np.arange(count) + 30, 57 - np.arange(count)], -1)
    near = 0.1 * (1 + np.arange(count))
    return Cameras(intrinsics, pose(1, count), sizes, LENSES[lens], near=near, far=20 * near)


def assert_same(a, b, tolerance=0.0):
    assert a.shape == b.shape and torch.as_tensor(a.height).equal(torch.as_tensor(b.height))
    assert torch.as_tensor(a.width).equal(torch.as_tensor(b.width))
    lenses = [None if c.distortion is None else c.distortion.coefficients for c in (a, b)]
    pairs = [(a.intrinsics, b.intrinsics), (a.world_from_camera, b.world_from_camera)]
    for x, y in [*pairs, (a.near, b.near), (a.far, b.far), lenses]:
        assert (x is None) == (y is None)
        if x is not None:
            assert x.dtype == torch.float64 and difference(x, y) <= tolerance


def difference(a, b):
    return (a - b).abs().max().item()


def points_before(camera, count=200):
    """World points in front of a camera, within its picture."""
    generator = torch.Generator().manual_seed(4)
    corner = torch.rand(count, 2, generator=generator, dtype=torch.float64) * torch.tensor([53.0, 37.0])
    distance = 1 + 3 * torch.rand(count, generator=generator, dtype=torch.float64)
    return corner, camera.pixel_rays(corner).point(distance)


def by_opencv(camera, points):
    view = inverse_rigid(camera.world_from_camera).numpy()
    turn, shift = Rotation.from_matrix(view[:3, :3]).as_rotvec(), view[:3, 3]
    lens = np.zeros(5) if camera.distortion is None else camera.distortion.coefficients.numpy()
    k, points = camera.intrinsics.numpy(), points.numpy().reshape(-1, 1, 3)
    if camera.distortion is not None and camera.distortion.model == "fisheye":
        return torch.from_numpy(cv2.fisheye.projectPoints(points, turn, shift, k, lens)[0][:, 0])
    return torch.from_numpy(cv2.projectPoints(points, turn, shift, k, lens)[0][:, 0])


@pytest.mark.parametrize("lens", LENSES)
def test_projection_is_opencvs(lens):
    one = camera(lens)
    pixels, points = points_before(one)
    image, z = one.project(points)
    assert difference(image, by_opencv(one, points)) < 1e-10
    assert difference(image, pixels) < 1e-11
    offset = (points - one.centers) @ one.world_from_camera[:3, :3]
    assert difference(z, offset[:, 2]) < 1e-14


@pytest.mark.parametrize("lens", LENSES)
def test_rays_pass_the_pixel_centres(lens):
    one = camera(lens)
    rays = one.rays()
    assert rays.shape == SIZE and rays.dtype == torch.float64
    pixels, _ = one.project(rays.point(torch.rand(SIZE, dtype=torch.float64) + 0.5))
    assert difference(pixels[0, 0], torch.tensor([0.5, 0.5])) < 1e-12
    x, y = np.meshgrid(np.arange(SIZE[1]) + 0.5, np.arange(SIZE[0]) + 0.5)
    assert difference(pixels, torch.from_numpy(np.stack([x, y], -1))) < 1e-11
    assert difference(rays.moment, torch.linalg.cross(one.centers.expand_as(rays.direction), rays.direction)) < 1e-14
    assert torch.equal(rays.origin, one.centers.expand(*SIZE, 3)) and torch.equal(rays.anchor, rays.origin)
    frame = section_frame(one.world_from_camera[:3, :3], rays.direction)
    assert difference(rays.frame, frame) < 1e-14 and difference(rays.frame[..., 2], rays.direction) < 1e-14


def test_a_pinhole_without_skew_by_hand():
    one = camera(world_from_camera=np.eye(4))
    ray = one.pixel_rays(torch.tensor([27.3 + 61.0, 15.9 - 26.0], dtype=torch.float64))
    assert difference(ray.direction, torch.tensor([1, -0.5, 1]).double() / 1.5) < 1e-15
    skewed = camera(world_from_camera=np.eye(4), intrinsics=INTRINSICS + 10 * np.eye(3, k=1) * [[1], [0], [0]])
    assert difference(skewed.project(torch.tensor([1.0, 2.0, 4.0]))[0], torch.tensor([47.55, 41.9])) < 1e-5


@pytest.mark.parametrize("lens", LENSES)
@pytest.mark.parametrize("k", [-1, 0, 1, 2, 3, 4])
def test_a_quarter_turned_camera_has_the_rays_of_the_turned_picture(lens, k):
    one = camera(lens)
    rays, turned = one.rays(), one.quarter_turned(k)
    assert (turned.height, turned.width) == (SIZE if k % 2 == 0 else SIZE[::-1])
    for name in ("direction", "moment", "origin"):
        expected = torch.rot90(getattr(rays, name), k, dims=(0, 1))
        assert difference(getattr(turned.rays(), name), expected) < 1e-12
    # one common angle for all section frames: local = frame^-1 turned frame is the same rotation about d everywhere
    relative = torch.rot90(rays.frame, k, dims=(0, 1)).mT @ turned.rays().frame
    expected = Rotation.from_rotvec([0, 0, k * math.pi / 2]).as_matrix()
    assert difference(relative, torch.from_numpy(expected)) < 1e-12


def test_a_batch_of_mixed_sizes_turns_view_by_view():
    cameras = batch("opencv")
    turned = cameras.quarter_turned(3)
    for i, one in enumerate(cameras):
        assert_same(turned[i], one.quarter_turned(3))
    with pytest.raises(ValueError, match="intrinsics: expected no skew"):
        camera(intrinsics=INTRINSICS + np.eye(3, k=1) * [[1], [0], [0]]).quarter_turned(1)


def test_a_rolled_camera_turns_about_its_axis():
    one, angle = camera("opencv"), 0.7
    rolled = one.rolled(angle)
    expected = Rotation.from_rotvec(angle * one.forward.numpy()).as_matrix() @ one.world_from_camera[:3, :3].numpy()
    assert difference(rolled.world_from_camera[:3, :3], torch.from_numpy(expected)) < 1e-14
    assert difference(rolled.forward, one.forward) < 1e-15 and torch.equal(rolled.centers, one.centers)
    # the same ray, at the pixel that a turned picture has it, has its frame turned by the roll
    pinhole = camera()
    pixels, points = points_before(pinhole)
    again = pinhole.rolled(angle).pixel_rays(pinhole.rolled(angle).project(points)[0])
    expected = pinhole.pixel_rays(pixels).in_section(angle).frame
    assert difference(again.frame, expected) < 1e-12


@pytest.mark.parametrize("lens", LENSES)
def test_resized_and_cropped_cameras_see_the_same_rays(lens):
    one = camera(lens)
    pixels, points = points_before(one)
    small = one.resized(11, 97)
    assert (small.height, small.width) == (11, 97)
    expected = pixels * torch.tensor([97 / 53, 11 / 37], dtype=torch.float64)
    assert difference(small.project(points)[0], expected) < 1e-11
    window = one.cropped(5, -3, 20, 30)
    assert (window.height, window.width) == (20, 30)
    assert difference(window.rays()[0, 3].direction, one.rays()[5, 0].direction) < 1e-14
    assert difference(window.project(points)[0], pixels - torch.tensor([-3.0, 5.0])) < 1e-11
    many = batch(lens).resized(10, 20)
    assert many.height.tolist() == [10] * 4 and many.width.tolist() == [20] * 4
    assert_same(many[2], batch(lens)[2].resized(10, 20))


@pytest.mark.parametrize("lens", LENSES)
def test_moved_cameras_see_moved_points_and_have_moved_rays(lens):
    cameras, scale = batch(lens), 3.5
    rotation, shift = random_rotation(), torch.tensor([10.0, -20.0, 5.0], dtype=torch.float64)
    moved = cameras.moved(rotation, shift, scale)
    points = 4 * torch.randn(4, 50, 3, dtype=torch.float64)
    (before, z), (after, moved_z) = cameras.project(points), moved.project(scale * points @ rotation.mT + shift)
    seen = (z > 0.3) & (before.norm(dim=-1) < 200)
    assert seen.any(1).all()
    assert difference(after[seen], before[seen]) < 1e-8 and difference(moved_z, scale * z) < 1e-12
    assert difference(moved.near, scale * cameras.near) == 0 and difference(moved.far, scale * cameras.far) == 0
    for one, other in zip(cameras, moved, strict=True):
        rays, expected = other.rays(), one.rays().moved(rotation, shift, scale)
        for name in ("direction", "moment", "frame", "anchor", "origin"):
            assert difference(getattr(rays, name), getattr(expected, name)) < 1e-12
    own = cameras.moved(random_rotation(4), torch.zeros(4, 3), np.arange(1.0, 5.0))
    assert difference(own.near, cameras.near * torch.arange(1.0, 5.0)) < 1e-15


@given(st.integers(0, 10**6), st.sampled_from(list(LENSES)))
def test_pixels_and_rays_undo_each_other_far_from_the_origin(seed, lens):
    far = pose(seed)
    far[:3, 3] *= 1e4
    one = camera(lens, world_from_camera=far)
    pixels = torch.rand(20, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 60 - 5
    again, z = one.project(one.pixel_rays(pixels).point(torch.full((20,), 2.0)))
    assert difference(again, pixels) < 1e-8 and (z > 0).all()


def test_projection_is_differentiable_in_points_and_poses():
    one = camera("opencv")
    points = points_before(one, 3)[1]
    assert torch.autograd.gradcheck(lambda p: one.project(p), points.requires_grad_())
    rotation, shift = random_rotation(), torch.zeros(3, dtype=torch.float64)

    def image(matrix, center):
        return Cameras(INTRINSICS, torch.cat([matrix, center[:, None]], -1), SIZE).project(points.detach())

    fixed = image(rotation, shift)[0]
    assert torch.autograd.gradcheck(lambda c: image(rotation, c)[0] - fixed, shift.requires_grad_(), atol=1e-4)


def test_points_on_the_camera_plane_and_at_the_centre_stay_finite():
    for lens in LENSES:
        one = camera(lens, world_from_camera=np.eye(4))
        points = torch.tensor([[0.0, 0, 0], [1, 2, 0], [0, 0, -1], [3, 1, -2]], dtype=torch.float64)
        pixels, z = one.project(points.requires_grad_())
        pixels.sum().backward()
        assert torch.isfinite(pixels).all() and torch.isfinite(points.grad).all() and z.tolist() == [0, 0, -1, -2]


def test_batches_broadcast_over_points_and_pixels():
    cameras = batch("opencv")
    points = torch.randn(1, 7, 3, dtype=torch.float64)
    pixels, z = cameras.project(points)
    assert pixels.shape == (4, 7, 2) and z.shape == (4, 7)
    for i, one in enumerate(cameras):
        assert torch.equal(pixels[i], one.project(points[0])[0])
        assert torch.equal(cameras.project(points[0, 0])[1][i], one.project(points[0, 0])[1])
    spots = 30 * torch.rand(4, 5, 6, 2, dtype=torch.float64)
    rays = cameras.pixel_rays(spots)
    assert rays.shape == (4, 5, 6)
    assert difference(rays.frame[2], cameras[2].pixel_rays(spots[2]).frame) < 1e-14
    with pytest.raises(ValueError, match=r"pixels: expected shape \(4, '...', 2\)"):
        cameras.pixel_rays(spots[:3])
    with pytest.raises(ValueError, match="rays: expected one camera"):
        cameras.rays()


@pytest.mark.parametrize(
    ("index", "order"),
    [
        ([2, 0, 1], [2, 0, 1]),
        (slice(1, 3), [1, 2]),
        (slice(None, None, -1), [3, 2, 1, 0]),
        (np.array([3, -1]), [3, 3]),
        (torch.tensor([1]), [1]),
        ([False, True, True, False], [1, 2]),
        ([], []),
    ],
)
def test_cameras_index_like_an_array(index, order):
    cameras = batch("opencv")
    picked = cameras[index]
    assert len(picked) == len(order)
    for one, i in zip(picked, order, strict=True):
        assert_same(one, cameras[i])


def test_one_camera_of_a_batch_has_ints_and_a_batch_can_be_stacked_again():
    cameras = batch("fisheye")
    assert isinstance(cameras[-1].height, int) and cameras[-1].width == 54 and cameras[-1].near == pytest.approx(0.4)
    assert_same(Cameras.stack(list(cameras)), cameras)
    assert Cameras.stack([cameras[:2], cameras[2:]]).shape == (2, 2)
    with pytest.raises(IndexError):
        cameras[4]
    with pytest.raises(TypeError):
        len(cameras[0])
    with pytest.raises(IndexError):
        cameras[0][0]


def test_stacks_mix_lenses_bounds_and_sizes():
    mixed = Cameras.stack([camera(near=1.0), camera("opencv").quarter_turned(1)])
    assert mixed.near is None and mixed.height.tolist() == [37, 53]
    points = points_before(camera())[1]
    assert difference(mixed[0].project(points)[0], camera().project(points)[0]) < 1e-14
    with pytest.raises(ValueError, match="lens model"):
        Cameras.stack([camera(), camera("fisheye")])
    for bad in ([], [camera(), batch()]):
        with pytest.raises(ValueError, match="cameras: expected"):
            Cameras.stack(bad)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, torch.float32, torch.bfloat16, list])
def test_any_dtype_is_kept_in_float64(dtype):
    whole = {"intrinsics": [[60, 0, 20], [0, 50, 10], [0, 0, 1]], "world_from_camera": np.eye(4).tolist()}
    if isinstance(dtype, torch.dtype):
        whole = {name: torch.tensor(value, dtype=dtype) for name, value in whole.items()}
    elif dtype is not list:
        whole = {name: np.array(value, dtype=dtype) for name, value in whole.items()}
    one = Cameras(**whole, size=SIZE)
    assert one.intrinsics.dtype == one.world_from_camera.dtype == torch.float64
    assert one.intrinsics.tolist() == [[60, 0, 20], [0, 50, 10], [0, 0, 1]] and one.near is None


def test_what_is_given_once_holds_for_all_and_is_a_copy():
    intrinsics = torch.from_numpy(INTRINSICS.copy())
    cameras = Cameras(intrinsics, pose(2, 3), SIZE, distortion=[-0.2, 0.05, 0.004, -0.003], near=0.5, far=math.inf)
    intrinsics[0, 0] = 1.0
    assert cameras.shape == (3,) and cameras.intrinsics[:, 0, 0].tolist() == [61.0] * 3
    assert cameras.near.tolist() == [0.5] * 3 and cameras.height.tolist() == [37] * 3
    assert cameras.distortion.model == "opencv" and cameras.distortion.coefficients.shape == (3, 5)
    assert "37x53" in repr(cameras) and "opencv" in repr(cameras)


def test_small_errors_of_a_rotation_are_projected_away_and_pose_rows_are_optional():
    rough = pose()
    rough[:3, :3] += 2e-4 * torch.randn(3, 3, dtype=torch.float64)
    one = camera(world_from_camera=rough[:3].float())
    rotation = one.world_from_camera[:3, :3]
    assert difference(rotation.mT @ rotation, torch.eye(3)) < 1e-14 and difference(rotation, rough[:3, :3]) < 1e-3
    assert one.world_from_camera[3].tolist() == [0, 0, 0, 1]
    assert_same(camera(world_from_camera=one.world_from_camera[:3]), one)


def changed(matrix, row, column, value):
    matrix = np.array(matrix, dtype=float)
    matrix[row, column] = value
    return matrix


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"intrinsics": np.eye(4)}, r"intrinsics: expected shape \(..., 3, 3\), got \(4, 4\)"),
        ({"intrinsics": "focal"}, "intrinsics: expected an array of real numbers"),
        ({"intrinsics": [[1, 2], [3]]}, "intrinsics: expected an array"),
        ({"intrinsics": changed(INTRINSICS, 0, 0, 0)}, "intrinsics: expected positive focal lengths, got 0"),
        ({"intrinsics": changed(INTRINSICS, 1, 1, -52)}, "intrinsics: expected positive focal lengths, got -52"),
        ({"intrinsics": changed(INTRINSICS, 0, 2, math.nan)}, "intrinsics: expected finite"),
        ({"intrinsics": INTRINSICS.T}, r"intrinsics: expected \[\[fx, skew, cx\]"),
        ({"world_from_camera": np.eye(3)}, r"world_from_camera: expected shape .* got \(3, 3\)"),
        ({"world_from_camera": changed(np.eye(4), 0, 3, math.inf)}, "world_from_camera: expected finite"),
        ({"world_from_camera": np.diag([1, 1, -1, 1])}, "world_from_camera.*right-handed.*OpenGL"),
        ({"world_from_camera": 2 * np.eye(4)}, "world_from_camera: .*row 0 0 0 1"),
        ({"world_from_camera": np.diag([2, 2, 2, 1])}, "world_from_camera: expected a rotation within 0.001"),
        ({"world_from_camera": changed(np.eye(4), 3, 0, 5.0)}, "is the matrix transposed"),
        ({"world_from_camera": changed(np.eye(4), 0, 1, 2e-3)}, "world_from_camera: expected a rotation"),
        ({"intrinsics": np.stack([INTRINSICS] * 2), "world_from_camera": pose(0, 3)}, "expected batch shape"),
        ({"size": (37,)}, r"size: expected \(H, W\)"),
        ({"size": (0, 53)}, "size: expected whole numbers of at least 1"),
        ({"size": (37.5, 53)}, "size: expected whole numbers"),
        ({"size": np.ones((2, 2))}, r"size: expected \(H, W\) or shape \(2,\)"),
        ({"near": 2.0, "far": 2.0}, "near: expected near < far, got near 2.0 and far 2.0"),
        ({"near": -1.0}, "near: expected positive"),
        ({"near": math.nan}, "near: expected positive"),
        ({"near": math.inf}, "near: expected positive"),
        ({"far": 0.0}, "far: expected positive"),
        ({"far": [1.0, 2.0]}, "far: expected one number"),
        ({"distortion": [0.1, 0.2]}, "distortion: expected 4 or 5 coefficients"),
        ({"distortion": np.zeros((2, 5))}, r"distortion: expected shape \(5,\)"),
        ({"distortion": [0.1, math.nan, 0.0, 0.0]}, "distortion: expected finite"),
    ],
)
def test_bad_cameras_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        camera(**changes)


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        ("moved", (np.diag([1, 1, -1.0]), np.zeros(3)), "rotation.*right-handed"),
        ("moved", (np.eye(4), np.zeros(3)), r"rotation: expected shape \(..., 3, 3\)"),
        ("moved", (np.eye(3), np.zeros(2)), r"translation: expected shape \(..., 3\)"),
        ("moved", (np.eye(3), np.full(3, math.nan)), "translation: expected finite"),
        ("moved", (np.eye(3), np.zeros(3), 0.0), "scale: expected a positive number"),
        ("resized", (0, 10), "size: expected whole numbers of at least 1"),
        ("cropped", (0, 0, 10, -1), "size: expected whole numbers"),
        ("project", (np.zeros(2),), r"points: expected shape \(..., 3\)"),
        ("pixel_rays", (np.array([math.nan, 0]),), "pixels: expected finite"),
    ],
)
def test_bad_arguments_of_methods_are_refused_by_name(method, arguments, message):
    with pytest.raises(ValueError, match=message):
        getattr(camera(), method)(*arguments)


def test_motions_of_another_number_than_the_cameras_are_refused():
    three, turns = Cameras.stack([camera()] * 3), np.tile(np.eye(3), (4, 1, 1))
    for cameras, motion, name in (
        (camera(), (turns, np.ones(3)), "rotation"),
        (three, (turns, np.ones(3)), "rotation"),
        (three, (np.eye(3), np.ones((2, 3))), "translation"),
        (three, (np.eye(3), np.ones(3), np.ones(5)), "scale"),
    ):
        with pytest.raises(ValueError, match=f"{name}: expected one, or one per camera"):
            cameras.moved(*motion)
    assert three.moved(turns[:3], np.ones((3, 3)), np.ones(3)).shape == (3,)


@pytest.mark.parametrize("index", [(0, 1), ..., (..., 0), None])
def test_indices_beyond_the_first_axis_are_refused(index):
    with pytest.raises(IndexError, match="first batch axis"):
        Cameras.stack([camera()] * 3)[index]
