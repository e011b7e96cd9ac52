"""Folded models: what should be seen again and is not, against scenes made up so that the answer is known."""

from types import SimpleNamespace

import numpy as np
import pytest

from raytrans.apps import repeats
from raytrans.apps.repeats import Sightings, doubtful_part, sightings, spanning_tree


def looking_at_origin(angle: float, distance: float = 5.0) -> np.ndarray:
    """camera_from_world (3, 4) of a camera on a circle, which looks at its centre."""
    sine, cosine = np.sin(np.radians(angle)), np.cos(np.radians(angle))
    rotation = np.array([[cosine, 0, -sine], [0, 1, 0], [sine, 0, cosine]])
    return np.concatenate([rotation, [[0], [0], [distance]]], 1)


def made_model(angles: list[float], points: np.ndarray, seen: list[list[int]]) -> SimpleNamespace:
    """As much of a pycolmap model as is asked for: cameras on a circle, and which points each of them saw."""
    camera = SimpleNamespace(width=100, height=100, principal_point_x=50, principal_point_y=50)
    camera.mean_focal_length = lambda: 100.0
    images = {}
    for number, angle in enumerate(angles):
        matrix = looking_at_origin(angle)
        image = SimpleNamespace(name=f"{number}.jpg", has_pose=True, camera=camera)
        image.cam_from_world = lambda matrix=matrix: SimpleNamespace(matrix=lambda: matrix)
        image.projection_center = lambda matrix=matrix: -matrix[:, :3].T @ matrix[:, 3]
        image.points2D = [SimpleNamespace(point3D_id=p, has_point3D=lambda: True) for p in seen[number]]
        images[number] = image
    count = np.bincount(np.concatenate([np.array(s, dtype=int) for s in seen]), minlength=len(points))
    tracks = [SimpleNamespace(length=lambda c=c: int(c)) for c in count]
    places = {i: SimpleNamespace(xyz=p, track=t) for i, (p, t) in enumerate(zip(points, tracks, strict=True))}
    return SimpleNamespace(images=images, points3D=places)


