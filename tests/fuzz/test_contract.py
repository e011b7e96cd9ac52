"""The watch sees every kind of breach, by readers made to commit one each, and none in one that commits none."""

import io
import os
import pickle
import socket
import subprocess
import sys
import warnings

import numpy as np
import pytest

from tests.fuzz.contract import faults


@pytest.fixture
def scene(tmp_path):
    folder = tmp_path / "scene"
    folder.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "own.txt").write_text("own")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "code.py").write_text("ran = True")
    return folder


class Attack:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def unpickles(folder):
    np.save(folder / "a.npy", np.array([Attack()], dtype=object), allow_pickle=True)

    def read():
        np.load(folder / "a.npy", allow_pickle=True)

    return read


def loops(_folder):
    def read():
        while True:
            pass

    return read


def hides(folder):
    def read():
        try:
            (folder.parent / "secret.txt").read_text()
        except BaseException:
            return "nothing happened"

    return read


def raises(error):
    def read():
        raise error

    return read


def imports(folder):
    def read():
        exec(compile((folder / "code.py").read_text(), str(folder / "code.py"), "exec"), {})

    return read


BREACHES = {
    "runs: pickle.find_class": unpickles,
    "hang: more than 0.2 s": loops,
    "opens outside: ": lambda folder: lambda: (folder / ".." / "secret.txt").read_text(),
    "opens outside: /etc/hostname": lambda _: lambda: open("/etc/hostname"),
    "opens outside": hides,
    "lists outside: /": lambda _: lambda: os.listdir("/"),
    "memory: ": lambda _: lambda: np.ones(25_000_000),
    "traceback: MemoryError": lambda _: lambda: np.empty(1 << 40, np.uint8),
    "traceback: KeyError": lambda _: raises(KeyError("pose")),
    "traceback: SystemExit": lambda _: raises(SystemExit(3)),
    "traceback: RecursionError": lambda _: raises(RecursionError("deep")),
    "message: expected one line": lambda _: raises(ValueError("one\ntwo")),
    "message: expected one line, got ''": lambda _: raises(ValueError()),
    "noise: RuntimeWarning": lambda _: lambda: np.float64(1e308) * np.float64(10),
    "runs code: <string>": lambda _: lambda: exec("1 + 1"),
    "runs code: ": imports,
    "runs: os.system": lambda _: lambda: os.system("touch pwned"),
    "runs: subprocess.Popen": lambda _: lambda: subprocess.run([sys.executable, "-c", ""]),
    "runs: socket.": lambda _: lambda: socket.create_connection(("127.0.0.1", 9)),
    "writes: ": lambda folder: lambda: (folder / "new.txt").write_text("x"),
    "changes: os.remove": lambda folder: lambda: (folder / "own.txt").unlink(),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_every_breach_is_seen_and_stopped(scene, breach):
    before = sorted(path.name for path in scene.parent.rglob("*"))
    read = BREACHES[breach](scene)
    made = sorted(path.name for path in scene.parent.rglob("*"))
    found = faults(read, scene, seconds=0.2, memory=100 << 20)
    assert any(one.startswith(breach) for one in found), found
    assert sorted(path.name for path in scene.parent.rglob("*")) == made and set(made) - set(before) <= {"a.npy"}


def test_what_keeps_the_contract_has_no_fault(scene):
    def read():
        assert (scene / "own.txt").read_text() == "own"
        assert os.listdir(scene) and np.load(io.BytesIO(npy)).sum() == 3
        pickle.dumps({"a": 1})
        np.ones(5_000_000).sum()
        raise ValueError(f"{scene}: expected a pose, got none")

    buffer = io.BytesIO()
    np.save(buffer, np.ones(3))
    npy = buffer.getvalue()
    assert faults(read, scene, seconds=5.0, memory=100 << 20) == []
    assert faults(lambda: open(scene / "absent.txt"), scene) == []


def test_the_watch_ends_with_the_call(scene):
    assert faults(lambda: None, scene) == []
    assert (scene.parent / "secret.txt").read_text() == "secret" and os.listdir("/")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        warnings.warn("mine", stacklevel=1)
    assert len(told) == 1
