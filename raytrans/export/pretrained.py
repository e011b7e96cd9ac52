"""Models as folders that the model hubs of the field know: the weights, and the configuration beside them."""

from pathlib import Path

from raytrans.export.files import write_json
from raytrans.rendering.renderer import Renderer
from raytrans.training.checkpoint import FORMAT, save_model
from raytrans.training.hub import CONFIG, WEIGHTS


def save_pretrained(model: Renderer, folder: str | Path) -> None:
    """Write `model.safetensors`, which `load` reads, and `config.json`, a copy of the configuration inside it.

    Each file is replaced in one piece, `config.json` first. Raises ValueError where `folder` is a file, ValueError or
    OSError where a file cannot be written.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"folder: expected a folder, got the file {folder}")
    write_json(folder / CONFIG, {"model_type": "raytrans", "format": FORMAT, **model.config.to_dict()})
    save_model(folder / WEIGHTS, model)
