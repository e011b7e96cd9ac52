"""The program `raytrans COMMAND`: what the scripts in tools/ do, under one name. The list of commands imports none."""

import difflib
import importlib
import sys
from collections.abc import Callable, Sequence
from functools import partial

COMMANDS = {
    "render": "Render novel views and depth of a captured scene.",
    "view": "Look at a scene in the browser, with the model's rendering from where you are.",
    "export": "Take depth maps, a point cloud or a mesh out of a captured scene.",
    "evaluate": "Measure renderings of held-out views against three baselines.",
    "verify": "Measure the equivariance contracts of a checkpoint on a scene.",
    "import-photos": "Find the camera poses of photographs or of a video.",
    "inspect": "Check the cameras of a scene against its pictures.",
    "refine": "Refine the cameras of an RGB-D capture by bundle adjustment.",
    "shard": "Put scenes into tar files to train on.",
    "train": "Train a model on many scenes.",
    "study": "Train the arms of a study alike and compare them, scene by scene.",
    "curves": "Draw the curves of training runs.",
    "image-statistics": "Judge the generated training mixture against photographs.",
    "benchmark": "Measure speed and memory.",
    "demo": "Render a shipped scene, measure the contracts and write a page with the pictures.",
}
MISTAKE, INTERRUPTED = 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that comes first in `argv`, or in the command line, and give its exit status."""
    name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        sys.stdout.write(listing())
        return 0
    if name != "--version" and name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f" (is it {near[0]}?)" if near else ""
        return complain("raytrans", f"expected a command of `raytrans --help`, got {name!r}{hint}", MISTAKE)
    prog = f"raytrans {name}"
    try:
        run = command(module_of(name), prog)
    except ImportError as error:
        return complain(prog, f"{error}; in the clone, `pip install --editable .` installs what it needs", MISTAKE)
    except KeyboardInterrupt:
        return complain(prog, "interrupted", INTERRUPTED)
    return run(rest)


def listing() -> str:
    """Every command with what it does, a line each."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}\n" for name, text in COMMANDS.items()]
    usage = "usage: raytrans COMMAND ...\n       raytrans COMMAND --help\n       raytrans --version\n"
    return "".join([usage, "\ncommands:\n", *lines])


def module_of(name: str) -> str:
    """The module in `raytrans.apps` that a command is."""
    return {"inspect": "inspect_scene", "refine": "refine_cameras", "--version": "version"}.get(
        name, name.replace("-", "_")
    )


def command(module: str, prog: str) -> Callable[..., int]:
    """`raytrans.apps.MODULE` as a function of its arguments, which calls itself `prog`."""
    cli, app = (importlib.import_module(f"raytrans.apps.{part}") for part in ("cli", module))
    parser = app.parser()
    parser.prog = prog
    return partial(cli.run, app.main, parser)


def complain(prog: str, message: str, status: int) -> int:
    """Say on stderr, in one line, why `prog` ends with `status`; the status."""
    sys.stderr.write(f"{prog}: error: {' '.join(message.split())}\n")
    return status
