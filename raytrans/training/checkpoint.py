"""Checkpoints: one safetensors file each, with the configuration and a format version inside; nothing is unpickled."""

import json
import os
from pathlib import Path

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from raytrans.atomic import write_bytes
from raytrans.data.guards import one_line, parse_json
from raytrans.models.config import ModelConfig
from raytrans.rendering.renderer import Renderer
from raytrans.training import hub
from raytrans.training.tensors import pack, unpack

# 2: planes uniform in the root of inverse distance; 3: no inputs for directions where none are read
FORMAT = "raytrans-3"
RELEASED = Path(__file__).parents[1] / "weights" / "small.safetensors"
DRAWING = ("kaiming_uniform_", "uniform_", "normal_", "mul", "__mul__", "__rmul__", "div", "__truediv__")
MODEL, OPTIMIZER = "model.", "optimizer."


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict) -> None:
    """Write a safetensors file, whole or not at all; ValueError where that fails."""
    try:
        write_bytes(path, pack(tensors, {"raytrans": json.dumps(metadata)}))
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise ValueError(f"checkpoint: could not write {path}: {reason}; the earlier file is untouched") from None


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Tensors and metadata of a checkpoint; ValueError for a missing, cut, foreign file or another format."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"checkpoint: no such file {path}")
    try:
        tensors, texts = unpack(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"checkpoint: {path} is damaged or no safetensors file: {error}") from None
    metadata = texts.get("raytrans")
    if metadata is None:
        raise ValueError(f"checkpoint: {path} holds no raytrans configuration")
    try:
        metadata = dict(parse_json(metadata, "metadata"))
    except (TypeError, ValueError) as error:
        raise ValueError(f"checkpoint: {path}: its configuration is damaged: {error}") from None
    if metadata.get("format") != FORMAT:
        raise ValueError(f"checkpoint: {path}: expected format {FORMAT}, got {metadata.get('format')!r}")
    return tensors, metadata


def save_model(
    path: Path, model: Renderer, extra: dict | None = None, tensors: dict[str, Tensor] | None = None
) -> None:
    """Write the weights of a model with its configuration, and what else the file is to hold."""
    metadata = {"format": FORMAT, "model": model.config.to_dict(), **(extra or {})}
    weights = {MODEL + k: v for k, v in model.state_dict().items()}
    write_tensors(path, {**weights, **(tensors or {})}, metadata)


def load_model(path: Path) -> Renderer:
    """Model from one file, in float32 on the CPU, ready to render."""
    tensors, metadata = read_tensors(path)
    try:
        config = ModelConfig.from_dict(metadata["model"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"checkpoint: {path}: model configuration not understood: {one_line(error)}") from None
    layers = config.view_layers + config.ray_layers
    if layers > len(tensors):  # before they are made
        raise ValueError(f"checkpoint: {path}: expected weights of {layers} layers, got {len(tensors)} tensors")
    with torch.device("meta"), _Undrawn():  # without memory: what a file states may be larger than all there is
        _check_weights(Renderer(config), tensors, path)
    model = Renderer(config)
    load_weights(model, tensors, path)
    return model.eval()


class _Undrawn(TorchFunctionMode):
    """Leaves out drawing and scaling of first weights, for which torch imports its compiler on the meta device."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        values = (*args, *(kwargs or {}).values())
        if func.__name__ in DRAWING and not isinstance(values[-1], Tensor):
            return values[0]  # which has the shape already
        return (torch.empty if func is torch.randn else func)(*args, **(kwargs or {}))


def load(path: str | Path | None = None, device: torch.device | str | None = None) -> Renderer:
    """The released model, or the one in the file (or folder holding `model.safetensors`) at `path`, on `device`.

    `hub://owner/name[@revision]` is downloaded first, with huggingface_hub. Raises ValueError for a file that is no
    checkpoint of this version, for an address that cannot be fetched, and for a device that is not there.
    """
    path = RELEASED if path is None else hub.local(path)
    model = load_model(hub.weights_file(path))
    try:
        return model.to(device or "cpu")
    except (AssertionError, RuntimeError) as error:
        raise ValueError(f"device: {device!r} cannot be used here: {str(error).splitlines()[0]}") from None


def load_weights(model: Renderer, tensors: dict[str, Tensor], path: Path) -> None:
    """Copy the weights of `tensors` into a model of the same architecture."""
    model.load_state_dict(_check_weights(model, tensors, path), strict=True)


def _check_weights(model: Renderer, tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The weights of `tensors` by their names in the model; ValueError where they are not all of it, and floats."""
    weights = {k.removeprefix(MODEL): v for k, v in tensors.items() if k.startswith(MODEL)}
    expected = model.state_dict()
    for name, value in expected.items():
        got = None if name not in weights else tuple(weights[name].shape)
        if got != tuple(value.shape):
            raise ValueError(f"checkpoint: {path}: weight {name}: expected shape {tuple(value.shape)}, got {got}")
        if not weights[name].is_floating_point():
            raise ValueError(f"checkpoint: {path}: weight {name}: expected floats, got {weights[name].dtype}")
    if unknown := sorted(set(weights) - set(expected)):
        raise ValueError(f"checkpoint: {path}: weight {unknown[0]} is none of this model's")
    return weights


def save_training(path: Path, model: Renderer, optimizer: torch.optim.Optimizer, metadata: dict) -> None:
    """Write weights and optimiser state together, so that a resumed run repeats the uninterrupted one."""
    tensors = {MODEL + k: v for k, v in model.state_dict().items()}
    names = [name for name, _ in model.named_parameters()]
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            tensors[f"{OPTIMIZER}{names[index]}.{key}"] = torch.as_tensor(value)
    write_tensors(path, tensors, {"format": FORMAT, "model": model.config.to_dict(), **metadata})


def restore_training(
    model: Renderer, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], metadata: dict, path: Path
) -> None:
    """Restore what `save_training` wrote and `read_tensors` read from `path`."""
    if not {"step", "config"} <= metadata.keys():
        raise ValueError(f"checkpoint: {path}: expected the state of a training run, got weights alone")
    load_weights(model, tensors, path)
    state = optimizer.state_dict()
    for index, (name, _) in enumerate(model.named_parameters()):
        prefix = f"{OPTIMIZER}{name}."
        own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        if own:
            state["state"][index] = own
    optimizer.load_state_dict(state)
