"""Refine the cameras of an RGB-D capture by bundle adjustment, and write the capture with them as a new scene."""

import shutil
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from raytrans.apps import cli, outputs
from raytrans.apps.new_folder import check_new, move_in, working_folder
from raytrans.apps.progress import Stages
from raytrans.data.matching import match_views
from raytrans.data.readers import open_scene
from raytrans.data.refinement import Refinement, pairs_to_match, refine_cameras
from raytrans.data.scene import Frame, Scene
from raytrans.data.scoring import limit
from raytrans.export.files import write_depth_png, write_npy
from raytrans.export.transforms import write_transforms_scene

UNIT = 3.0  # times the stated distances beyond which depth and poses have different units
PARTS = ("images", "masks", "depth", "transforms.json")  # in this order: without the cameras the rest is no scene


def parser() -> ArgumentParser:
    """Command line of `tools/refine_cameras.py`."""
    out = ArgumentParser(
        prog="refine_cameras",
        description="Refine poses, focal length and k1 of a capture with depth maps until matched features agree with "
        "the measured depth (bundle adjustment): for poses of a depth camera, of fusion or of a phone that fit the "
        "pictures badly. DIR receives the capture as transforms.json, images and depth on their pixels.",
    )
    out.add_argument("scene", metavar="SCENE", help=cli.SCENE)
    out.add_argument("--out", type=cli.output_folder, required=True, metavar="DIR", help="new or empty folder")
    text = "long side in pixels of the pictures that are matched (default: 640)"
    out.add_argument("--max-size", type=cli.positive_int, default=640, metavar="P", help=text)
    text = "refine the poses alone: focal length and lens are known to be right"
    out.add_argument("--keep-lens", action="store_true", help=text)
    cli.add_json_argument(out)
    return out


def main(arguments: Namespace) -> int:
    """Refine as the command line says; the exit status."""
    scene, out = open_scene(arguments.scene), arguments.out
    outputs.check_capture(out, outputs.scene_files(scene, Path(arguments.scene)))
    check_new(out)
    if not any(frame.depth for frame in scene.frames):
        raise ValueError(
            f"{arguments.scene}: expected depth maps beside the pictures, got none; photographs alone are posed by "
            "import_photos"
        )
    with Stages() as tell:
        matches = match_views(scene, pairs_to_match(scene), arguments.max_size, tell)
        done = refine_cameras(scene, matches, arguments.keep_lens, tell)
        with working_folder(out) as work:
            write_refined(work, scene, done, tell)
            move_in({work / name: out / name for name in PARTS if (work / name).exists()})
    cli.write_report(
        arguments.json, {"scene": str(arguments.scene), **numbers(scene, done), "versions": cli.versions()}
    )
    for line in closing(scene, done, out):
        cli.say(line)
    cli.warn(doubts(scene, done, limit(matches.cameras)))
    return 0


def write_refined(
    folder: Path, scene: Scene, done: Refinement, tell: Callable[[str, int, int], None] = lambda what, made, count: None
) -> None:
    """Copy the files of a scene into a folder, its depth as the refined cameras see it, and write the cameras.

    Depth maps that nothing changes are copied. Of others, those in .png become .png of the same step, all the rest
    .npy of float32. tell("writing", done, count) is called before every view.
    """
    frames = []
    for i, frame in enumerate(scene.frames):
        tell("writing", i, len(scene))
        made = replace(frame, image=_copied(frame.image, folder / "images", i))
        if frame.mask is not None:
            made = replace(made, mask=_copied(frame.mask, folder / "masks", i))
        if frame.depth is not None:
            made = _with_depth(made, folder / "depth", i, None if _stays(frame, done) else done.depth(scene, i))
        frames.append(made)
    write_transforms_scene(folder / "transforms.json", Scene(done.cameras, frames, scene.splits))


def _stays(frame: Frame, done: Refinement) -> bool:
    return not done.separate and frame.depth_grid is None and not set(frame.depth_invalid) - {0}


def _with_depth(frame: Frame, folder: Path, index: int, depth: Tensor | None) -> Frame:
    """The frame with its depth map in a folder: copied, or the one that is given."""
    if depth is None:
        return replace(frame, depth=_copied(frame.depth, folder, index))
    whole = frame.depth.suffix.lower() == ".png"
    made = folder / f"{outputs.number_of(index)}{'.png' if whole else '.npy'}"
    if whole:
        write_depth_png(made, depth, frame.depth_scale)
    else:
        write_npy(made, depth)
    scale = frame.depth_scale if whole else 1.0
    return replace(frame, depth=made, depth_scale=scale, depth_grid=None, depth_invalid=())


def _copied(file: Path, folder: Path, index: int) -> Path:
    target = folder / f"{outputs.number_of(index)}{file.suffix.lower()}"
    folder.mkdir(exist_ok=True)
    shutil.copyfile(file, target)
    return target


def numbers(scene: Scene, done: Refinement) -> dict[str, object]:
    """A refinement as plain values; lengths in units of the poses, the rest in pixels."""
    focal = [float(cameras[0].intrinsics[0, 0]) for cameras in (scene.cameras, done.cameras)]
    return {
        "views": len(scene),
        "error_before": done.before,
        "error_after": done.after,
        "focal_before": focal[0],
        "focal_after": focal[1],
        "separate_depth_camera": done.separate,
        "moved": done.moved,
        "groups": done.groups,
        "kept": done.kept,
        "doubtful": done.doubtful,
    }


def doubts(scene: Scene, done: Refinement, most: float) -> list[str]:
    """What speaks against a refinement; `most` pixels are an error that cameras which fit stay below."""
    out = []
    if not done.after <= most:
        out.append("the refined cameras do not fit the pictures either: is it their depth?")
    elif done.doubtful:
        out.append(f"views that do not fit the others, whose poses or depth are wrong: {done.doubtful}")
    stated, found = (c.centers - c.centers.mean(0) for c in (scene.cameras, done.cameras))
    grown = float(found.norm() / stated.norm())
    if grown > UNIT or grown < 1 / UNIT:
        out.append(
            f"the cameras lie {grown:.3g} times as far apart as stated: is the unit of the depth that of the poses?"
        )
    return out


def closing(scene: Scene, done: Refinement, out: Path) -> list[str]:
    """What there is to say at the end."""
    focal = [f"{float(cameras[0].intrinsics[0, 0]):.1f}" for cameras in (scene.cameras, done.cameras)]
    error = f"median distance of a match from where its depth puts it: {done.before:.2f}"
    if done.after < done.before:
        lines = [
            f"{error} -> {done.after:.2f} pixels",
            f"the cameras moved by {done.moved:.3g} in the median, in the unit of the poses",
        ]
        if focal[0] != focal[1]:
            lines.append(f"focal length of the first view: {focal[0]} -> {focal[1]} pixels of the full picture")
    else:
        lines = [f"{error} pixels; no other cameras fit clearly better: they stay as stated"]
    if done.separate:
        lines.append(
            "the depth maps have the stated lens, the pictures another: depth is written as the pictures see it"
        )
    if len(done.groups) > 1:
        lines.append(f"{len(done.groups)} groups of views share no matches: how these stand to each other is as stated")
    if done.kept:
        lines.append(f"{len(done.kept)} views keep their poses, too few matches see them: {done.kept}")
    return [*lines, f"{out / 'transforms.json'}: a scene for all other commands"]
