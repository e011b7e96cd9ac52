"""Check the cameras of a scene against its pictures, name the mistake if there is one, and write a page about it."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from raytrans.apps import cli, outputs
from raytrans.apps.progress import Stages
from raytrans.data.inspection import Inspection, inspect_scene
from raytrans.data.readers import open_scene
from raytrans.export.files import write_json
from raytrans.reports.inspection import inspection_page

UNUSABLE = 1
PAGE, NUMBERS = "inspection.html", "inspection.json"
WORST = 3


def parser() -> ArgumentParser:
    """Command line of `tools/inspect_scene.py`."""
    out = ArgumentParser(
        prog="inspect_scene",
        description="Match features between neighbouring views, measure how far they lie from the epipolar lines of "
        "the stated poses, and try the usual mistakes (axes, inverse or transposed matrices, order of quaternions, "
        "focal length, half a pixel, distortion). Near and far, and depth files, are compared with triangulated "
        "matches. DIR receives "
        f"{PAGE} and {NUMBERS}; a folder that holds a capture is refused. Exit status 0 where the poses are usable, 1 "
        "where they are not or nothing matches, 2 for a mistake of the call.",
    )
    out.add_argument("scene", metavar="SCENE", help=cli.SCENE)
    out.add_argument("--out", type=cli.output_folder, required=True, metavar="DIR", help="folder to write to")
    text = "long side in pixels of the pictures that are compared; distances are in their pixels (default: 640)"
    out.add_argument("--max-size", type=cli.positive_int, default=640, metavar="P", help=text)
    text = "number of views, evenly over the scene, that are compared with their neighbours (default: 12)"
    out.add_argument("--views", type=cli.positive_int, default=12, metavar="N", help=text)
    cli.add_json_argument(out)
    return out


def main(arguments: Namespace) -> int:
    """Inspect as the command line says; the exit status."""
    scene = open_scene(arguments.scene)
    outputs.check_capture(arguments.out, outputs.scene_files(scene, Path(arguments.scene)))
    for name in (PAGE, NUMBERS):
        outputs.check_own(arguments.out / name)
    with Stages() as tell:
        done = inspect_scene(scene, arguments.max_size, arguments.views, tell)
    values = {"scene": str(arguments.scene), "max_size": arguments.max_size, **numbers(done)}
    values["versions"] = cli.versions()
    write_json(arguments.out / NUMBERS, values)
    inspection_page(scene, done, arguments.max_size).save(arguments.out / PAGE)
    cli.write_report(arguments.json, values)
    cli.say(f"{arguments.scene}: {done.verdict}")
    cli.warn(done.remarks)
    for row in done.pairs()[:WORST]:
        first, second = (f"{view} ({scene.frames[view].image.name})" for view in row["views"])
        cli.say(f"worst pairs: views {first} and {second}, {row['median']:.2f} pixels")
    cli.say(f"{arguments.out / PAGE}")
    return 0 if done.usable else UNUSABLE


def numbers(done: Inspection) -> dict[str, object]:
    """An inspection as plain values."""
    findings = [
        {"key": one.key, "wrong": one.wrong, "change": one.change, "median": one.score.median} for one in done.findings
    ]
    return {
        "verdict": done.verdict,
        "usable": done.usable,
        "median": done.score and done.score.median,
        "in_front": done.score and done.score.front,
        "findings": findings,
        "remarks": done.remarks,
        "bounds": done.bounds,
        "depth": done.depth,
        "matched_pairs": len(done.matches.views),
        "tried_pairs": len(done.matches.tried),
        "pairs": done.pairs(),
    }
