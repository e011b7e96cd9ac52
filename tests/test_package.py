"""The package as a whole: which part may import which, what an import costs, what is declared and exported."""

import ast
import importlib
import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import jaxtyping
import pytest
import torch
from packaging.requirements import Requirement

import raytrans

ROOT = Path(raytrans.__file__).parents[1]

# What each part may import, besides itself, the shapes of `shapes` and the writer of `atomic`. The order is that of the
# parts; `tools` and tests may import anything.
MODEL_SIDE = {"geometry", "fields", "layers", "models"}
ALLOWED = {
    "shapes": set(),
    "atomic": set(),
    "processes": set(),
    "geometry": set(),
    "fields": {"geometry"},
    "layers": {"geometry", "fields"},
    "models": {"geometry", "fields", "layers"},
    "data": {"geometry"},
    "rendering": MODEL_SIDE | {"data"},
    "equivariance": MODEL_SIDE | {"data", "rendering"},
    "training": MODEL_SIDE | {"data", "rendering", "processes"},
    "systems": MODEL_SIDE | {"data", "rendering", "training"},
    "export": MODEL_SIDE | {"data", "rendering", "training"},
    "reports": MODEL_SIDE | {"data", "rendering", "training", "export"},
    "viewer": MODEL_SIDE | {"data", "rendering", "export"},
    "apps": MODEL_SIDE
    | {"data", "rendering", "equivariance", "training", "export", "reports", "viewer", "processes", ""},
    "__main__": {"apps"},
    "": MODEL_SIDE | {"data", "rendering", "equivariance", "training", "export", "reports"},
}

# Too slow, or too often absent, to be imported with the package: only inside the functions that use them.
HEAVY = {
    *("beartype", "cv2", "e3nn", "huggingface_hub", "imageio", "imageio_ffmpeg", "kornia", "lightning"),
    *("lightning_fabric", "matplotlib", "pycolmap", "pytorch3d", "scipy", "skimage", "tensorboard", "torchvision"),
    *("trimesh", "viser"),
}

DISTRIBUTIONS = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "huggingface_hub": "huggingface-hub",
    "imageio_ffmpeg": "imageio-ffmpeg",
    "lightning_fabric": "lightning-fabric",
    "skimage": "scikit-image",
}
# Used where the user has them, never required.
OPTIONAL = {"pytorch3d", "wandb"}
OURS = {"raytrans", "tests", "tools", "start", "conftest"}


def part_of(module: str) -> str:
    """raytrans.geometry.rays -> geometry; raytrans and top-level modules without a row of their own -> ''."""
    name = (module.split(".") + [""])[1]
    return name if name in ALLOWED else ""


