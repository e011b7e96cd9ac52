"""Depth priors of the views of a scene inside a checkpoint, as fine-tuning leaves them beside the weights."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from raytrans.data.priors import DepthPrior
from raytrans.data.scene import Scene
from raytrans.training import hub
from raytrans.training.checkpoint import RELEASED, read_tensors

PREFIX = "prior."
VIEWS = "views"  # names of the images, in the metadata
TOLERANCE = 1e-3  # of the largest distance between cameras: the same rig, moved and scaled


def prior_tensors(priors: Mapping[int, DepthPrior], scene: Scene) -> tuple[dict[str, Tensor], dict]:
    """Tensors and metadata that a checkpoint holds of the priors of some views of a scene."""
    tensors = {PREFIX + "centers": scene.cameras[list(priors)].centers.clone()}
    for k, prior in enumerate(priors.values()):
        tensors |= {f"{PREFIX}{k}.logits": prior.logits, f"{PREFIX}{k}.near": prior.near}
    return tensors, {VIEWS: [view_name(scene, i) for i in priors]}


def load_priors(path: str | Path | None, scene: Scene) -> dict[int, DepthPrior]:
    """The depth priors that a checkpoint holds of views of this scene, by their index; empty where it holds none.

    `path` is that of `load`. Views are known by the names of their images. Poses may be moved and scaled against those
    of the fine-tuning; where they differ otherwise it was another scene, and nothing is handed on. Raises ValueError
    for a file that is no checkpoint or is damaged.
    """
    if path is None:
        return {}
    file = hub.weights_file(hub.local(path))
    if file == RELEASED:
        return {}
    tensors, metadata = read_tensors(file)
    names = metadata.get(VIEWS)
    if not names:
        return {}
    try:
        centers = tensors[PREFIX + "centers"]
        priors = [DepthPrior(tensors[f"{PREFIX}{k}.logits"], tensors[f"{PREFIX}{k}.near"]) for k in range(len(names))]
        index = {view_name(scene, i): i for i in range(len(scene))}
        both = [(k, index[name]) for k, name in enumerate(names) if name in index]
        scale = _scale(centers[[k for k, _ in both]], scene.cameras.centers[[i for _, i in both]])
    except (KeyError, TypeError, IndexError, ValueError, RuntimeError) as error:
        raise ValueError(f"checkpoint: {file}: its depth priors are damaged: {error}") from None
    return {} if scale is None else {i: priors[k].scaled(scale) for k, i in both}


def view_name(scene: Scene, index: int) -> str:
    """The name of an image, by which its view is known: below the folder of the scene, wherever that is."""
    image, path = scene.frames[index].image, scene.path
    folders = [] if path is None else [path, path.parent]  # a scene may be a file
    name = next((image.relative_to(folder) for folder in folders if image.is_relative_to(folder)), Path(image.name))
    return name.as_posix()


def _scale(known: Tensor, centers: Tensor) -> float | None:
    """Lengths of a rig of cameras (K, 3) over those of the same rig known before, None where it is another one."""
    if len(known) < 2:
        return None
    before, now = torch.pdist(known.double()), torch.pdist(centers)
    scale = float(now.max() / before.max())
    same = bool((now - scale * before).abs().max() <= TOLERANCE * now.max())
    return scale if same and scale > 0 else None
