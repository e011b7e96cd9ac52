"""Runs that are killed: at every step of writing, at random moments, on a full disk; `make torture` kills 200 more."""

import json
import os
import random
import resource
import signal
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import pytest
import torch

import raytrans
from raytrans import atomic
from raytrans.data.generate import generated_scene
from raytrans.models.config import model_config
from raytrans.rendering.renderer import Renderer
from raytrans.training import checkpoint
from raytrans.training.claim import CLAIM, claimed
from raytrans.training.config import train_config
from raytrans.training.loop import RunOptions, train
from raytrans.training.samples import SceneData

STEPS = 6
CONFIG = {
    "size": "tiny",
    "data": {"folders": ["a scene"], "folder_share": 1.0, "sources": [2, 2], "rays": 8, "workers": 0},
    "optim": {"steps": STEPS, "warmup": 2},
    "log": {"checkpoint_every": 1},
}
STATE, WEIGHTS, LOSSES = "training.safetensors", "model.safetensors", "losses"


def forked(work: Callable[[], object]) -> int:
    """The process that does some work, of one thread, and ends with status 0 if it does not fail."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        torch.set_num_threads(1)
        work()
        status = 0
    finally:
        os._exit(status)


def ended(process: int) -> int:
    """The exit status of a process; that of a killed one is the negative signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@lru_cache(1)
def material() -> SceneData:
    """A scene of four small views, drawn before any process is forked."""
    drawn = generated_scene(5, "easy", (16, 16), 4)
    return SceneData(list(drawn.images), drawn.cameras, None)


def run(out: Path) -> None:
    """Train from where the folder has it; every loss goes to a file at once."""
    losses = os.open(out.parent / LOSSES, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def report(step: int, terms: dict[str, float]) -> None:
        os.write(losses, (json.dumps([step, terms["total"]]) + "\n").encode())

    train(train_config(CONFIG), RunOptions(out, resume=(out / STATE).exists()), [material()], report=report)


def steps_of(out: Path) -> list[int]:
    """The steps that any life of a run did, in the order of time."""
    file = out.parent / LOSSES
    return [json.loads(line)[0] for line in file.read_text().splitlines()] if file.exists() else []


def losses_of(out: Path) -> dict[int, set[float]]:
    """Every loss that any life of a run had, by step."""
    found: dict[int, set[float]] = {}
    for line in (out.parent / LOSSES).read_text().splitlines():
        step, loss = json.loads(line)
        found.setdefault(step, set()).add(loss)
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[dict[int, set[float]], bytes, float]:
    """Losses, weights and seconds of a run that nobody interrupts."""
    out = tmp_path_factory.mktemp("whole") / "run"
    run(tmp_path_factory.mktemp("first") / "run")  # what is loaded at the first use is there for every fork
    begin = time.monotonic()
    assert ended(forked(lambda: run(out))) == 0
    seconds = time.monotonic() - begin
    losses = losses_of(out)
    assert sorted(losses) == list(range(1, STEPS + 1)) and all(len(values) == 1 for values in losses.values())
    assert len(set.union(*losses.values())) == STEPS
    return losses, (out / WEIGHTS).read_bytes(), seconds


def check_recovery(out: Path, whole: tuple[dict[int, set[float]], bytes, float]) -> None:
    """What is there loads, the next life goes on from there to the end, all together have the whole run's losses."""
    for name in (STATE, WEIGHTS):
        if (out / name).exists():
            checkpoint.read_tensors(out / name)
    step = checkpoint.read_tensors(out / STATE)[1]["step"] if (out / STATE).exists() else 0
    before = len(steps_of(out))
    assert ended(forked(lambda: run(out))) == 0
    assert steps_of(out)[before:] == [*range(step + 1, STEPS + 1)]
    assert losses_of(out) == whole[0]
    assert (out / WEIGHTS).read_bytes() == whole[1]
    assert sorted(path.name for path in out.iterdir()) == [CLAIM, WEIGHTS, STATE]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dying_write(count: int, share: float = 0.5) -> None:
    """Of the `count`-th file a share is written."""
    made = []

    def opened(*arguments):
        file = open(*arguments)
        made.append(file)
        if len(made) == count:
            whole = file.write

            class Half:
                def __enter__(self):
                    return self

                def __exit__(self, *_):
                    return None

                def write(self, data):
                    whole(data[: int(share * len(data))])
                    file.flush()
                    die()

            return Half()
        return file

    atomic.open = opened


def dying_call(name: str, before: bool, count: int) -> None:
    """The `count`-th call of a function of the system is the last, killed before or after it."""
    real, calls = getattr(os, name), []

    def call(*arguments):
        calls.append(name)
        if before and len(calls) == count:
            die()
        result = real(*arguments)
        if len(calls) == count:
            die()
        return result

    setattr(os, name, call)


MOMENTS = {
    "made, nothing written": lambda count: dying_write(count, 0),
    "half written": dying_write,
    "written, not on the disk": lambda count: dying_call("fsync", True, count),
    "on the disk, not renamed": lambda count: dying_call("replace", True, count),
    "renamed": lambda count: dying_call("replace", False, count),
}
# the states of the steps come first, then that of the end, then the weights
FILES = {"first": 1, "third": 3, "weights": STEPS + 2}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_a_step_of_writing_it_goes_on_from_the_last_whole_state(tmp_path, whole, moment, file):
    out = tmp_path / "run"

    def doomed() -> None:
        MOMENTS[moment](FILES[file])
        run(out)

    assert ended(forked(doomed)) == -signal.SIGKILL
    assert (out / STATE).exists() == (file != "first" or moment == "renamed")
    left = [path for path in out.iterdir() if ".tmp" in path.name]
    assert len(left) == (moment != "renamed")
    check_recovery(out, whole)


@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=[pytest.mark.slow] if seed >= 5 else []) for seed in range(200)]
)
def test_killed_at_random_moments_it_goes_on_from_the_last_whole_state(tmp_path, whole, seed):
    draw, out = random.Random(seed), tmp_path / "run"
    for _ in range(2):
        life = forked(lambda: run(out))
        wait_for_lines(out.parent / LOSSES, draw.randint(1, STEPS - 2))
        time.sleep(draw.uniform(0, whole[2] / STEPS))
        os.kill(life, signal.SIGKILL)
        ended(life)
    check_recovery(out, whole)