def imported(tree: ast.AST, package: str) -> list[tuple[int, str]]:
    """(line, module) of every import in a file of `package`: `from a import b` is a.b, relative ones are resolved."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
    return found


def forbidden_imports(source: str, module: str, is_package: bool = False) -> list[str]:
    """One line for each import in `source`, the text of `module`, that the table does not allow."""
    own = part_of(module)
    package = module if is_package else module.rpartition(".")[0]
    problems = []
    for line, target in imported(ast.parse(source), package):
        if target.split(".")[0] in ("tools", "tests"):
            problems.append(f"{module}:{line} imports {target}")
        if target.split(".")[0] == "raytrans" and part_of(target) not in ALLOWED[own] | {own, "shapes", "atomic"}:
            problems.append(f"{module}:{line} imports {target}; {own or 'raytrans'} must not know it")
    return problems


def early_heavy_imports(source: str, module: str) -> list[str]:
    """One line for each heavy package that is imported as soon as `module` is, outside functions."""
    tree = ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    inside = {id(inner) for function in functions for inner in ast.walk(function)}
    outer = [n for n in ast.walk(tree) if isinstance(n, (ast.Import, ast.ImportFrom)) and id(n) not in inside]
    targets = [(line, name) for node in outer for line, name in imported(node, module)]
    return [
        f"{module}:{line} imports {name} at once"
        for line, name in targets
        if name.split(".")[0] in HEAVY or name.startswith("torch.utils.tensorboard")
    ]


def modules() -> list[tuple[str, Path]]:
    """(dotted name, file) of every module of the package."""
    files = sorted((ROOT / "raytrans").rglob("*.py"))
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]
    return list(zip(names, files, strict=True))


def test_every_part_has_a_row_in_the_table():
    folders = {path.name for path in (ROOT / "raytrans").iterdir() if (path / "__init__.py").is_file()}
    assert folders and folders <= set(ALLOWED), f"without a row in ALLOWED: {folders - set(ALLOWED)}"


def test_imports_point_one_way():
    problems = [
        problem
        for name, file in modules()
        for problem in forbidden_imports(file.read_text(), name, file.name == "__init__.py")
    ]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("raytrans.geometry.rays", "from raytrans.data.views import Views"),
        ("raytrans.geometry.rays", "import raytrans.models"),
        ("raytrans.geometry.rays", "from raytrans import layers"),
        ("raytrans.geometry.rays", "from ..layers import attention"),
        ("raytrans.geometry.rays", "from raytrans import render"),
        ("raytrans.layers.linear", "def late():\n    from raytrans.rendering.head import Head"),
        ("raytrans.data.scene", "import torch, raytrans.fields.types"),
        ("raytrans.models.encoder", "from raytrans.data import Views"),
        ("raytrans.training.loop", "from raytrans import equivariance"),
        ("raytrans.export.meshes", "from raytrans.reports.page import Page"),
        ("raytrans.equivariance", "from raytrans.training import metrics"),
        ("raytrans.api", "from raytrans.apps import render"),
        ("raytrans.apps.render", "from tools import render"),
    ],
)
def test_the_table_refuses(module, source):
    assert len(forbidden_imports(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("raytrans.geometry.rays", "from raytrans.geometry import rigid\nfrom .rigid import apply\nimport torch"),
        ("raytrans.rendering.range", "from raytrans.data.views import Views\nfrom ..geometry.rays import Rays"),
        ("raytrans.training.loop", "from raytrans.data import open_scene\nfrom raytrans.rendering.head import Head"),
        ("raytrans.apps.render", "import raytrans\nfrom raytrans.reports.page import Page"),
    ],
)
def test_the_table_allows(module, source):
    assert forbidden_imports(source, module) == []


def test_heavy_packages_are_imported_where_used():
    problems = [problem for name, file in modules() for problem in early_heavy_imports(file.read_text(), name)]
    assert not problems, "\n".join(problems)


def test_an_early_heavy_import_is_found():
    bad = "import cv2\nfrom torch.utils.tensorboard import SummaryWriter\nif True:\n    from kornia import metrics\n"
    assert len(early_heavy_imports(bad, "raytrans.data.images")) == 3
    assert early_heavy_imports("def read():\n    import cv2\nimport torch\n", "raytrans.data.images") == []


def test_importing_the_package_stays_light():
    program = "import json, sys, torch; before = set(sys.modules); import raytrans; raytrans.load; "
    program += "print(json.dumps([sorted(before), sorted(sys.modules)]))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    before, after = (set(names) for names in json.loads(run.stdout))
    assert {f"raytrans.{name}" for name in ("api", "layers", "rendering", "training")} <= after - before
    assert not {name.split(".")[0] for name in after - before} & HEAVY
    assert "torch.utils.tensorboard" not in after


def test_names_are_there_when_they_are_asked_for():
    """In a process of its own, since tests have asked for some."""
    program = "import sys, raytrans; assert not {'torch', 'numpy'} & set(sys.modules), 'not light'; "
    program += "assert set(raytrans.__all__) <= set(dir(raytrans)); names = [hasattr(raytrans, 'lod')]; "
    program += "from raytrans import *; print(names, load is raytrans.load, raytrans.geometry.__name__)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert (run.returncode, run.stdout) == (0, "[False] True raytrans.geometry\n"), run.stderr


def test_public_names_are_listed_alike():
    """For people and `import *`, for type checkers, and where they come from."""
    file = ROOT / "raytrans"
    seen = [name for _, name in imported(ast.parse((file / "__init__.py").read_text()), "raytrans")]
    homes = [name for _, name in imported(ast.parse((file / "api.py").read_text()), "raytrans")]
    assert {name.removeprefix("raytrans.api.") for name in seen if "api" in name} == set(raytrans.__all__)
    assert {name.rpartition(".")[2] for name in homes} == set(raytrans.__all__)


def test_torchvision_is_absent():
    assert importlib.util.find_spec("torchvision") is None, "torchvision brings another torch with it: remove it"


@pytest.mark.parametrize("name", [name for name, _ in modules()])
def test_exported_names_exist(name):
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", [])
    assert len(set(exported)) == len(exported)
    assert [public for public in exported if not hasattr(module, public)] == []


@pytest.mark.parametrize("name", [name for name, file in modules() if file.name == "__init__.py"])
def test_folders_that_hand_names_on_list_them(name):
    file = ROOT.joinpath(*name.split(".")) / "__init__.py"
    hands_on = [target for _, target in imported(ast.parse(file.read_text()), name) if target.startswith("raytrans.")]
    assert not hands_on or importlib.import_module(name).__all__, f"{name} has no __all__"


def requirements(extra: str | None = None) -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"] if extra is None else project["optional-dependencies"][extra]
    return {requirement.name: requirement for requirement in map(Requirement, lines)}


def third_party(folder: str) -> dict[str, str]:
    """Distribution -> a file that imports it, for everything under `folder` that is not ours or Python's."""
    found = {}
    for file in sorted((ROOT / folder).rglob("*.py")):
        for _, target in imported(ast.parse(file.read_text()), "raytrans.x"):
            name = target.split(".")[0]
            if name not in sys.stdlib_module_names | OPTIONAL | OURS:
                found[DISTRIBUTIONS.get(name, name)] = str(file.relative_to(ROOT))
    return found


