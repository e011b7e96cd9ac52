"""Depth priors of the views of a scene inside a checkpoint, as fine-tuning leaves them beside the weights."""

import os
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
    names = view_names(scene)
    return tensors, {VIEWS: [names[i] for i in priors]}


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
        index = {name: i for i, name in enumerate(view_names(scene))}
        both = [(k, index[name]) for k, name in enumerate(names) if name in index]
        scale = _scale(centers[[k for k, _ in both]], scene.cameras.centers[[i for _, i in both]])
    except (KeyError, TypeError, IndexError, ValueError, RuntimeError) as error:
        raise ValueError(f"checkpoint: {file}: its depth priors are damaged: {error}") from None
    return {} if scale is None else {i: priors[k].scaled(scale) for k, i in both}


def view_names(scene: Scene) -> list[str]:
    """The names of the images, by which views are known: below the folder that holds all of them, wherever that is."""
    images = [frame.image for frame in scene.frames]
    folder = os.path.commonpath([image.parent for image in images])
    return [image.relative_to(folder).as_posix() for image in images]


def _scale(known: Tensor, centers: Tensor) -> float | None:
    """Lengths of a rig of cameras (K, 3) over those of the same rig known before, None where it is another one."""
    if len(known) < 2:
        return None
    before, now = torch.pdist(known.double()), torch.pdist(centers)
    scale = float(now.max() / before.max())
    same = bool((now - scale * before).abs().max() <= TOLERANCE * now.max())
    return scale if same and scale > 0 else None
