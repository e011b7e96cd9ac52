import numpy as np
import pytest
import torch

from raytrans.data.generate import generated_scene
from raytrans.data.selection import nearest
from raytrans.geometry.cameras import Cameras
from raytrans.training.config import train_config
from raytrans.training.loop import RunOptions, train
from raytrans.training.mixture import NARROW
from raytrans.training.samples import SampleStream, SceneData, draw_sample

VIEWS = 9
VALUES = {
    "size": "tiny",
    "data": {"sources": [1, 3], "rays": 8, "folder_share": 1.0, "workers": 0},
    "optim": {"steps": 12, "warmup": 2},
}


def crowded(others: int, shift: float = 0.0) -> SceneData:
    """Nine views of which all but `others` stand where the first one stands."""
    scene = generated_scene(3, "easy", (16, 16), VIEWS)
    pose = scene.cameras.world_from_camera.clone()
    pose[: VIEWS - others, :3, 3] = pose[0, :3, 3]
    pose[:, :3, 3] += shift
    return SceneData(list(scene.images), Cameras(scene.cameras.intrinsics, pose, (16, 16)), None)


def places(scene: SceneData, seed: int) -> set[tuple[float, ...]]:
    """Places of the sources of a draw, and of its target."""
    sample = draw_sample(scene, train_config(VALUES).data, np.random.default_rng([seed, 1]))
    centers = torch.cat([sample.views.cameras.centers, sample.rays.origin[:1]])
    return {tuple(center) for center in (centers * 1e6).round().tolist()}


@pytest.mark.parametrize("shift", [0.0, 1e3])
@pytest.mark.parametrize("others", [1, 2])
def test_sources_and_target_never_share_one_place_where_views_stand_elsewhere(others, shift):
    scene = crowded(others, shift)
    cameras = scene.cameras
    near_first = nearest(cameras, cameras[0], 6, [0])
    assert max(near_first[:3]) < VIEWS - others  # such draws would come, if nothing kept them away
    assert all(len(places(scene, seed)) > 1 for seed in range(60))
    assert all(len(places(crowded(0), seed)) == 1 for seed in range(5))


def test_a_draw_is_a_function_of_its_seed_with_sources_no_two_alike():
    config, scene = train_config(VALUES).data, crowded(1)
    for seed in range(20):
        a, b = (draw_sample(scene, config, np.random.default_rng(seed)) for _ in range(2))
        assert torch.equal(a.views.cameras.world_from_camera, b.views.cameras.world_from_camera)
        assert torch.equal(a.color, b.color)
        assert len({str(pose.tolist()) for pose in a.views.cameras.world_from_camera}) == len(a.views)


def test_narrow_scenes_are_the_same_scenes_with_cameras_drawn_together():
    spread = {}
    for share in (0.0, 1.0):
        changes = {"views": 5, "sizes": [8], "narrow_share": share, "sources": [2, 3], "rays": 4}
        config = train_config({"size": "tiny", "data": changes}).data
        scenes = [SampleStream(config, 0, 8, []).load(number) for number in range(4)]
        spread[share] = np.array([torch.pdist(scene.cameras.centers).max().item() for scene in scenes])
    ratio = spread[1.0] / spread[0.0]
    assert (ratio > NARROW[0] / 2).all() and (ratio <= 2 * NARROW[1]).all() and len(set(ratio.tolist())) == 4


def test_training_on_a_crowded_folder_runs_to_its_end(tmp_path):
    values = {}
    train(train_config(VALUES), RunOptions(tmp_path), [crowded(1)], None, values.__setitem__)
    assert len(values) == 12 and all(np.isfinite(terms["total"]) for terms in values.values())
    with pytest.raises(ValueError, match="sources: expected cameras at different places"):
        train(train_config(VALUES), RunOptions(tmp_path / "one"), [crowded(0)])