def wait_for_lines(file: Path, count: int) -> None:
    """Until a file has so many lines; TimeoutError where nothing writes them."""
    for _ in range(30_000):
        if file.exists() and file.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.001)
    raise TimeoutError(f"{file}: expected {count} lines")


def test_a_full_disk_ends_the_run_with_the_last_state_whole(tmp_path, whole):
    out = tmp_path / "run"

    def cramped() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        real, calls = checkpoint.pack, []

        def pack(*arguments):
            calls.append(1)
            if len(calls) == 3:
                resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
            return real(*arguments)

        checkpoint.pack = pack
        with pytest.raises(ValueError, match="could not write.*File too large; the earlier file is untouched"):
            run(out)

    assert ended(forked(cramped)) == 0
    assert checkpoint.read_tensors(out / STATE)[1]["step"] == 2
    check_recovery(out, whole)


def test_a_folder_that_cannot_be_written_to_is_refused_at_once(tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="--out: nothing can be written to"), claimed(tmp_path / "file" / "run"):
        pass

    def barred() -> None:
        for folder in (tmp_path, *tmp_path.parents):
            if folder.stat().st_uid == os.geteuid() and folder != folder.parent:
                folder.chmod(0o755)
        out.chmod(0o555)
        if os.geteuid() == 0:
            os.seteuid(65534)  # root may write everywhere
        with pytest.raises(ValueError, match="--out: nothing can be written to .*run: Permission denied"), claimed(out):
            pass

    assert ended(forked(barred)) == 0


def test_a_second_run_in_the_same_folder_is_refused_until_the_first_is_gone(tmp_path, whole):
    out = tmp_path / "run"
    ready, told = os.pipe()

    def first() -> None:
        with claimed(out):
            os.write(told, b"!")
            time.sleep(60)

    def second() -> None:
        with pytest.raises(ValueError, match=f"another run is at work in {out}"):
            run(out)

    life = forked(first)
    assert os.read(ready, 1) == b"!"
    (out / ".training-1.tmp.safetensors").touch()
    assert ended(forked(second)) == 0 and (out / ".training-1.tmp.safetensors").exists()
    os.kill(life, signal.SIGKILL)
    ended(life)
    check_recovery(out, whole)


def test_weights_cut_at_every_thousandth_byte_are_refused(tmp_path):
    file = tmp_path / WEIGHTS
    checkpoint.save_model(file, Renderer(model_config("tiny")))
    content = file.read_bytes()
    assert len(content) > 50_000
    for size in range(0, len(content), 1000):
        file.write_bytes(content[:size])
        with pytest.raises(ValueError, match="damaged"):
            raytrans.load(file)


def test_a_state_cut_at_every_thousandth_byte_is_refused_and_the_whole_one_is_not(tmp_path):
    model, file = Renderer(model_config("tiny")), tmp_path / STATE
    optimizer = torch.optim.AdamW(model.parameters())
    sum(p.sum() for p in model.parameters()).backward()
    optimizer.step()
    checkpoint.save_training(file, model, optimizer, {"step": 1, "config": {}})
    content = file.read_bytes()
    assert len(content) > 150_000
    for size in range(0, len(content), 1000):
        file.write_bytes(content[:size])
        with pytest.raises(ValueError, match="damaged"):
            checkpoint.read_tensors(file)
    file.write_bytes(content)
    assert checkpoint.read_tensors(file)[1]["step"] == 1