def test_what_is_imported_is_declared():
    extras = (None, "meshes", "export", "hub", "photos", "processes", "view")
    run = {name: requirement for extra in extras for name, requirement in requirements(extra).items()}
    assert {name: file for name, file in third_party("raytrans").items() if name not in run} == {}
    assert {name: file for name, file in third_party("tools").items() if name not in run} == {}
    test = {**run, **requirements("test"), **requirements("fuzz"), "packaging": None}
    assert {name: file for name, file in third_party("tests").items() if name not in test} == {}


def test_what_is_declared_is_pinned():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in (line.split("==") for line in lines)}
    extras = (None, "meshes", "export", "hub", "photos", "processes", "view", "test", "fuzz", "dev")
    for requirement in [r for extra in extras for r in requirements(extra).values()]:
        assert pins[requirement.name] in requirement.specifier, requirement
    assert "torchvision" not in pins
    assert "+" not in pins["torch"]


def test_the_package_is_typed():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["raytrans"]
    assert (ROOT / "raytrans" / "py.typed").is_file() and "py.typed" in data
    assert "weights/*.safetensors" in data


def test_annotated_shapes_are_checked():
    from raytrans.training.metrics import psnr

    for _ in range(50):  # calls alike are not checked again, others are
        assert psnr(torch.zeros(4, 3), torch.ones(4, 3)) == 0
    with pytest.raises(jaxtyping.TypeCheckError, match="predicted"):
        psnr(torch.zeros(4, 2), torch.zeros(4, 2))
    with pytest.raises(jaxtyping.TypeCheckError, match="predicted"):
        psnr(torch.zeros(4, 3).int(), torch.zeros(4, 3))


def test_the_version_is_stated_once_and_again_alike():
    assert raytrans.__version__ == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_a_clone_in_the_current_folder_does_not_hide_the_package(tmp_path):
    """Started without PYTHONPATH beside a folder `raytrans` that is no package, as the parent folder of a clone is."""
    installed = importlib.metadata.distributions(name="raytrans", path=[sysconfig.get_path("purelib")])
    origins = [json.loads(one.read_text("direct_url.json") or "{}").get("url") for one in installed]
    if origins != [ROOT.as_uri()]:
        pytest.skip(f"the environment has raytrans from {origins}, not from {ROOT}")
    (tmp_path / "raytrans" / "docs").mkdir(parents=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", "import raytrans; print(raytrans.__file__, raytrans.load)"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(ROOT / "raytrans" / "__init__.py"))