def test_points_are_expected_from_like_directions_only():
    """Cameras at 0, 20 and 120 degrees: between the first two the lines of sight through the centre differ by 20."""
    points = np.array([[0.0, 0, 0], [0.1, 0.1, 0], [4.0, 0, 0]])  # the last lies outside of every image but for 120
    model = made_model([0, 20, 120], points, [[0, 1], [0], [0, 1]])
    model.points3D[1].track.length = lambda: 3
    views = sightings(model)
    assert views.names == ["0.jpg", "1.jpg", "2.jpg"]
    np.testing.assert_array_equal(views.expected, [[0, 2, 0], [1, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(views.found, [[0, 1, 0], [1, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(views.common, [[0, 1, 2], [1, 0, 1], [2, 1, 0]])
    assert views.share == pytest.approx(2 / 3)


def test_the_spanning_tree_is_the_heaviest():
    """Against all trees of five vertices."""
    from itertools import combinations

    weights = np.random.default_rng(0).uniform(1, 9, (5, 5))
    weights = np.triu(weights, 1) + np.triu(weights, 1).T

    def connected(edges):
        reached = {0}
        for _ in range(5):
            reached |= {b for a, b in edges if a in reached} | {a for a, b in edges if b in reached}
        return len(reached) == 5

    pairs = list(combinations(range(5), 2))
    best = max(sum(weights[e] for e in tree) for tree in combinations(pairs, 4) if connected(tree))
    assert sum(weights[edge] for edge in spanning_tree(weights)) == pytest.approx(best)


def ring(folded: bool) -> Sightings:
    """Two chains of four views; folded, each view of one should see, and does not, what those of the other see."""
    expected, found, common = np.zeros((3, 8, 8))
    for a in range(8):
        for b in range(8):
            if a != b and a // 4 == b // 4:
                expected[a, b], found[a, b], common[a, b] = 100, 60, 300
            elif a != b and (folded or {a, b} == {3, 4}):
                expected[a, b], found[a, b], common[a, b] = (100, 5, 40) if folded else (100, 50, 100)
    return Sightings([str(i) for i in range(8)], expected, found, common)


def test_the_side_of_a_fold_is_found_and_an_honest_weak_link_is_not():
    part = doubtful_part(ring(folded=True))
    assert part is not None and part.tolist() in ([True] * 4 + [False] * 4, [False] * 4 + [True] * 4)
    assert doubtful_part(ring(folded=False)) is None
    alone = np.zeros((1, 1))
    assert doubtful_part(Sightings(["0"], alone, alone, alone)) is None


def test_a_worse_model_is_never_taken(monkeypatch):
    def model(views, share):
        return SimpleNamespace(num_reg_images=lambda: views, share=share)

    monkeypatch.setattr(repeats, "sightings", lambda model: SimpleNamespace(share=model.share))
    assert repeats.better(model(10, 0.5), model(10, 0.4))
    assert not repeats.better(model(10, 0.4), model(10, 0.4))
    assert not repeats.better(model(8, 0.9), model(10, 0.4))


def test_views_that_contradict_their_matches_are_named_worst_first(monkeypatch):
    a, b, c, d = (SimpleNamespace(name=name) for name in "abcd")
    pairs = [(a, b, 300, 2.0), (b, c, 300, 170.0), (a, c, 100, 1.0), (c, d, 250, 170.0), (a, d, 240, 3.0)]
    monkeypatch.setattr(repeats, "turns", lambda database, model: iter(pairs))
    assert repeats.misplaced(None, None) == ["c", "d"]


def synthetic(folder, flipped: str | None):
    """Twelve images of 2000 points by pycolmap with their database; one camera may look the other way round, rolled."""
    pycolmap = pytest.importorskip("pycolmap")
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = 1, 1, 12
    options.num_points3D, options.camera_width, options.camera_height = 2000, 640, 480
    pycolmap.set_random_seed(0)
    with pycolmap.Database.open(folder / "database.db") as database:
        model = pycolmap.synthesize_dataset(options, database)
    names = sorted(image.name for image in model.images.values())
    for image in model.images.values():
        if image.name == names[3] and flipped:
            roll = pycolmap.Rigid3d(np.array([[-1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, 1, 0]]))
            model.frame(image.frame_id).set_cam_from_world(image.camera_id, roll * image.cam_from_world())
    return model, names


def matched_pairs(database) -> int:
    """Pairs that still have matches."""
    _, geometries = database.read_two_view_geometries()
    return sum(len(geometry.inlier_matches) > 0 for geometry in geometries)


def test_a_sound_model_of_pycolmap_stays_and_is_not_mapped_again(tmp_path):
    model, names = synthetic(tmp_path, flipped=None)
    views = sightings(model)
    assert views.names == names and views.share > 0.9  # synthetic images see every point that lies inside
    said = []
    assert (
        repeats.unfold(model, tmp_path / "database.db", lambda database: pytest.fail("mapped again"), said.append)
        is model
    )
    assert said == [] and model.num_reg_images() == 12


def test_a_view_that_contradicts_its_matches_is_left_out_where_mapping_again_does_not_help(tmp_path):
    pycolmap = pytest.importorskip("pycolmap")
    model, names = synthetic(tmp_path, flipped="yes")
    said, counts = [], []

    def remap(database):
        with pycolmap.Database.open(database) as opened:
            counts.append(matched_pairs(opened))

    with pycolmap.Database.open(tmp_path / "database.db") as database:
        assert repeats.misplaced(database, model) == [names[3]]
    done = repeats.unfold(model, tmp_path / "database.db", remap, said.append)
    assert {image.name for image in done.images.values() if image.has_pose} == set(names) - {names[3]}
    assert names[3] in said[-1] and counts == []  # nothing is flat, and no pair agrees with the wrong place
    with pycolmap.Database.open(tmp_path / "database.db") as database:
        assert matched_pairs(database) == 66


def test_pairs_across_go_where_they_agree_with_the_model(tmp_path):
    pycolmap = pytest.importorskip("pycolmap")
    model, names = synthetic(tmp_path, flipped="yes")
    with pycolmap.Database.open(tmp_path / "database.db") as database:
        assert matched_pairs(database) == 66
        # the pairs of view 3 contradict the model: 11 * 1 of those between views 0 to 3 and the other eight stay
        assert repeats.drop_pairs_across(database, model, set(names[:4])) == 3 * 8
        assert matched_pairs(database) == 66 - 24
        for pair, geometry in zip(*database.read_two_view_geometries(), strict=True):
            a, b = pycolmap.pair_id_to_image_pair(pair)
            if (a, b) in ((1, 2), (1, 3), (2, 3)):
                geometry.config = pycolmap.TwoViewGeometryConfiguration.PLANAR
                geometry.inlier_matches = geometry.inlier_matches[: 150 if b == 3 else 250]
                database.update_two_view_geometry(a, b, geometry)
        assert repeats.drop_flat_pairs(database) == 2  # 250 matches are sure
