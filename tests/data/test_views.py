"""Views: what is accepted, what is refused and how, and that resizing keeps rays."""

import numpy as np
import pytest
import torch

from raytrans.data import Views
from raytrans.geometry.cameras import Cameras


def cameras(*sizes, focal=20.0):
    intrinsics = np.array([[[focal, 0, w / 2 + 1], [0, focal + 1, h / 2 - 1], [0, 0, 1]] for h, w in sizes])
    poses = np.tile(np.eye(4), (len(sizes), 1, 1))
    poses[:, 0, 3] = np.arange(len(sizes))
    return Cameras(intrinsics, poses, size=np.array(sizes))


def images(*sizes):
    return [np.random.default_rng(i).random((*size, 3)) for i, size in enumerate(sizes)]


def test_equal_sizes_are_one_float32_tensor():
    for given in (np.stack(images((4, 5), (4, 5))), images((4, 5), (4, 5)), torch.rand(2, 4, 5, 3).half()):
        views = Views(given, cameras((4, 5), (4, 5)))
        assert isinstance(views.images, torch.Tensor)
        assert views.images.shape == (2, 4, 5, 3) and views.images.dtype == torch.float32
        assert len(views) == 2


def test_mixed_sizes_are_a_list():
    views = Views(images((4, 5), (6, 3)), cameras((4, 5), (6, 3)))
    assert [tuple(image.shape) for image in views.images] == [(4, 5, 3), (6, 3, 3)]


def test_bytes_are_divided_by_255():
    views = Views(np.full((1, 2, 2, 3), 51, np.uint8), cameras((2, 2)))
    assert views.image(0).unique().tolist() == pytest.approx([0.2])


def test_one_camera_is_a_batch_of_one():
    views = Views(images((4, 5)), cameras((4, 5))[0])
    assert len(views) == 1 and len(views.cameras) == 1


def test_indexing_takes_images_and_cameras_together():
    sizes = (4, 5), (6, 3), (4, 5)
    views = Views(images(*sizes), cameras(*sizes))
    for index, expected in (([2, 0], [2, 0]), (1, [1]), (slice(1, None), [1, 2]), (-1, [2]), (torch.tensor([1]), [1])):
        chosen = views[index]
        assert chosen.cameras.centers[:, 0].tolist() == expected
        for image, i in zip(chosen.images, expected, strict=True):
            assert torch.equal(image, views.image(i))
    assert isinstance(views[[0, 2]].images, torch.Tensor)
    assert [camera.centers[0].item() for _, camera in views] == [0, 1, 2]


def test_gradients_reach_the_images():
    image = torch.rand(1, 4, 5, 3, requires_grad=True)
    Views(image, cameras((4, 5))).resized(3).images.sum().backward()
    assert image.grad.abs().min() > 0


def test_resizing_keeps_rays_and_means():
    sizes = (40, 30), (12, 16)
    views = Views(images(*sizes), cameras(*sizes))
    small = views.resized(20)
    assert [tuple(image.shape[:2]) for image in small.images] == [(20, 15), (12, 16)]
    point = torch.tensor([0.3, -0.2, 2.0], dtype=torch.float64)
    for i, (height, width) in enumerate(sizes):
        ratio = torch.tensor([small.cameras[i].width / width, small.cameras[i].height / height])
        expected = views.cameras[i].project(point)[0] * ratio
        torch.testing.assert_close(small.cameras[i].project(point)[0], expected)
        torch.testing.assert_close(small.image(i).mean((0, 1)), views.image(i).mean((0, 1)))
    assert torch.equal(small.image(1), views.image(1))


def test_moving_the_world_keeps_the_images():
    views = Views(images((4, 5), (4, 5)), cameras((4, 5), (4, 5)))
    moved = views.moved(torch.eye(3, dtype=torch.float64), torch.tensor([0.0, 0.0, 5.0], dtype=torch.float64), 2.0)
    assert moved.cameras.centers.tolist() == [[0, 0, 5], [2, 0, 5]]
    assert torch.equal(moved.images, views.images)


@pytest.mark.parametrize(
    "given, message",
    [
        (images((4, 5)), r"images: expected one for each of the 2 cameras, got 1"),
        (images((4, 5), (5, 4)), r"images\[1\]: expected height and width \(4, 5\) of its camera, got \(5, 4\)"),
        (np.zeros((2, 4, 5, 4)), r"images\[0\]: expected shape \(H, W, 3\), got \(4, 5, 4\)"),
        (np.zeros((4, 5, 3)), r"images: expected \(N, H, W, 3\), got shape \(4, 5, 3\)"),
        (np.full((2, 4, 5, 3), np.nan), r"images\[0\]: expected finite values in \[0, 1\], got NaN"),
        (np.full((2, 4, 5, 3), np.inf), r"images\[0\]: expected finite values"),
        (np.full((2, 4, 5, 3), 200.0), r"images\[0\]: expected values in \[0, 1\], got \[200, 200\]"),
        (np.full((2, 4, 5, 3), -0.1), r"images\[0\]: expected values in \[0, 1\]"),
        (np.zeros((2, 4, 5, 3), np.int32), r"images\[0\]: expected floats in \[0, 1\] or uint8, got torch.int32"),
        ([], r"images: expected one for each of the 2 cameras, got 0"),
    ],
)
def test_bad_images_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        Views(given, cameras((4, 5), (4, 5)))


def test_one_nan_is_enough():
    given = np.zeros((1, 4, 5, 3))
    given[0, 3, 4, 2] = np.nan
    with pytest.raises(ValueError, match="got NaN"):
        Views(given, cameras((4, 5)))


def test_arrays_of_any_layout_and_byte_order_are_read():
    image = np.random.default_rng(0).random((1, 4, 5, 3)).astype(np.float32)
    expected = Views(image, cameras((4, 5))).images
    assert torch.equal(Views(image[..., ::-1], cameras((4, 5))).images, expected.flip(-1))
    assert torch.equal(Views(image.astype(">f4"), cameras((4, 5))).images, expected)
