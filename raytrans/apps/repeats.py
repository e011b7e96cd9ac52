"""Models that things looking alike, such as two prints of one label, have folded onto each other.

Where two places were taken for one, views that a model puts side by side see different things there: of the points of
one view few are found again in the other. Source of the idea: Heinly, Dunn, Frahm, "Correcting for duplicate scene
structure in sparse 3D reconstruction", ECCV 2014. What is measured here, and the repair, are simpler.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from raytrans.shapes import Bool, Float

ANGLE, SIZE = 25.0, 1.5  # views that differ by no more, in degrees and in distance, should find a point again
TRACK = 3  # views that saw a point which others are asked for
LINKS = 0.25  # share of the spanning tree, weakest first, that may be false
DOUBT = 0.5  # of the share that is found again in the whole model; a part that stays below it is doubtful
NOTICE = 0.05  # share of all expectations from which a part is judged
SURE = 200  # matches with which a pair is taken as it is
ATTEMPTS = 4  # mappings that are tried to mend a model
KEPT = 0.9  # share of the views that a better model has at least
AGREE = 30.0  # degrees between the rotation of a pair and that of a model that was built on it


@dataclass(frozen=True)
class Sightings:
    """For N views by name: points of view i that view j should see, those it does see, and the common points."""

    names: list[str]
    expected: Float[np.ndarray, "views views"]
    found: Float[np.ndarray, "views views"]
    common: Float[np.ndarray, "views views"]

    @property
    def share(self) -> float:
        """Share of the expected points that are found again."""
        return float(self.found.sum() / max(self.expected.sum(), 1))


def sightings(model: Any) -> Sightings:
    """Which points of each view of a pycolmap model the others should see, and do.

    A point is expected where it lies inside the image, before the camera, at an angle of at most 25 degrees between
    the two lines of sight and at 1/1.5 to 1.5 times the distance. Lenses are left out of account.
    """
    images = sorted((image for image in model.images.values() if image.has_pose), key=lambda image: image.name)
    long = {number for number, point in model.points3D.items() if point.track.length() >= TRACK}
    seen = [sorted({p.point3D_id for p in i.points2D if p.has_point3D()} & long) for i in images]
    rows = {number: row for row, number in enumerate(sorted(long))}
    mine = [np.array([rows[number] for number in numbers], dtype=int) for numbers in seen]
    places = np.array([model.points3D[number].xyz for number in rows]).reshape(-1, 3)
    sees = np.zeros((len(images), len(rows)), dtype=bool)
    for view, numbers in enumerate(mine):
        sees[view, numbers] = True
    offsets = [places - image.projection_center() for image in images]
    inside = [_inside(image, places) for image in images]
    expected = np.zeros((len(images), len(images)))
    found = expected.copy()
    for a, numbers in enumerate(mine):
        for b in range(len(images)):
            if a != b:
                to_see = numbers[inside[b][numbers] & _alike(offsets[a][numbers], offsets[b][numbers])]
                expected[a, b], found[a, b] = len(to_see), sees[b, to_see].sum()
    common = (sees.astype(np.float32) @ sees.T.astype(np.float32)) * (1 - np.eye(len(images)))
    return Sightings([image.name for image in images], expected, found, common.astype(float))


def _inside(image: Any, places: Float[np.ndarray, "points 3"]) -> Bool[np.ndarray, " points"]:
    """Whether an image, taken as a pinhole's, holds the projections of points."""
    camera, matrix = image.camera, image.cam_from_world().matrix()
    x, y, z = (places @ matrix[:, :3].T + matrix[:, 3]).T
    focal = camera.mean_focal_length()
    u, v = camera.principal_point_x * z + focal * x, camera.principal_point_y * z + focal * y
    return (z > 0) & (u > 0) & (u < camera.width * z) & (v > 0) & (v < camera.height * z)


def _alike(a: Float[np.ndarray, "points 3"], b: Float[np.ndarray, "points 3"]) -> Bool[np.ndarray, " points"]:
    """Whether offsets from two cameras to the same points have nearly the same direction and length."""
    far_a, far_b = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    parallel = (a * b).sum(1) > np.cos(np.radians(ANGLE)) * far_a * far_b
    return parallel & (far_a < SIZE * far_b) & (far_b < SIZE * far_a)


def doubtful_part(views: Sightings) -> Bool[np.ndarray, " views"] | None:
    """The views on one side of the weak link across which most expected points are missing; None where all is well.

    The spanning tree of the most common points is cut at each of its weaker edges. Of the cuts whose share of points
    found again is less than half of that of the model, it is the one that lacks most points.
    """
    edges = spanning_tree(views.common)
    if not edges:
        return None
    limit = np.quantile([views.common[edge] for edge in edges], LINKS)
    worst, part = 0.0, None
    for edge in edges:
        side = _side(edges, edge, len(views.names))
        cross = side[:, None] != side[None]
        expected, found = views.expected[cross].sum(), views.found[cross].sum()
        lacking = views.share * expected - found
        doubtful = expected > NOTICE * views.expected.sum() and found < DOUBT * views.share * expected
        if views.common[edge] <= limit and doubtful and lacking > worst:
            worst, part = lacking, side
    return part


def spanning_tree(weights: Float[np.ndarray, "views views"]) -> list[tuple[int, int]]:
    """Edges of the spanning tree with the largest weights, by Prim's algorithm."""
    inside, edges = np.arange(len(weights)) == 0, []
    while not inside.all():
        open_edges = np.where(inside[:, None] & ~inside[None], weights, -1.0)
        edges.append(tuple(int(i) for i in np.unravel_index(open_edges.argmax(), weights.shape)))
        inside[edges[-1][1]] = True
    return edges


