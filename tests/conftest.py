"""What every test shares: fixed seeds, reproducible hypothesis, a tiny training, real captures by name, processes."""

import inspect
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from datetime import timedelta
from functools import lru_cache, partial, wraps
from html.parser import HTMLParser
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import settings

settings.register_profile("raytrans", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("raytrans")

CHECKED = 3  # calls of a function, of arguments of the same types and shapes, that are checked in one test
_calls: Counter = Counter()
_jaxtyped = jaxtyping.jaxtyped


def _kind(value: object) -> object:
    return (value.shape, value.dtype) if isinstance(value, torch.Tensor) else type(value)


def _jaxtyped_at_first(function=None, *, typechecker) -> Callable:
    """The decorator that the hook on imports sets, for the first calls in a test: thousands are alike.

    Functions within functions are known by their code: each call of the outer one makes them anew.
    """
    if function is None:
        return partial(_jaxtyped_at_first, typechecker=typechecker)
    if not inspect.isfunction(function):
        return _jaxtyped(function, typechecker=typechecker)
    code, checked = function.__code__, []

    @wraps(function)
    def call(*arguments, **named):
        __tracebackhide__ = True
        kind = (code, *named, *map(_kind, arguments), *map(_kind, named.values()))
        _calls[kind] += 1
        if _calls[kind] > CHECKED:
            return function(*arguments, **named)
        if not checked:
            checked.append(_jaxtyped(function, typechecker=typechecker))
        return checked[0](*arguments, **named)

    return call


jaxtyping.jaxtyped = _jaxtyped_at_first  # before raytrans is imported

TINY = """
size = "tiny"
[data]
views = 4
sizes = [16]
sources = [2, 2]
rays = 8
workers = 0
[optim]
steps = 3
[log]
log_every = 2
evaluate_scenes = 1
evaluate_every = 100
checkpoint_every = 1
"""


PATIENCE = 100.0  # seconds that a test waits for a process

VOID = {"meta", "img"}


class PageReader(HTMLParser):
    """What a browser would find: (tag, attributes), the text of each tag, every source; fails on crossed tags."""

    def __init__(self, html: str):
        super().__init__()
        self.open, self.tags, self.texts, self.sources = [], [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)
            self.texts.append((tag, dict(attrs).get("class"), ""))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == self.texts[-1][0]:
            tag, kind, text = self.texts[-1]
            self.texts[-1] = (tag, kind, text + data)

    def of(self, tag):
        return [text for name, _, text in self.texts if name == tag]

    def numbers(self):
        """Text of the cells that hold numbers."""
        return [text for tag, kind, text in self.texts if (tag, kind) == ("td", "number")]

    def lacks_nothing(self):
        """Whether nothing is loaded from elsewhere, and nothing runs."""
        return "script" not in self.tags and all(source.startswith("data:") for source in self.sources)


@pytest.fixture(scope="session")
def read_html():
    """Reads a page as a browser would, from its text."""
    return PageReader


@pytest.fixture(autouse=True)
def _same_start_for_every_test():
    """Seeds every generator and puts torch's defaults back, so that no test depends on those before it."""
    dtype, grad, threads = torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()
    _calls.clear()
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(dtype)
    torch.set_grad_enabled(grad)
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory) -> Path:
    """File of a training of three steps that takes next to no time; tests share it and leave it as it is."""
    file = tmp_path_factory.mktemp("config") / "tiny.toml"
    file.write_text(TINY)
    return file


@lru_cache(maxsize=256)  # of 0.8 MB each
def _texture(state: str, style: str) -> tuple[np.ndarray, dict]:
    from raytrans.data.generate.textures import draw_texture  # not before jaxtyping's hook on imports is set

    rng = np.random.default_rng()
    rng.bit_generator.state = json.loads(state)
    return draw_texture(rng, style), rng.bit_generator.state


@pytest.fixture(scope="module")
def textures_once():
    """Keeps textures of generated scenes by the state of the generator that draws them, which takes most of the time.

    For tests to which a generated scene is material; those of the generator itself do without.
    """
    from raytrans.data.generate import layout

    def kept(rng: np.random.Generator, style: str) -> np.ndarray:
        texture, rng.bit_generator.state = _texture(json.dumps(rng.bit_generator.state), style)
        return texture.copy()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "draw_texture", kept)
        yield


@pytest.fixture
def real_data():
    """Folder of one real capture by name; skips, saying so, where it is absent."""
    root = Path(os.environ.get("RAYTRANS_DATA") or Path(__file__).resolve().parents[1].parent / "shared" / "data")

    def folder(name: str) -> Path:
        if not (root / name).is_dir():
            pytest.skip(f"real capture {name} not found in {root} (set RAYTRANS_DATA)")
        return root / name

    return folder


@pytest.fixture(scope="session")
def ran():
    """Runs some work in several processes, as torchrun starts them: what it makes in each, by rank; its status if none.

    They are forked from this process, which has imported everything, and meet through a file in a folder that is given.
    """
    pytest.importorskip("lightning_fabric")
    torch.set_num_threads(1)
    return _ran


def _ran(folder: Path, work: Callable[[], object], count: int = 2) -> list:
    folder.mkdir(parents=True, exist_ok=True)
    children = [_forked(folder, work, rank, count) for rank in range(count)]
    statuses = [_ended(child) for child in children]
    results = [folder / f"{rank}.pt" for rank in range(count)]
    return [torch.load(f) if f.exists() else status for f, status in zip(results, statuses, strict=True)]


def _forked(folder: Path, work: Callable[[], object], rank: int, count: int) -> int:
    process = os.fork()
    if process:
        return process
    from raytrans import processes
    from raytrans.apps import cli

    status = 1
    try:
        torch.set_num_threads(1)
        numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
        os.environ |= {processes.LAUNCHER: "test", "GROUP_RANK": "0", "GROUP_WORLD_SIZE": "1"}
        os.environ |= {name: str(value) for name, value in numbers.items()}
        processes.SILENCE = cli.SILENCE = 0.0
        place = {"init_method": f"file://{folder / 'meeting'}", "timeout": timedelta(seconds=PATIENCE)}
        torch.distributed.init_process_group("gloo", rank=rank, world_size=count, **place)
        torch.distributed.destroy_process_group = lambda: None  # the next command finds the same group
        with open(folder / f"{rank}.err", "w") as err, open(folder / f"{rank}.out", "w") as out:
            with redirect_stderr(err), redirect_stdout(out):
                result = work()
        torch.save(result, folder / f"{rank}.pt")
        status = 0
    except (processes.Elsewhere, ConnectionError):
        status = 2
    finally:
        os._exit(status)


def _ended(process: int) -> int:
    """The exit status of a process, which is killed, and the test failed, where it hangs."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    raise TimeoutError("a process hangs")
