"""Photographs of real captures posed without their poses, against the poses that came with them: minutes each."""

import json
import shutil

import numpy as np
import pytest
import torch

import raytrans
from raytrans.apps import cli, import_photos
from raytrans.data.images import bounded_size
from raytrans.data.inspection import inspect_scene
from raytrans.data.scene import Scene
from raytrans.training.metrics import psnr


def posed(real_data, tmp_path, name: str) -> tuple[Scene, dict]:
    """The scene that the tool makes of the images alone, and its report."""
    (tmp_path / "in").mkdir()
    for file in (real_data(name) / "images").iterdir():
        shutil.copyfile(file, tmp_path / "in" / file.name)
    arguments = [tmp_path / "in", "--out", tmp_path / "out", "--threads", 1, "--json", tmp_path / "report.json"]
    assert cli.run(import_photos.main, import_photos.parser(), [str(argument) for argument in arguments]) == 0
    return raytrans.open_scene(tmp_path / "out"), json.loads((tmp_path / "report.json").read_text())


def common_views(found: Scene, given: Scene) -> tuple[list[int], list[int]]:
    """Indices in both scenes of the same photographs, in the order of the given one."""
    place = {frame.image.stem: i for i, frame in enumerate(found.frames)}
    pairs = [(place[frame.image.stem], i) for i, frame in enumerate(given.frames) if frame.image.stem in place]
    return [a for a, _ in pairs], [b for _, b in pairs]


def pose_errors(found: np.ndarray, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Degrees, and distances over the size of the rig, between (N, 4, 4) after the best similarity.

    The rotation that is nearest to all G F^T (Procrustes), then scale and shift by least squares over the centres.
    """
    u, _, v = np.linalg.svd(np.einsum("nij,nkj->ik", given[:, :3, :3], found[:, :3, :3]))
    turn = u @ np.diag([1, 1, np.linalg.det(u @ v)]) @ v
    trace = np.einsum("nij,nij->n", turn @ found[:, :3, :3], given[:, :3, :3])
    x, y = found[:, :3, 3] @ turn.T, given[:, :3, 3]
    x, y = x - x.mean(0), y - y.mean(0)
    scale = (x * y).sum() / (x * x).sum()
    size = 2 * np.linalg.norm(y, axis=1).mean()
    return np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1))), np.linalg.norm(scale * x - y, axis=1) / size


def bare_views(scene: Scene, indices: list[int]) -> raytrans.Views:
    """Views of at most 200 pixels without near and far, which one of two scenes may state."""
    views = scene.views(indices, max_size=200)
    c = views.cameras
    size = torch.stack([c.height, c.width], -1)
    return raytrans.Views(views.images, raytrans.Cameras(c.intrinsics, c.world_from_camera, size, c.distortion))


def held_out_psnr(model, scene: Scene, view: int, sources: list[int]) -> float:
    """PSNR of one view rendered from others of its scene."""
    target = bare_views(scene, [view])
    out = raytrans.render(model, sources=bare_views(scene, sources), camera=target.cameras[0])
    assert tuple(out.color.shape[:2]) == bounded_size(*scene.image(view).shape[:2], 200)
    return float(psnr(out.color, target.image(0)))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["milk", "fox"])
def test_found_poses_are_the_given_ones_and_render_as_well(real_data, tmp_path, name):
    """`milk` is a carton whose two roof panels are the same print: matches alone fold its front onto its back."""
    given = raytrans.open_scene(real_data(name))
    found, values = posed(real_data, tmp_path, name)
    assert values["registered"] == len(given) == len(found)
    in_found, in_given = common_views(found, given)
    poses = found.cameras.world_from_camera[in_found].numpy(), given.cameras.world_from_camera[in_given].numpy()
    turn, shift = pose_errors(*poses)
    print(
        f"{name}: {np.median(turn):.2f} (at most {turn.max():.2f}) degrees, {np.median(shift):.4f} ({shift.max():.4f})"
    )
    assert np.median(turn) < 0.5 and turn.max() < 1.5
    assert np.median(shift) < 0.01 and shift.max() < 0.02
    assert inspect_scene(found).score.median < 1

    model, rows = raytrans.load(), []
    held_out = list(range(0, len(given), 8))
    for view in held_out:
        sources = given.nearest(given.cameras[view], 8, exclude=held_out)
        numbers = [held_out_psnr(model, given, view, sources)]
        numbers.append(held_out_psnr(model, found, in_found[view], [in_found[i] for i in sources]))
        rows.append(numbers)
    in_mean = np.mean(rows, axis=0)
    print(f"{name}: PSNR with given, found poses {in_mean.round(2)}; {np.round(rows, 2).tolist()}")
    assert abs(in_mean[1] - in_mean[0]) < 0.3
    assert max(abs(a - b) for a, b in rows) < 0.5


def test_pose_errors_see_a_similarity_as_none_and_a_wrong_view_as_one():
    random = np.random.default_rng(0)
    poses = np.tile(np.eye(4), (9, 1, 1))
    poses[:, :3, :3] = np.linalg.qr(random.normal(size=(9, 3, 3)))[0]
    poses[:, :3, :3] *= np.linalg.det(poses[:, :3, :3])[:, None, None]
    poses[:, :3, 3] = random.normal(size=(9, 3))
    turned = poses.copy()
    turned[:, :3, :3] = poses[4, :3, :3] @ poses[:, :3, :3]
    turned[:, :3, 3] = 7 * poses[:, :3, 3] @ poses[4, :3, :3].T + [3, 2, 1]
    turn, shift = pose_errors(poses, turned)
    assert turn.max() < 1e-5 and shift.max() < 1e-9
    turned[2, :3, :3] = turned[2, :3, :3] @ np.diag([-1.0, -1, 1])
    turn, _ = pose_errors(poses, turned)
    assert turn.argmax() == 2 and turn[2] > 100
