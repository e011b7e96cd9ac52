"""Scenes made in memory: splits, laziness, views; and the poses of real captures against matched features."""

import numpy as np
import pytest
import torch
from PIL import Image

from raytrans.data import Frame, Scene, open_scene
from raytrans.geometry.cameras import Cameras


def scene_of(folder, count, size=(12, 16), splits=None, **frame):
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, 0, 3] = np.arange(count)
    intrinsics = np.array([[20.0, 0, size[1] / 2], [0, 20.0, size[0] / 2], [0, 0, 1]])
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    frames = [Frame(folder / f"{i}.png", **frame) for i in range(count)]
    return Scene(Cameras(np.tile(intrinsics, (count, 1, 1)), poses, size=size), frames, splits, folder)


def test_images_are_read_when_asked_for(tmp_path):
    scene = scene_of(tmp_path, 3)
    (tmp_path / "1.png").unlink()
    assert len(scene) == 3
    with Image.open(tmp_path / "2.png") as picture:
        np.testing.assert_allclose(scene.image(2).numpy(), np.asarray(picture) / 255, atol=1e-6)
    with pytest.raises(ValueError, match="1.png: no such image file"):
        scene.image(1)
    assert torch.equal(scene.image(-1), scene.image(2))


def test_an_image_of_another_size_is_named(tmp_path):
    scene = scene_of(tmp_path, 2)
    Image.new("RGB", (5, 5)).save(tmp_path / "1.png")
    with pytest.raises(ValueError, match=r"1.png: expected height and width \(12, 16\), got \(5, 5\)"):
        scene.image(1)


@pytest.mark.parametrize("index", [3, -4])
def test_views_that_do_not_exist(tmp_path, index):
    scene = scene_of(tmp_path, 3)
    for call in (scene.image, scene.depth, scene.mask, lambda i: scene.views([i])):
        with pytest.raises(ValueError, match=f"index: expected a view from 0 to 2, got {index}"):
            call(index)


def test_every_eighth_view_is_held_out(tmp_path):
    scene = scene_of(tmp_path, 18)
    assert scene.split("holdout") == [0, 8, 16]
    assert scene.split("train") == [i for i in range(18) if i % 8]
    assert scene.split("test") == []
    with pytest.raises(ValueError, match="split: expected one of train, test, holdout, got 'dev'"):
        scene.split("dev")


def test_one_view_cannot_be_held_out(tmp_path):
    scene = scene_of(tmp_path, 1)
    assert (scene.split("holdout"), scene.split("train")) == ([], [0])


@pytest.mark.parametrize(
    "splits, train, holdout",
    [
        ({"test": [3, 1]}, [0, 2, 4], [1, 3]),
        ({"val": [4]}, [0, 1, 2, 3], [4]),
        ({"train": [0, 1], "val": [2], "test": [3]}, [0, 1], [3]),
        ({"train": [0, 1, 3], "test": [3]}, [0, 1], [3]),
        ({"test": []}, [1, 2, 3, 4], [0]),
    ],
)
def test_splits_that_files_name_come_first(tmp_path, splits, train, holdout):
    scene = scene_of(tmp_path, 5, splits=splits)
    assert (scene.split("train"), scene.split("holdout")) == (train, holdout)


def test_views_are_images_and_cameras_at_a_size(tmp_path):
    scene = scene_of(tmp_path, 3, size=(24, 16))
    views = scene.views([2, 0], max_size=12)
    assert views.images.shape == (2, 12, 8, 3)
    assert views.cameras.centers[:, 0].tolist() == [2, 0]
    with Image.open(tmp_path / "2.png") as picture:
        expected = np.asarray(picture).reshape(12, 2, 8, 2, 3).mean((1, 3)) / 255
    np.testing.assert_allclose(views.image(0).numpy(), expected, atol=1e-6)
    assert views.cameras[0].intrinsics.diagonal().tolist() == [10, 10, 1]
    assert scene.views(range(3)).images.shape == (3, 24, 16, 3)
    with pytest.raises(ValueError, match="indices: expected at least one view"):
        scene.views([])


def test_depth_of_another_aspect_is_named(tmp_path):
    np.save(tmp_path / "d.npy", np.ones((5, 5)))
    with pytest.raises(ValueError, match=r"d.npy: expected height and width \(12, 16\) or the same aspect"):
        scene_of(tmp_path, 1, depth=tmp_path / "d.npy").depth(0)


