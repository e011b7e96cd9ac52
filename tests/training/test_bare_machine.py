"""Training on generated scenes from a copied folder, on a machine that has torch and numpy and nothing else."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import raytrans
from raytrans.models.config import model_config

ROOT = Path(raytrans.__file__).parents[1]
MEGABYTE = 2**20

# Refuses every import that neither Python nor torch nor numpy brings.
LONELY = """
import runpy, sys
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
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("alone")
    for name in ("raytrans", "tools", "configs"):
        shutil.copytree(ROOT / name, out / name, ignore=shutil.ignore_patterns("__pycache__"))
    return out


def train(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    options = ["tools/train.py", "configs/tiny.toml", "--out", "runs/tiny", "--device", "cpu", *arguments]
    run = subprocess.run([sys.executable, "-c", LONELY, *options], cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run


def test_torch_and_numpy_suffice_to_train_and_to_resume(folder):
    few = ["--set", "optim.steps=4", "data.rays=32", "data.workers=0", "data.sizes=[16]"]
    log = ["--set", "log.evaluate_every=4", "log.evaluate_scenes=1", "log.log_every=1", "log.checkpoint_every=2"]
    first = train(folder, *few, *log)
    assert (
        "step 4" in first.stderr and "held-out/psnr" in first.stderr and "tensorboard is not installed" in first.stderr
    )
    (folder / "runs/tiny/model.safetensors").unlink()
    train(folder, *few, *log, "--resume")
    assert raytrans.load(folder / "runs/tiny").config == model_config("tiny")
    files = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    assert max(files) < 16 * MEGABYTE and sum(files) < 40 * MEGABYTE


def test_the_machine_of_the_test_is_bare(folder):
    # all in one process, since each would spend seconds on importing torch
    (folder / "probe.py").write_text(
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n"
        "        importlib.import_module(name)\n"
        "    except ImportError:\n"
        "        continue\n"
        "    print(name)\n"
    )
    names = ["math", "numpy", "jaxtyping", "safetensors", "tqdm", "tensorboard", "PIL", "cv2", "kornia", "psutil"]
    command = [sys.executable, "-c", LONELY, "probe.py", *names]
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    assert found.split() == ["math", "numpy"]
