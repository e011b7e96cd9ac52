"""IDR and NeuS: P = s K [R | t] of a DTU camera, checked by P itself, by OpenCV, and by NeuS's sphere; bad input."""

import cv2
import numpy as np
import pytest

from raytrans.data import open_scene
from raytrans.data.readers.idr import decomposed

EXTRINSIC = np.array(
    [
        [0.970263, 0.00747983, 0.241939, -191.02],
        [-0.0147429, 0.999493, 0.0282234, 3.28832],
        [-0.241605, -0.030951, 0.969881, 22.5401],
    ]
)
INTRINSIC = np.array([[2892.33, 0, 823.205], [0, 2883.18, 619.071], [0, 0, 1]])
POINT = np.array([30.0, -40.0, 650.0])
SPHERE = np.diag([150.0, 150.0, 150.0, 1.0])
SPHERE[:3, 3] = [20.0, -30.0, 640.0]


def projection(factor=1.0):
    return np.vstack([factor * INTRINSIC @ EXTRINSIC, [0, 0, 0, 1]])


def write(folder, picture, name="cameras_sphere.npz", images=1, **matrices):
    for i in range(images):
        picture(folder / "image" / f"{i:06d}.png", (1600, 1200))
    np.savez(folder / name, **({"world_mat_0": projection(), "scale_mat_0": SPHERE} | matrices))
    return folder


@pytest.mark.parametrize("factor", [1.0, -1.0, 0.01, 512.0])
def test_the_pixel_of_a_point(tmp_path, picture, seen_at, factor):
    """NeuS shoots the ray of column u, row v through K^-1 (u, v, 1), so P x is (u, v) and the centre lies at + 0.5."""
    camera = open_scene(write(tmp_path, picture, world_mat_0=projection(factor))).cameras[0]
    x, y, w = projection(factor)[:3] @ [*POINT, 1.0]
    np.testing.assert_allclose(seen_at(camera, POINT), [x / w + 0.5, y / w + 0.5], rtol=1e-5)
    assert camera.intrinsics[0, 1] == pytest.approx(0, abs=1e-2)


def test_decomposition_agrees_with_opencv():
    k, r, center = cv2.decomposeProjectionMatrix(projection()[:3])[:3]
    ours, pose = decomposed(projection(), "P")
    np.testing.assert_allclose(
        ours + [[0, k[0, 1] / k[2, 2] - ours[0, 1], 0], [0] * 3, [0] * 3], k / k[2, 2], rtol=1e-9
    )
    np.testing.assert_allclose(pose[:3, :3], r.T, atol=1e-9)
    np.testing.assert_allclose(pose[:3, 3], center[:3, 0] / center[3, 0], rtol=1e-9)


def test_results_stay_in_world_units_and_the_sphere_bounds_depth(tmp_path, picture):
    camera = open_scene(write(tmp_path, picture)).cameras[0]
    center = -np.linalg.inv(EXTRINSIC[:, :3]) @ EXTRINSIC[:, 3]
    np.testing.assert_allclose(camera.centers.numpy(), center, rtol=1e-5)
    on_sphere = np.random.default_rng(0).normal(size=(4000, 3))
    on_sphere = SPHERE[:3, 3] + 150 * on_sphere / np.linalg.norm(on_sphere, axis=1, keepdims=True)
    z = on_sphere @ EXTRINSIC[2, :3] + EXTRINSIC[2, 3]
    assert camera.near.item() == pytest.approx(z.min(), abs=1) and camera.far.item() == pytest.approx(z.max(), abs=1)
    assert camera.near.item() <= z.min() + 1e-2 and camera.far.item() >= z.max() - 1e-2


def test_cameras_inside_the_sphere_have_no_bounds(tmp_path, picture):
    cameras = open_scene(write(tmp_path, picture, scale_mat_0=SPHERE @ np.diag([9, 9, 9, 1]))).cameras
    assert cameras.near is None and cameras.far is None


def test_masks_and_the_order_of_names(tmp_path, picture):
    write(tmp_path, picture, "cameras.npz", images=2, world_mat_1=projection(), scale_mat_1=SPHERE)
    picture(tmp_path / "mask" / "000.png", (1600, 1200), (255, 255, 255))
    with pytest.raises(ValueError, match="mask: expected 2 images, one for each world_mat of cameras.npz, got 1"):
        open_scene(tmp_path)
    picture(tmp_path / "mask" / "001.png", (1600, 1200), (0, 0, 0))
    scene = open_scene(tmp_path / "cameras.npz")
    assert [frame.image.name for frame in scene.frames] == ["000000.png", "000001.png"]
    assert bool(scene.mask(0).all()) and not bool(scene.mask(1).any())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"world_mat_2": projection()}, "image: expected 3 images, one for each world_mat"),
        ({"world_mat_0": np.zeros((4, 4))}, "world_mat_0: expected a projection K .R . t. with an inverse"),
        ({"world_mat_0": np.full((4, 4), np.nan)}, "world_mat_0: expected finite numbers"),
        ({"world_mat_0": np.eye(3)}, r"world_mat_0: expected a matrix \(4, 4\), got float64 \(3, 3\)"),
        ({"world_mat_0": np.array([{}] * 4, dtype=object)}, "cannot be read as an .npz archive of numbers"),
    ],
)
def test_wrong_archives_are_named(tmp_path, picture, changed, message):
    with pytest.raises(ValueError, match=message):
        open_scene(write(tmp_path, picture, **changed))


def test_broken_archives_and_those_without_cameras_are_named(tmp_path, picture):
    path = write(tmp_path, picture) / "cameras_sphere.npz"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="cameras_sphere.npz: cannot be read as an .npz archive"):
        open_scene(tmp_path)
    np.save(tmp_path / "array.npy", np.eye(4))
    path.write_bytes((tmp_path / "array.npy").read_bytes())
    with pytest.raises(ValueError, match="cameras_sphere.npz: cannot be read as an .npz archive"):
        open_scene(tmp_path)
    np.savez(path, camera_mat_0=np.eye(4))
    with pytest.raises(ValueError, match="expected matrices world_mat_0, world_mat_1"):
        open_scene(tmp_path)


@pytest.mark.parametrize("content", [b"PK", b"", b"no archive", b"PK\x03\x04", b"\x80\x04N."])
def test_what_is_no_archive_is_told_without_advice_to_unpickle(tmp_path, picture, content):
    path = write(tmp_path, picture, "cameras.npz") / "cameras.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cameras.npz: cannot be read as an .npz archive of numbers") as caught:
        open_scene(tmp_path)
    assert "allow_pickle" not in str(caught.value) and "\n" not in str(caught.value)
