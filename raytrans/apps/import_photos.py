"""Find the camera poses of photographs or of a video, and write them as a COLMAP scene."""

import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from raytrans.apps import cli
from raytrans.apps.new_folder import check_new, move_in, working_folder
from raytrans.apps.photos import VIDEOS, Photo, copy_photos, extract_frames
from raytrans.apps.posing import ENOUGH, pose, require_pycolmap
from raytrans.apps.progress import Stages

LENSES = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "OPENCV_FISHEYE")
RATE = 2.0  # frames per second
ADVICE = (
    "few images were registered: take more photographs between those that are far apart, each sharing most of what it "
    "shows with its neighbours; leave out blurred ones; step sideways instead of turning on the spot; for a video "
    "raise --rate; for small things in large pictures raise --max-size"
)


def parser() -> ArgumentParser:
    """Command line of `tools/import_photos.py`."""
    out = ArgumentParser(
        prog="import_photos",
        description="Find the camera poses of a folder of photographs (with sub-folders) or of a video by structure "
        "from motion (pycolmap, on the CPU), and write them as a COLMAP scene: DIR/images and DIR/sparse/0. The input "
        "is only read. Exit status 2 where no two photographs could be put together.",
    )
    out.add_argument("photos", type=Path, metavar="IN", help="folder of photographs, or a video file")
    out.add_argument("--out", type=cli.output_folder, required=True, metavar="DIR", help="new or empty folder")
    text = "frames per second taken from a video, the sharpest of each interval (default: 2)"
    out.add_argument("--rate", type=cli.positive_float, metavar="R", help=text)
    text = "long side in pixels at which features are found; images are written whole (default: 1600)"
    out.add_argument("--max-size", type=cli.positive_int, default=1600, metavar="P", help=text)
    text = "COLMAP's lens model (default: SIMPLE_RADIAL, refined to OPENCV where 8 or more photographs share a lens)"
    out.add_argument("--lens", choices=LENSES, help=text)
    text = "write images without lens distortion, with pinhole cameras; they are resampled, which is not needed here"
    out.add_argument("--undistort", action="store_true", help=text)
    out.add_argument("--threads", type=cli.positive_int, metavar="N", help="processor cores to use (default: all)")
    cli.add_json_argument(out)
    return out


def main(arguments: Namespace) -> int:
    """Import as the command line says; the exit status."""
    start, out = time.monotonic(), arguments.out
    check_folders(arguments.photos, out)
    if arguments.rate is not None and arguments.photos.is_dir():
        raise ValueError(f"--rate: expected a video to take frames from, got the folder {arguments.photos}")
    require_pycolmap()
    with working_folder(out) as work:
        photos = gather(arguments.photos, work / "images", arguments.rate or RATE)
        if len(photos) < 3:
            raise ValueError(f"{arguments.photos}: expected at least 3 photographs, got {len(photos)}")
        cli.say(f"{arguments.photos}: {len(photos)} images")
        settings = {"lens": arguments.lens, "max_size": arguments.max_size, "threads": arguments.threads or -1}
        with Stages() as tell:
            model = pose(work / "images", photos, work, settings, cli.say, tell)
        if model is None or model.num_reg_images() < 2:
            raise ValueError(f"{arguments.photos}: no camera poses were found; {ADVICE}")
        write_scene(model, work, out, arguments.undistort)
    values = report(model, photos, time.monotonic() - start)
    cli.write_report(arguments.json, {**values, "photos": str(arguments.photos), "versions": cli.versions()})
    for line in closing(values, out):
        cli.say(line)
    return 0


def check_folders(photos: Path, out: Path) -> None:
    """Refuse inputs that are not there, and an output that holds something or lies where the photographs are."""
    if not photos.exists():
        raise ValueError(f"{photos}: no such folder or video")
    check_new(out)
    if photos.is_dir() and out.resolve().is_relative_to(photos.resolve()):
        raise ValueError(f"--out: expected a folder outside the photographs, got {out} in {photos}")


def gather(source: Path, target: Path, rate: float) -> list[Photo]:
    """The images of a folder or a video as files below `target`."""
    if source.is_dir():
        return copy_photos(source, target)
    if source.suffix.lower() not in VIDEOS:
        raise ValueError(f"{source}: expected a folder or a video ({' '.join(sorted(VIDEOS))})")
    return extract_frames(source, target, rate)


def write_scene(model: Any, work: Path, out: Path, undistort: bool) -> None:
    """Move images and model into their places; the folder is a scene only once both are whole."""
    images, sparse = work / "images", work / "sparse"
    sparse.mkdir()
    model.write(sparse)
    if undistort:
        plain = work / "undistorted"
        require_pycolmap().undistort_images(plain, sparse, images)
        images, sparse = plain / "images", plain / "sparse"
    models = work / "models"
    models.mkdir()
    sparse.rename(models / "0")
    move_in({images: out / "images", models: out / "sparse"})


def report(model: Any, photos: list[Photo], seconds: float) -> dict[str, object]:
    """The numbers of a model."""
    registered = {image.name for image in model.images.values() if image.has_pose}
    return {
        "images": len(photos),
        "registered": len(registered),
        "left_out": sorted({photo.name for photo in photos} - registered),
        "points": model.num_points3D(),
        "mean_reprojection_error": model.compute_mean_reprojection_error(),
        "cameras": [f"{camera.model.name} {camera.width}x{camera.height}" for camera in model.cameras.values()],
        "seconds": seconds,
    }


def closing(values: dict, out: Path) -> list[str]:
    """What was found, and what to do next."""
    error = f"mean reprojection error {values['mean_reprojection_error']:.2f} pixels"
    found = f"{values['registered']} of {values['images']} images registered, {values['points']} points, {error}"
    lines = [f"{found}, {cli.duration(values['seconds'])}"]
    if values["left_out"]:
        names = values["left_out"]
        lines.append("left out: " + ", ".join(names[:10]) + (f" and {len(names) - 10} more" if names[10:] else ""))
    if values["registered"] < ENOUGH * values["images"]:
        lines.append(f"warning: {ADVICE}")
    return [*lines, f"{out} is a scene; check it with `raytrans inspect`"]
