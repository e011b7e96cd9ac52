"""Training on generated scenes from a copied folder, on a machine that has torch and numpy and nothing else."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import raytrans
from raytrans.models.config import model_config

ROOT = Path(raytrans.__file__).parents[1]
MEGABYTE = 2**20

# Refuses every import that neither Python nor torch nor numpy brings, says which of some names it does not refuse, and
# runs commands in copies of itself, since importing torch takes seconds. Says their statuses; errors go to files.
LONELY = """
import importlib, json, os, runpy, sys
import numpy, torch, torch._dynamo, torch.utils.data, torch.utils.checkpoint
known = {name.split(".")[0] for name in sys.modules} | set(sys.stdlib_module_names) | {"raytrans", "start"}
known -= {"jaxtyping", "safetensors", "tqdm", "tensorboard", "PIL", "cv2", "kornia", "psutil", "trimesh", "scipy"}

class Lonely:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in known:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Lonely())
for name in [name for name in sys.modules if name.split(".")[0] not in known]:
    del sys.modules[name]
sys.path.insert(0, "tools")
names, commands = json.loads(sys.argv[1])
found = []
for name in names:
    try:
        importlib.import_module(name)
    except ImportError:
        continue
    found.append(name)
for number, command in enumerate(commands):
    child = os.fork()
    if child == 0:
        os.dup2(os.open(f"{number}.err", os.O_WRONLY | os.O_CREAT), 2)
        sys.argv = command
        runpy.run_path(command[0], run_name="__main__")
    found.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    if number == 0:
        os.rename("runs/tiny/model.safetensors", "model.safetensors")
print(json.dumps(found))
"""
NAMES = ["math", "numpy", "jaxtyping", "safetensors", "tqdm", "tensorboard", "PIL", "cv2", "kornia", "psutil"]
TRAIN = ["tools/train.py", "configs/tiny.toml", "--out", "runs/tiny", "--device", "cpu", "--set"]
TRAIN += ["optim.steps=4", "data.rays=32", "data.workers=0", "data.sizes=[16]", "log.evaluate_every=4"]
TRAIN += ["log.evaluate_scenes=1", "log.log_every=1", "log.checkpoint_every=2"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> tuple[Path, list]:
    """The folder in which a training was begun and resumed; what the lonely process could import, and the statuses."""
    out = tmp_path_factory.mktemp("alone")
    for name in ("raytrans", "tools", "configs"):
        shutil.copytree(ROOT / name, out / name, ignore=shutil.ignore_patterns("__pycache__"))
    work = json.dumps([NAMES, [TRAIN, [*TRAIN, "--resume"]]])
    done = subprocess.run([sys.executable, "-c", LONELY, work], cwd=out, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out, json.loads(done.stdout.splitlines()[-1])


def test_torch_and_numpy_suffice_to_train_and_to_resume(alone):
    folder, (*_, first, second) = alone
    told = (folder / "0.err").read_text()
    assert (first, second) == (0, 0), told
    assert "step 4" in told and "held-out/psnr" in told and "tensorboard is not installed" in told
    assert (folder / "runs/tiny/model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert raytrans.load(folder / "runs/tiny").config == model_config("tiny")
    files = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    assert max(files) < 16 * MEGABYTE and sum(files) < 40 * MEGABYTE


def test_the_machine_of_the_test_is_bare(alone):
    assert alone[1][:-2] == ["math", "numpy"]
