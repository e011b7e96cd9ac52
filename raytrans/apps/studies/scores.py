"""Scores of trained models: PSNR and SSIM of every held-out view under every protocol, kept beside the weights."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from raytrans.apps import cli
from raytrans.apps.captures import Capture
from raytrans.apps.evaluate import Case, generated_cases, render_case, scene_cases
from raytrans.data.generate import TEST_SETS, test_set
from raytrans.data.guards import read_json
from raytrans.data.readers import open_scene
from raytrans.export.files import write_json
from raytrans.rendering.renderer import Renderer
from raytrans.rendering.synthesis import encode
from raytrans.training.hub import WEIGHTS
from raytrans.training.metrics import SSIM_WINDOW, psnr, ssim

SCORES = "scores.json"
KEY = ("set", "scene", "view", "protocol", "size", "sources")
CAPTURES = "captures"


@dataclass(frozen=True)
class Evaluation:
    """What a model is measured on: a view each of some scenes of each generated set, some views each of captures."""

    generated: int
    captures: tuple[Path, ...]
    views: int
    sources: int
    max_size: int
    protocols: tuple[str, ...]


@dataclass(frozen=True)
class HeldOut:
    """A held-out view and what it is called; `size` is the long side that its images were read at."""

    set: str
    scene: str
    size: int
    case: Case


def held_out_views(wanted: Evaluation) -> Iterator[HeldOut]:
    """The views that every model is measured on: first those of the generated scenes, then those of the captures.

    Raises ValueError for two captures in folders of one name, and for one without a held-out view.
    """
    for name in TEST_SETS:
        for scene in islice(test_set(name), wanted.generated):
            case = next(generated_cases(scene, wanted.sources))
            yield HeldOut(name, str(scene.seed), max(case.image.shape[:2]), case)
    names = [(path.parent if path.is_file() else path).resolve().name for path in wanted.captures]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"--scenes: expected folders of different names, got {twice[0]!r} twice")
    for name, path in zip(names, wanted.captures, strict=True):
        for case in scene_cases(Capture(open_scene(path), wanted.sources, wanted.max_size), wanted.views):
            yield HeldOut(CAPTURES, name, wanted.max_size, case)


def read_scores(folder: Path) -> list[dict]:
    """Scores of the weights in a folder, a row for each view and protocol; empty where there are none of them."""
    file = folder / SCORES
    if not file.is_file() or not (folder / WEIGHTS).is_file():
        return []
    try:
        values = read_json(file)
        return values["scores"] if values["weights"] == _weights(folder) else []
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"--out: {file}: expected the scores of a model, got a damaged file: {error}") from None


def _weights(folder: Path) -> str:
    return cli.checkpoint_facts(folder)["checkpoint_hash"]


def score(folder: Path, model: Renderer, views: Sequence[HeldOut], wanted: Evaluation) -> None:
    """Measure the model of a folder on views and protocols for which it has no score yet, and keep the scores.

    What was measured before an interrupt is kept as well.
    """
    rows = read_scores(folder)
    known = {tuple(row[name] for name in KEY) for row in rows}
    count = len(rows)
    try:
        for view in views:
            rows += scored(model, view, wanted, known, folder)
    finally:
        if len(rows) > count:
            write_json(folder / SCORES, {"weights": _weights(folder), "scores": rows})


def scored(model: Renderer, view: HeldOut, wanted: Evaluation, known: set[tuple], folder: Path) -> list[dict]:
    """Rows of one view that are not known; random frames and rolls are the same for every model.

    Sources that a protocol leaves alone are encoded once. Raises ValueError, naming `folder`, for colours not finite.
    """
    out, encoded, case = [], None, view.case
    for protocol in wanted.protocols:
        key = (view.set, view.scene, case.name, protocol, view.size, wanted.sources)
        if key in known:
            continue
        encoded = encode(model, case.views) if encoded is None else encoded
        color, _ = render_case(model, case, protocol, zlib.crc32(f"{view.scene}/{case.name}".encode()), encoded)
        cli.check_finite(color, folder)
        measured = ssim(color, case.image) if min(color.shape[:2]) >= SSIM_WINDOW else None
        out.append(dict(zip(KEY, key, strict=True)) | {"psnr": psnr(color, case.image), "ssim": measured})
    return out
