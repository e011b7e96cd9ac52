"""What the commands share: arguments, one-line errors, tables, and the facts that go beside every number."""

import hashlib
import logging
import os
import platform
import resource
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import raytrans
from raytrans.apps import outputs
from raytrans.apps.commands import INTERRUPTED, MISTAKE, complain
from raytrans.apps.progress import Beside, aside
from raytrans.data.scene import Scene
from raytrans.export.files import write_json
from raytrans.processes import SILENCE, Elsewhere, Processes, joined, launched, quiet, said_once
from raytrans.rendering.renderer import Renderer
from raytrans.reports.page import Page
from raytrans.training import hub
from raytrans.training.checkpoint import RELEASED, load
from raytrans.training.priors import load_priors

SCENE = "folder of a scene, or the path of its camera file"


def run(main: Callable[[Namespace], int], parser: ArgumentParser, argv: Sequence[str] | None = None) -> int:
    """Parse the command line, run `main` and give its exit status.

    A mistake of the caller (ValueError, OSError, out of memory, a wrong argument) becomes one line on stderr,
    `prog: error: ...`, and status 2; Ctrl-C becomes 130. Of the processes that torchrun started one says it for all,
    and before they have joined the first of each machine. A command that does not share its work refuses them.
    """

    def refuse(message: str) -> None:
        raise ValueError(message)

    parser.error = refuse
    handler = logging.StreamHandler(Beside(sys.stderr))
    handler.addFilter(_named_warning)
    logging.basicConfig(format="%(prefix)s%(message)s", handlers=[handler])
    logging.getLogger("raytrans").setLevel(logging.INFO)
    try:
        with said_once():
            arguments = parser.parse_args(argv)
            if launched() > 1 and not parser.get_default("shared"):
                raise ValueError(f"torchrun: expected one process, as this work is not shared, got {launched()}")
        return main(arguments)
    except Elsewhere:
        with suppress(KeyboardInterrupt):
            time.sleep(SILENCE)
        return MISTAKE
    except KeyboardInterrupt:  # reaches all processes of a terminal
        return INTERRUPTED if quiet() else complain(parser.prog, "interrupted", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output went away, as in `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return MISTAKE
    except OSError as error:
        named = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        return complain(parser.prog, (named or str(error)) + _notes(error), MISTAKE)
    except (ValueError, FloatingPointError) as error:
        return complain(parser.prog, str(error) + _notes(error), MISTAKE)
    except (MemoryError, RuntimeError) as error:
        if not _memory_is_short(error):
            raise
        return complain(parser.prog, f"out of memory ({error}); try smaller images", MISTAKE)


def _notes(error: Exception) -> str:
    """Which of several processes failed, if it was not the first."""
    return "".join(f" ({note})" for note in getattr(error, "__notes__", ()))


def share(parser: ArgumentParser) -> None:
    """Let torchrun start several processes of this command, which then works inside `together`."""
    parser.set_defaults(shared=True)


@contextmanager
def together(device: str) -> Iterator[Processes]:
    """The processes that torchrun started, or this one alone; of several the first alone talks, others only warn."""
    with joined(device) as crew:
        if crew.first:
            yield crew
            return
        logging.getLogger("raytrans").setLevel(logging.WARNING)
        logging.getLogger("raytrans.data").setLevel(logging.ERROR)  # of the scene, which all of them open
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            yield crew


def _named_warning(record: logging.LogRecord) -> bool:
    """Warnings say that they are; what is only told stands alone."""
    record.prefix = "warning: " if record.levelno >= logging.WARNING else ""
    return True


def _memory_is_short(error: MemoryError | RuntimeError) -> bool:
    """Whether memory ran out; on the CPU torch says so in a plain RuntimeError."""
    return (
        not isinstance(error, RuntimeError)
        or "can't allocate memory" in str(error)
        or isinstance(error, torch.OutOfMemoryError)
    )


def say(text: str = "") -> None:
    """Write a line for the person at the terminal, at once."""
    with aside():
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def warn(lines: Iterable[str]) -> None:
    """Write warnings for the person at the terminal, one a line."""
    for line in lines:
        say(f"warning: {line}")


def duration(seconds: float) -> str:
    """A time as a person says it: 40 s, 12 min, 1.5 h."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def positive_int(text: str) -> int:
    """A whole number of at least 1, as an argparse type."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return value


def whole_number(text: str) -> int:
    """A whole number of at least 0, as an argparse type."""
    if not (text.isascii() and text.isdigit()):
        raise ArgumentTypeError(f"expected a whole number of at least 0, got {text!r}")
    return int(text)


def seed(text: str) -> int:
    """A whole number that seeds generators, 0 to 2^31 - 1, as an argparse type."""
    if not (text.isascii() and text.isdigit()) or int(text) >= 2**31:
        raise ArgumentTypeError(f"expected a whole number from 0 to {2**31 - 1}, got {text!r}")
    return int(text)


def positive_float(text: str) -> float:
    """A finite number above 0, as an argparse type."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def checkpoint(text: str) -> Path:
    """A file or folder of weights, downloaded where it is `hub://owner/name`, as an argparse type."""
    try:
        return hub.local(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def output_file(text: str) -> Path:
    """A path that a file can be written to, as an argparse type."""
    path = Path(text).expanduser()
    if path.is_dir():
        raise ArgumentTypeError(f"expected a file to write, got the folder {path}")
    _check_parents(path.parent)
    return path


def report_file(text: str) -> Path:
    """A path that a report can be written to, as an argparse type; what is there already must be one of ours."""
    path = output_file(text)
    try:
        outputs.check_own(path)
    except (ValueError, OSError) as error:
        raise ArgumentTypeError(str(error)) from None
    return path


def output_folder(text: str) -> Path:
    """A folder that exists or can be made, as an argparse type; it is not made yet."""
    path = Path(text).expanduser()
    _check_parents(path)
    return path


def _check_parents(folder: Path) -> None:
    """Refuse a folder that is, or lies below, a file; before hours of work, not after."""
    present = next((p for p in (folder, *folder.parents) if p.exists()), None)
    if present is not None and not present.is_dir():
        raise ArgumentTypeError(f"expected a folder, got the file {present}")
    if present is not None and not os.access(present, os.W_OK):
        raise ArgumentTypeError(f"no permission to write into {present}")


def add_json_argument(parser: ArgumentParser, required: bool = False) -> None:
    """`--json FILE`: where to write the numbers."""
    text = "write the numbers to this file as JSON"
    parser.add_argument("--json", type=report_file, metavar="FILE", required=required, help=text)


def add_checkpoint_argument(parser: ArgumentParser, device: bool = True) -> None:
    """`--checkpoint F` and, unless the command decides that, `--device`: which weights, and where they run."""
    text = (
        "weights to use: a .safetensors file, the folder of a run, or hub://owner/name (default: the released weights)"
    )
    parser.add_argument("--checkpoint", type=checkpoint, metavar="F", help=text)
    if device:
        parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu", help="default: cpu")


def add_source_arguments(parser: ArgumentParser, max_size: int) -> None:
    """`--sources N` and `--max-size P`: how many source views, and how large."""
    text = "number of source views for each rendering, chosen by the cameras alone (default: 8)"
    parser.add_argument("--sources", type=positive_int, default=8, metavar="N", help=text)
    text = f"long side of images in pixels; larger ones are averaged down, none is enlarged (default: {max_size})"
    parser.add_argument("--max-size", type=positive_int, default=max_size, metavar="P", help=text)


def load_model(arguments: Namespace, scenes: Iterable[Scene] = (), own: str | None = None) -> Renderer:
    """The model that `--checkpoint` and `--device` name; ValueError where a GPU is asked for and there is none.

    Scenes get the depth priors that the checkpoint holds of them. own: the device of this one of several processes.
    """
    for scene in scenes:
        scene.priors = load_priors(arguments.checkpoint, scene)
        if scene.priors:
            say(f"{scene.path}: depth priors of {len(scene.priors)} views come with the checkpoint")
    device = own or arguments.device
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device: expected a CUDA device for 'cuda', found none; use --device cpu")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return load(arguments.checkpoint, device)


def check_finite(color: Tensor, checkpoint: Path | None) -> None:
    """Refuse a rendering with colours that are no numbers, naming the weights it comes from."""
    if not bool(torch.isfinite(color).all()):
        raise ValueError(f"checkpoint: {checkpoint or RELEASED}: expected finite colours, got NaN or infinity")


def checkpoint_facts(checkpoint: Path | None) -> dict[str, str]:
    """Name and SHA-256 of the file that the weights come from."""
    path = hub.weights_file(RELEASED if checkpoint is None else Path(checkpoint))
    return {"checkpoint": path.name, "checkpoint_hash": hashlib.sha256(path.read_bytes()).hexdigest()}


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    return {
        "raytrans": raytrans.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def peak_memory() -> int:
    """Largest resident size of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def write_report(path: Path | None, values: Mapping[str, object]) -> None:
    """Write the numbers of a run, with the versions, where `--json` said, if it did."""
    if path is not None:
        write_json(path, {"versions": versions(), **values})


def add_page_argument(parser: ArgumentParser) -> None:
    """`--report FILE.html`: where to write the page for people."""
    text = "write a page with pictures and charts to this file, which needs no other"
    parser.add_argument("--report", type=report_file, metavar="FILE.html", help=text)


def add_no_page_argument(parser: ArgumentParser) -> None:
    """`--no-report`: without the page for people."""
    parser.add_argument("--no-report", action="store_true", help="leave report.html out")


def write_page(path: Path | None, make: Callable[[], Page]) -> None:
    """Write the page that `make` gives, if there is a path; what goes wrong is one warning, since results are safe."""
    if path is None:
        return
    try:
        outputs.check_own(path)
        make().save(path)
    except Exception as error:
        warn([f"the report {path} could not be written: {type(error).__name__}: {error}"])
    else:
        say(f"report: {path}")


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns as wide as they need; text stands left, numbers right, None as '-'."""
    cells = [[cell(value) for value in row] for row in rows]
    numeric = [all(not isinstance(row[i], str) for row in rows) for i in range(len(header))] if cells else []
    lines = []
    widths = [
        max(len(header[i]), *(len(row[i]) for row in cells)) if cells else len(header[i]) for i in range(len(header))
    ]
    for row in [list(header), *cells]:
        pairs = enumerate(zip(row, widths, strict=True))
        lines.append("  ".join(c.rjust(w) if numeric and numeric[i] else c.ljust(w) for i, (c, w) in pairs).rstrip())
    return "\n".join(lines)


def cell(value: object) -> str:
    """A value as tables show it: four digits, None as '-'."""
    if value is None:
        return "-"
    return value if isinstance(value, str) else str(value) if isinstance(value, int) else f"{value:.4g}"
