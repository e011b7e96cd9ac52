"""Near and far, and sparse points, against what the matches say."""

import torch
from torch import Tensor

from raytrans.data.matching import LEAST, Matches
from raytrans.data.scene import Scene
from raytrans.data.scoring import limit, triangulated
from raytrans.geometry.cameras import Cameras

CUT = 0.02  # share of depths outside near and far from which a bound is called wrong
SEEN = 0.5  # least share of sparse points that some view must see


def check_bounds(scene: Scene, matches: Matches) -> tuple[dict[str, float | str] | None, list[str]]:
    """Depths of sparse points as observed, else of matches (1st and 99th percentile), beside the stated near and far.

    Of sparse points also the median distance in pixels of the matched pictures from where they were observed, or the
    share that lies in a view where the files name no observations.
    """
    values, remarks = check_points(scene, matches)
    views = sorted({view for pair in matches.views for view in pair})
    observed = [(view, scene.sparse_depth(view)) for view in views if scene.sparse_points() is not None]
    observed = [(view, seen[1]) for view, seen in observed if seen is not None]
    if sum(len(depth) for _, depth in observed) >= LEAST:
        source, depth = "sparse points", torch.cat([depth for _, depth in observed])
        view = torch.cat([torch.full((len(depth),), view) for view, depth in observed])
    else:
        first, second, sure = triangulated(matches)
        source, depth = "matches", torch.cat([first[sure], second[sure]])
        view = torch.cat([side[sure] for side in matches.sides()])
    if len(depth) < LEAST:
        return values or None, remarks
    said, more = _beside(matches.cameras, depth, view, source)
    return {**values, "measured_on": source, **said}, remarks + more


def _beside(cameras: Cameras, depth: Tensor, view: Tensor, source: str) -> tuple[dict[str, float], list[str]]:
    """Percentiles of depths (n,) of views (n,) and the share of them beyond the stated bounds."""
    values = {"nearest": float(depth.quantile(0.01)), "farthest": float(depth.quantile(0.99))}
    remarks = []
    for name, outside in (("near", torch.lt), ("far", torch.gt)):
        bound = getattr(cameras, name)
        if bound is None:
            continue
        values[name] = float(bound.median())
        values[f"beyond_{name}"] = share = float(outside(depth, bound[view]).double().mean())
        if share > CUT:
            end = values["nearest" if name == "near" else "farthest"]
            word = "before" if name == "near" else "behind"
            remarks.append(
                f"{name} is wrong: {share:.0%} of {source} lie {word} it; stated {values[name]:.4g}, the {source} "
                f"ask for {end:.4g}"
            )
    return values, remarks


def check_points(scene: Scene, matches: Matches) -> tuple[dict[str, float], list[str]]:
    """Whether sparse points lie where the poses say, in pixels of the matched pictures; empty without points."""
    points = scene.sparse_points()
    if points is None or not len(points):
        return {}, []
    views = sorted({view for pair in matches.views for view in pair})
    if points.observations is None:
        return _in_sight(torch.from_numpy(points.xyz), scene.cameras[views])
    errors = [torch.zeros(0, dtype=torch.float64)]
    for view in views:
        which, pixels = points.observations[view]
        camera = scene.cameras[view]
        projected, z = camera.project(torch.from_numpy(points.xyz[which]))
        shrunk = matches.cameras[view].width / camera.width
        error = (projected - torch.from_numpy(pixels)).norm(dim=-1) * shrunk
        errors.append(torch.where(z > 0, error, torch.inf))
    errors = torch.cat(errors)
    if len(errors) < LEAST:
        return {}, []
    middle = float(errors.median())
    if middle <= limit(matches.cameras):
        return {"points_error": middle}, []
    text = f"the sparse points do not fit the poses: median {middle:.2f} pixels from where they were observed"
    return {"points_error": middle}, [text]


def _in_sight(xyz: Tensor, cameras: Cameras) -> tuple[dict[str, float], list[str]]:
    """The share of points that lie in some view."""
    seen = torch.zeros(len(xyz), dtype=torch.bool)
    for camera in cameras:
        pixels, z = camera.project(xyz)
        x, y = pixels.unbind(-1)
        seen |= (z > 0) & (x >= 0) & (y >= 0) & (x < camera.width) & (y < camera.height)
    share = float(seen.double().mean())
    if share >= SEEN:
        return {"points_in_sight": share}, []
    text = f"{1 - share:.0%} of the sparse points lie in no view: are they in the frame and the units of the poses?"
    return {"points_in_sight": share}, [text]