def _side(edges: list[tuple[int, int]], cut: tuple[int, int], count: int) -> Bool[np.ndarray, " views"]:
    """Views of a tree beyond one of its edges; edges lead from what was reached earlier to what was reached later."""
    side = np.arange(count) == cut[1]
    for a, b in edges:
        side[b] |= side[a] and (a, b) != cut
    return side


def drop_flat_pairs(database: Any) -> int:
    """Take away pairs that a homography explains, unless they are sure: repeated prints match so; how many they were.

    `database` is an open one of pycolmap, changed in place.
    """
    import pycolmap

    general = (pycolmap.TwoViewGeometryConfiguration.CALIBRATED, pycolmap.TwoViewGeometryConfiguration.UNCALIBRATED)
    gone = 0
    for pair, geometry in zip(*database.read_two_view_geometries(), strict=True):
        if geometry.config not in general and 0 < len(geometry.inlier_matches) < SURE:
            database.delete_inlier_matches(*pycolmap.pair_id_to_image_pair(pair))
            gone += 1
    return gone


def drop_pairs_across(database: Any, model: Any, part: set[str]) -> int:
    """Take away pairs between some views of a model and the others whose own rotation is that of the model.

    They, and no others, are what the model's opinion of the place of the part rests on. `database` is changed in place;
    how many they were.
    """
    gone = 0
    for a, b, _, turn in turns(database, model):
        if (a.name in part) != (b.name in part) and turn < AGREE:
            database.delete_inlier_matches(a.image_id, b.image_id)
            gone += 1
    return gone


def turns(database: Any, model: Any) -> Iterator[tuple[Any, Any, int, float]]:
    """Two posed images, how many matches they have, and degrees between the pair's own rotation and the model's."""
    import pycolmap

    posed = {image.image_id: image for image in model.images.values() if image.has_pose}
    pixels = {number: database.read_keypoints(number)[:, :2].astype(float) for number in posed}
    for pair, geometry in zip(*database.read_two_view_geometries(), strict=True):
        a, b = pycolmap.pair_id_to_image_pair(pair)
        if a not in posed or b not in posed or not len(geometry.inlier_matches):
            continue
        ours, theirs = posed[a], posed[b]
        if pycolmap.estimate_two_view_geometry_pose(ours.camera, pixels[a], theirs.camera, pixels[b], geometry):
            rotation = (theirs.cam_from_world() * ours.cam_from_world().inverse()).rotation
            turn = np.degrees(geometry.cam2_from_cam1.rotation.angle_to(rotation))
            yield ours, theirs, len(geometry.inlier_matches), float(turn)


def misplaced(database: Any, model: Any) -> list[str]:
    """Names of views most of whose matches in sure pairs contradict the model, worst first; others are not judged."""
    agreeing: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for a, b, count, turn in turns(database, model):
        if count >= SURE:
            for name in (a.name, b.name):
                total[name] += count
                agreeing[name] += count if turn < AGREE else 0
    shares = {name: agreeing[name] / count for name, count in total.items() if agreeing[name] < 0.5 * count}
    return sorted(shares, key=lambda name: (shares[name], name))


def unfold(model: Any, database: Path, remap: Callable[[Path], Any | None], say: Callable[[str], None]) -> Any:
    """The model, or a better one where it is doubtful, without views that remain misplaced.

    `remap` makes a model of a database. Pairs are taken away from copies of it, first the flat ones, then those that
    place the doubtful part, as long as more of the expected points are found again; the original keeps them all.
    """
    best, copy = model, database.with_name("pairs.db")
    shutil.copyfile(database, copy)
    for attempt in range(ATTEMPTS):
        with _opened(database) as whole:
            part = set(misplaced(whole, best)) or _names(sightings(best))
        if not part:
            break
        say(f"{len(part)} views may lie where others that look alike belong; mapping again without doubtful pairs")
        with _opened(copy) as fewer:
            gone = (0 if attempt else drop_flat_pairs(fewer)) or drop_pairs_across(fewer, best, part)
        other = remap(copy) if gone else None
        if other is None or not better(other, best):
            break
        best = other
    return without_misplaced(best, database, say)


def better(model: Any, other: Any) -> bool:
    """Whether a model finds more of its expected points again than another, and has nearly as many views."""
    enough = model.num_reg_images() >= KEPT * other.num_reg_images()
    return enough and sightings(model).share > sightings(other).share


def without_misplaced(model: Any, database: Path, say: Callable[[str], None]) -> Any:
    """The model, changed in place: views that contradict their matches lose their poses, one by one, worst first."""
    gone: list[str] = []
    with _opened(database) as whole:
        while names := misplaced(whole, model):
            [image] = [image for image in model.images.values() if image.name == names[0]]
            model.deregister_frame(image.frame_id)
            gone.append(names[0])
    if gone:
        say(f"{len(gone)} views contradict their own matches and are left out: {', '.join(sorted(gone))}")
    return model


def _names(views: Sightings) -> set[str]:
    part = doubtful_part(views)
    return set() if part is None else {name for name, inside in zip(views.names, part, strict=True) if inside}


def _opened(database: Path) -> Any:
    import pycolmap

    return pycolmap.Database.open(database)
