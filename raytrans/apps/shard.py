"""Put scenes into tar files to train on."""

import re
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path

from raytrans.apps import cli
from raytrans.apps.progress import Progress
from raytrans.data.patterns import paths_of
from raytrans.data.readers import open_scene
from raytrans.data.shards import MOST_VIEWS
from raytrans.export.shards import Members, scene_members, write_shards
from raytrans.training.scenes import trained_views

MAX_SIZE, MEGABYTES = 256, 256.0


def parser() -> ArgumentParser:
    """Command line of `tools/shard.py`."""
    out = ArgumentParser(
        prog="shard",
        description="Put scenes into tar files that training reads with data.shards, a scene a sample in WebDataset's "
        "convention. A scene that cannot be read is left out, with a warning; exit status 2 where that is all.",
    )
    text = f"{cli.SCENE}; wildcards and braces in quotes are understood"
    out.add_argument("scenes", nargs="+", metavar="SCENE", help=text)
    text = "new or empty folder for 000000.tar and so on"
    out.add_argument("--out", type=cli.output_folder, required=True, metavar="DIR", help=text)
    text = f"long side of the images in pixels, averaged down, none enlarged (default: {MAX_SIZE})"
    out.add_argument("--max-size", type=cli.positive_int, default=MAX_SIZE, metavar="P", help=text)
    text = "write JPEG of this quality, 1 to 100; several times as small (default: PNG, exact)"
    out.add_argument("--jpeg", type=quality, metavar="Q", help=text)
    text = "with depth, where views have it: training learns it then. Only depth that is right should go along"
    out.add_argument("--depth", action="store_true", help=text)
    text = f"begin another file where one would be larger (default: {MEGABYTES:g})"
    out.add_argument("--megabytes", type=cli.positive_float, default=MEGABYTES, metavar="M", help=text)
    cli.add_json_argument(out)
    return out


def quality(text: str) -> int:
    """A whole number from 1 to 100, as an argparse type."""
    value = cli.positive_int(text)
    if value > 100:
        raise ArgumentTypeError(f"expected a whole number from 1 to 100, got {text!r}")
    return value


def main(arguments: Namespace) -> int:
    """Write shards as the command line says; the exit status."""
    start = time.monotonic()
    if arguments.out.is_dir() and any(arguments.out.iterdir()):
        raise ValueError(f"--out: expected a new or empty folder, got {arguments.out}, which holds files")
    paths = [path for text in arguments.scenes for path in paths_of(text)]
    left_out: dict[str, str] = {}
    with Progress("scenes", len(paths), "") as tell:
        files = write_shards(arguments.out, samples(paths, arguments, left_out, tell), arguments.megabytes)
    if not files:
        reason = next(iter(left_out.values()), f"{' '.join(arguments.scenes)} names no scene")
        raise ValueError(f"SCENE: expected one that can be read, got none: {reason}")
    size = sum(file.stat().st_size for file in files)
    values = {"scenes": len(paths) - len(left_out), "left_out": left_out, "files": files, "bytes": size}
    values |= {"seconds": time.monotonic() - start, "versions": cli.versions()}
    cli.write_report(arguments.json, values)
    told = f", {len(left_out)} left out" if left_out else ""
    cli.say(f"{values['scenes']} scenes in {len(files)} files, {size / 1e6:.1f} MB{told}")
    cli.say(f"train on them with --set 'data.shards=[\"{arguments.out}/*.tar\"]' data.folder_share=1.0")
    return 0


def samples(paths: Sequence[Path], arguments: Namespace, left_out: dict[str, str], tell: Progress) -> Iterator[Members]:
    """The members of every scene that can be read; `left_out` receives the reasons of the others."""
    for number, path in enumerate(paths):
        try:
            scene = open_scene(path)
            if len(scene) > MOST_VIEWS:
                raise ValueError(f"{path}: expected at most {MOST_VIEWS} views, got {len(scene)}")
            trained_views(scene)
            yield scene_members(scene, key_of(number, path), arguments.max_size, arguments.jpeg, arguments.depth)
        except ValueError as error:
            left_out[str(path)] = str(error)
            cli.warn([f"left out: {error}"])
        tell(text=path.name)


def key_of(number: int, path: Path) -> str:
    """The key of a scene: its number, and of its name what a key may hold, which is no point."""
    return f"{number:06d}-{re.sub('[^A-Za-z0-9_-]+', '-', path.stem)[:60]}"
