"""Units of depth files where no feature can be matched, told from depth maps of a shipped scene, which are exact."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import raytrans
from raytrans.data import Scene
from raytrans.data.depthcheck import check_depth
from raytrans.data.matching import Matches

BLOCKS = Path(raytrans.__file__).parents[1] / "scenes" / "blocks"


def few_blocks() -> Scene:
    """Five views, for speed."""
    scene = raytrans.open_scene(BLOCKS)
    return Scene(scene.cameras[:5], scene.frames[:5])


def unmatched(scene: Scene) -> Matches:
    tried = [(i, i + 1) for i in range(len(scene) - 1)]
    nothing = torch.zeros(0, 2, 2, dtype=torch.float64)
    return Matches(scene.cameras, [], torch.zeros(0, dtype=torch.int64), nothing, tried)


def times(scene: Scene, factor: float) -> Scene:
    return Scene(scene.cameras, [replace(frame, depth_scale=factor * frame.depth_scale) for frame in scene.frames])


@pytest.mark.parametrize(("factor", "words"), [(1000.0, "about 1000 times"), (0.001, "about 0.001 times")])
def test_the_unit_is_told_from_view_to_view(factor, words):
    scene = times(few_blocks(), factor)
    values, remarks = check_depth(scene, unmatched(scene))
    assert len(remarks) == 1 and words in remarks[0] and "divide the depth scale" in remarks[0]
    assert not values["cross_view_error"] < 0.1


def test_right_depth_has_no_remark_without_matches():
    scene = few_blocks()
    values, remarks = check_depth(scene, unmatched(scene))
    assert remarks == [] and values["cross_view_error"] < 0.01


def test_depth_of_other_poses_does_not_fit():
    scene = few_blocks()
    moved = Scene(scene.cameras, scene.frames[2:] + scene.frames[:2])
    values, remarks = check_depth(moved, unmatched(moved))
    assert len(remarks) == 1 and "do not fit the poses" in remarks[0] and values["cross_view_error"] > 0.05


def test_a_scene_without_depth_files_is_not_asked():
    scene = few_blocks()
    bare = Scene(scene.cameras, [replace(frame, depth=None) for frame in scene.frames])
    assert check_depth(bare, unmatched(bare)) == (None, [])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("factor", "said"), [(1.0, []), (1000.0, ["about 1000 times"]), (0.001, ["about 0.001 times"])]
)
def test_the_unit_of_sensor_depth_is_told_where_the_camera_hardly_moved(real_data, factor, said):
    scene = times(raytrans.open_scene(real_data("kitchen_rgbd")), factor)
    remarks = check_depth(scene, unmatched(scene))[1]
    assert len(remarks) == len(said) and all(words in remark for words, remark in zip(said, remarks, strict=True))
