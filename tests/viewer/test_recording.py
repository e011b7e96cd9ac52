"""Paths by their names, films along them, and cameras to take away."""

import cv2
import numpy as np
import pytest
import torch

from raytrans.data.readers.transforms import read_cameras
from raytrans.geometry.paths import PATHS
from raytrans.viewer.frames import FrameMaker
from raytrans.viewer.recording import Film, cameras_json, film_pieces, path_of, video_bytes
from raytrans.viewer.sources import Choice
from raytrans.viewer.stage import Eye, Stage
from raytrans.viewer.turns import Rank


@pytest.fixture
def maker(sources) -> FrameMaker:
    return FrameMaker(sources, Stage.of(sources.cameras))


def keys(stage: Stage, cameras) -> list[Eye]:
    return [Eye.of(camera, 40, 30, 0.8) for camera in stage.placed(cameras)]


def test_a_recorded_path_goes_through_its_places(maker):
    rig = maker.sources.cameras
    chosen = rig[[0, 2, 5]]
    path = path_of("recorded", rig, keys(maker.stage, chosen), maker.stage, 5)
    torch.testing.assert_close(path.world_from_camera[::2], chosen.world_from_camera, rtol=0, atol=1e-9)
    assert len(path) == 5 and (int(path.height[0]), int(path.width[0])) == (30, 40)


def test_paths_through_the_rig_have_their_names(maker):
    rig = maker.sources.cameras
    for name, made in PATHS.items():
        path = path_of(name, rig, [], maker.stage, 7)
        assert torch.equal(path.world_from_camera, made(rig, 7).world_from_camera)


@pytest.mark.parametrize(("name", "frames"), [("recorded", 5), ("nowhere", 5), ("orbit", 0), ("orbit", 10**6)])
def test_what_is_no_path_is_refused(maker, name, frames):
    with pytest.raises(ValueError, match="(path|frames): expected"):
        path_of(name, maker.sources.cameras, [], maker.stage, frames)


@pytest.mark.parametrize("mode", ["colour", "depth"])
def test_a_film_has_its_frames(maker, mode, tmp_path):
    path = path_of("orbit", maker.sources.cameras, [], maker.stage, 3)
    film = Film(path, 16, mode, Choice("nearest", 2), 5.0)
    told, files = [], []
    said = list(film_pieces(maker, film, told.append, files.append))
    assert {step.rank for step in said} == {Rank.FINE} and told == pytest.approx([1 / 3, 2 / 3, 1])
    (tmp_path / "film.mp4").write_bytes(files[0])
    video = cv2.VideoCapture(str(tmp_path / "film.mp4"))
    frames = [video.read()[1] for _ in range(3)]
    assert not video.read()[0] and video.get(cv2.CAP_PROP_FPS) == pytest.approx(5.0)
    assert {frame.shape for frame in frames} == {(14, 16, 3)}  # 16 x 13 made even
    assert max(np.ptp(frame) for frame in frames) > 20


def test_a_film_that_would_not_fit_into_memory_is_refused(maker):
    path = path_of("orbit", maker.sources.cameras, [], maker.stage, 1000)
    film = Film(path, 1024, "colour", Choice("nearest", 2), 5.0)
    with pytest.raises(ValueError, match="video: expected at most 100,000,000 pixels in all frames, got 8"):
        next(film_pieces(maker, film, lambda share: None, lambda content: None))


def test_a_video_shows_its_pictures_in_order(tmp_path):
    levels = [40, 120, 200]
    (tmp_path / "film.mp4").write_bytes(video_bytes([np.full((16, 16, 3), v, np.uint8) for v in levels], 2))
    video = cv2.VideoCapture(str(tmp_path / "film.mp4"))
    assert [round(float(video.read()[1].mean()) / 40) * 40 for _ in levels] == levels


def test_cameras_to_take_away_are_read_again(maker, tmp_path):
    path = path_of("wander", maker.sources.cameras, [], maker.stage, 4)
    file = tmp_path / "transforms.json"
    file.write_bytes(cameras_json(path))
    found = read_cameras(file)
    torch.testing.assert_close(found.world_from_camera, path.world_from_camera, rtol=0, atol=1e-9)
    torch.testing.assert_close(found.intrinsics, path.intrinsics)
