"""Refine the cameras of an RGB-D capture by bundle adjustment, and write the capture with them as a new scene."""

import shutil
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from raytrans.apps import cli, outputs
from raytrans.apps.new_folder import check_new, working_folder
from raytrans.apps.progress import Stages
from raytrans.data.matching import match_views
from raytrans.data.readers import open_scene
from raytrans.data.refinement import Refinement, pairs_to_match, refine_cameras
from raytrans.data.scene import Scene
from raytrans.data.scoring import limit
from raytrans.export.files import depth_step, write_depth_png
from raytrans.export.transforms import write_transforms_scene

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
            for name in PARTS:
                if (work / name).exists():
                    shutil.move(work / name, out / name)
    cli.write_report(
        arguments.json, {"scene": str(arguments.scene), **numbers(scene, done), "versions": cli.versions()}
    )
    for line in closing(scene, done, out):
        cli.say(line)
    if done.after > limit(matches.cameras):
        cli.warn(["the refined cameras do not fit the pictures either: is it their depth?"])
    return 0


def write_refined(
    folder: Path, scene: Scene, done: Refinement, tell: Callable[[str, int, int], None] = lambda what, made, count: None
) -> None:
    """Copy the files of a scene into a folder, its depth as the refined cameras see it, and write the cameras.

    tell("writing", done, count) is called before every view.
    """
    maps = (scene.depth(i) for i in range(len(scene)))
    step = depth_step(max(float(depth.nan_to_num(0).max()) for depth in maps if depth is not None))
    frames = []
    for i, frame in enumerate(scene.frames):
        tell("writing", i, len(scene))
        depth = done.depth(scene, i)
        made = replace(frame, depth=None, depth_grid=None, depth_invalid=(), depth_scale=step)
        made = replace(made, image=_copied(frame.image, folder / "images", i))
        if frame.mask is not None:
            made = replace(made, mask=_copied(frame.mask, folder / "masks", i))
        if depth is not None:
            made = replace(made, depth=folder / f"depth/{outputs.number_of(i)}.png")
            write_depth_png(made.depth, depth, step)
        frames.append(made)
    write_transforms_scene(folder / "transforms.json", Scene(done.cameras, frames, scene.splits))


def _copied(file: Path, folder: Path, index: int) -> Path:
    target = folder / f"{outputs.number_of(index)}{file.suffix.lower()}"
    folder.mkdir(exist_ok=True)
    shutil.copyfile(file, target)
    return target


def numbers(scene: Scene, done: Refinement) -> dict[str, object]:
    """A refinement as plain values."""
    focal = [float(cameras[0].intrinsics[0, 0]) for cameras in (scene.cameras, done.cameras)]
    return {
        "views": len(scene),
        "error_before": done.before,
        "error_after": done.after,
        "focal_before": focal[0],
        "focal_after": focal[1],
        "separate_depth_camera": done.separate,
        "moved": done.moved,
        "kept": done.kept,
    }


def closing(scene: Scene, done: Refinement, out: Path) -> list[str]:
    """What there is to say at the end."""
    values = numbers(scene, done)
    texts = [
        "median distance of a match from where its depth puts it: {error_before:.2f} -> {error_after:.2f} pixels",
        "focal length of the first view: {focal_before:.1f} -> {focal_after:.1f} pixels; cameras moved by {moved:.3g}",
    ]
    lines = [text.format_map(values) for text in texts]
    if done.separate:
        lines.append(
            "the depth maps have the stated lens, the pictures another: depth is written as the pictures see it"
        )
    if done.kept:
        lines.append(f"{len(done.kept)} views stay as stated, too few matches see them: {done.kept}")
    return [*lines, str(out / "transforms.json")]
