"""Models on the Hugging Face hub, as `hub://owner/name[@revision]`, downloaded where huggingface_hub is installed."""

import re
from pathlib import Path
from typing import Any

WEIGHTS, CONFIG = "model.safetensors", "config.json"
SCHEME = "hub://"
NAME = r"[A-Za-z0-9_](?:[\w.-]*\w)?"
ADDRESS = re.compile(rf"({NAME}/{NAME})(?:@({NAME}(?:/{NAME})*))?", re.ASCII)


def local(path: str | Path) -> Path:
    """A path as it is; for `hub://owner/name[@revision]` the folder into which its two files have been downloaded.

    Raises ValueError for another form of address, without huggingface_hub, and where the download fails.
    """
    text = str(path)
    if not text.startswith(SCHEME):
        return Path(path)
    address = ADDRESS.fullmatch(text.removeprefix(SCHEME))
    if address is None or ".." in text:
        raise ValueError(f"checkpoint: expected {SCHEME}owner/name or {SCHEME}owner/name@revision, got {text!r}")
    download = _require_hub().snapshot_download
    try:
        return Path(download(address[1], revision=address[2], allow_patterns=[WEIGHTS, CONFIG]))
    except (OSError, ValueError) as error:
        raise ValueError(f"checkpoint: {text} could not be downloaded: {error}") from error


def weights_file(path: Path) -> Path:
    """The file of weights that a path stands for: itself, or `model.safetensors` where it is a folder."""
    return path / WEIGHTS if path.is_dir() else path


def _require_hub() -> Any:
    """The module huggingface_hub; ValueError saying how to install it where it is absent."""
    try:
        import huggingface_hub
    except ImportError as error:
        raise ValueError(
            f"huggingface_hub is needed ({error}); in the clone, `pip install --editable '.[hub]'` installs it"
        ) from None
    return huggingface_hub
