"""The shipped scenes: complete, small, and the ones that the generator draws."""

import json
from pathlib import Path

import numpy as np
import pytest

from raytrans.apps.make_scenes import SHIPPED, VIEWS, write_generated
from raytrans.data.generate import generated_scene
from raytrans.data.generate.scene import drawn, rendered_view
from raytrans.data.generate.shading import Stage

SCENES = Path(__file__).parents[2] / "scenes"
cv2 = pytest.importorskip("cv2")


def _pixels(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_scenes_are_small():
    assert sum(file.stat().st_size for file in SCENES.rglob("*") if file.is_file()) < 2.5e6
    assert (SCENES / "contact_sheet.png").stat().st_size < 3e5


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_files_hold_what_the_generator_draws(name):
    """Read with json and OpenCV alone: sizes, axes and focal lengths of all views, colours and depth of two."""
    meta = json.loads((SCENES / name / "transforms.json").read_text())
    drawing = drawn(count=VIEWS, **SHIPPED[name])
    rotation, translation, scale = drawing.frame
    assert len(meta["frames"]) == VIEWS
    assert len({(frame["h"], frame["w"]) for frame in meta["frames"]}) == (8 if name == "sculpture" else 1)
    for i, frame in enumerate(meta["frames"]):
        assert (frame["h"], frame["w"]) == tuple(drawing.shots.sizes[i])
        assert frame["fl_x"] == pytest.approx(drawing.shots.intrinsics[i, 0, 0])
        image, depth = (_pixels(SCENES / name / frame[key]) for key in ("file_path", "depth_file_path"))
        assert image.shape == (frame["h"], frame["w"], 3) and depth.shape == image.shape[:2]
        assert image.dtype == np.uint8 and depth.dtype == np.uint16
        matrix, canonical = np.array(frame["transform_matrix"]), drawing.shots.world_from_camera[i]
        np.testing.assert_allclose(matrix[:3, :3] * [1, -1, -1], rotation @ canonical[:3, :3], atol=1e-9)
        np.testing.assert_allclose(matrix[:3, 3], scale * rotation @ canonical[:3, 3] + translation, atol=1e-9)
    stage, step = Stage.build(drawing.layout, None), meta["depth_unit_scale_factor"]
    for i in (0, 5):
        color, z = rendered_view(stage, drawing.shots, i)
        image, depth = (_pixels(SCENES / name / meta["frames"][i][key]) for key in ("file_path", "depth_file_path"))
        # one pixel in a thousand may fall on the other side of an edge on another machine
        assert np.quantile(np.abs(image[..., ::-1] / 255 - color.numpy()), 0.999) < 0.01
        stored, known = depth * step, z.isfinite().numpy()
        assert ((stored > 0) == known).mean() > 0.999
        error = np.abs(stored - scale * z.numpy())[known & (stored > 0)]
        assert np.quantile(error, 0.999) < 0.501 * step + 1e-6 * stored.max()


def test_depth_uses_the_range_of_sixteen_bits(tmp_path):
    write_generated(tmp_path, generated_scene(1, "easy", (16, 16), 2))
    meta = json.loads((tmp_path / "transforms.json").read_text())
    deepest = max(_pixels(tmp_path / frame["depth_file_path"]).max() for frame in meta["frames"])
    assert 65535 / 2.6 < deepest <= 65535