def test_empty_scenes_are_refused(tmp_path):
    scene = scene_of(tmp_path, 2)
    with pytest.raises(ValueError, match=r"frames: expected one or more, one per camera \(2\), got 0"):
        Scene(scene.cameras, [])


def epipolar_medians(scene, pairs, max_size=640):
    """Median symmetric epipolar distance in pixels of SIFT matches, for every pair with enough of them."""
    cv2 = pytest.importorskip("cv2")
    detector, medians = cv2.SIFT_create(2000), []
    for pair in pairs:
        views = scene.views(pair, max_size=max_size)
        grey = [np.round(255 * views.image(i).mean(-1).numpy()).astype(np.uint8) for i in range(2)]
        (keys_a, a), (keys_b, b) = (detector.detectAndCompute(image, None) for image in grey)
        matches = [m for m, n in cv2.BFMatcher().knnMatch(a, b, k=2) if m.distance < 0.75 * n.distance]
        if len(matches) < 40:
            continue
        offset = 0.5  # OpenCV puts the centre of the first pixel at 0, we at 0.5
        points = [
            np.array([keys[index(m)].pt for m in matches]) + offset
            for keys, index in ((keys_a, lambda m: m.queryIdx), (keys_b, lambda m: m.trainIdx))
        ]
        medians.append(np.median(epipolar_distance(points, views.cameras)))
    return medians


def epipolar_distance(points, cameras):
    """Mean of both distances point to epipolar line, the lens undone by OpenCV, by E = [t]x R."""
    import cv2

    straight, matrices = [], []
    for i in range(2):
        intrinsics = cameras[i].intrinsics.numpy()
        lens = np.zeros(5) if cameras.distortion is None else cameras[i].distortion.coefficients.numpy().reshape(-1)
        straight.append(cv2.undistortPoints(points[i][:, None], intrinsics, lens)[:, 0])
        matrices.append(cameras[i].world_from_camera.numpy())
    relative = np.linalg.inv(matrices[1]) @ matrices[0]
    rotation, t = relative[:3, :3], relative[:3, 3]
    essential = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]]) @ rotation
    x, y = (np.concatenate([p, np.ones((len(p), 1))], 1) for p in straight)
    lines_y, lines_x = x @ essential.T, y @ essential
    value = np.abs((y * lines_y).sum(1))
    focal = cameras.intrinsics[:, 0, 0].numpy()
    distances = [focal[i] * value / np.linalg.norm(lines[:, :2], axis=1) for i, lines in ((1, lines_y), (0, lines_x))]
    return np.mean(distances, axis=0)


@pytest.mark.parametrize(
    "name, pairs",
    [
        ("fox", [(0, 2), (20, 22), (40, 41)]),
        ("scodive", [(0, 1), (20, 21), (40, 41)]),
        ("milk", [(0, 15), (10, 2), (20, 13)]),
        ("temple_sparse_ring", [(0, 1), (5, 6), (10, 11)]),
        ("kitchen_rgbd", [(0, 1), (20, 21), (40, 41)]),
    ],
)
def test_matched_features_of_real_photos_lie_on_epipolar_lines(real_data, name, pairs):
    scene = open_scene(real_data(name))
    medians = epipolar_medians(scene, pairs)
    assert len(medians) >= 2 and np.median(medians) < 1.0
    assert max(medians) < 2.0


def test_wrong_poses_of_real_photos_are_off_their_epipolar_lines(real_data):
    right = open_scene(real_data("milk"))
    mistaken = Cameras(right.cameras.intrinsics, torch.linalg.inv(right.cameras.world_from_camera), (855, 1140))
    assert min(epipolar_medians(Scene(mistaken, right.frames), [(0, 15), (10, 2)])) > 3


def test_the_synthetic_split_of_real_files(real_data):
    scene = open_scene(real_data("lego"))
    assert len(scene) == 100 and len(scene.split("train")) == 80 and scene.split("holdout") == list(range(80, 100))
    assert scene.image(0)[0, 0].tolist() == [1, 1, 1]
    assert np.median(epipolar_medians(scene, [(i, j) for i, j in zip(range(80, 90), range(81, 91), strict=True)])) < 1
