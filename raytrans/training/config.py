"""Training configuration: frozen dataclasses, filled from a short TOML file that holds only differences."""

import tomllib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from raytrans.models.config import ModelConfig, model_config


@dataclass(frozen=True)
class DataConfig:
    """What is trained on. Generated scenes of `views` images with sides drawn from `sizes`, a share of them `easy`.

    folders: scenes on disk, drawn with probability `folder_share`, images at most `max_size` pixels. sources: smallest
    and largest number of source views. rays: target rays a step. reuse: steps that use one scene.
    """

    views: int = 9
    sizes: tuple[int, ...] = (64,)
    easy_share: float = 0.4
    folders: tuple[str, ...] = ()
    folder_share: float = 0.0
    max_size: int = 128
    sources: tuple[int, int] = (4, 8)
    rays: int = 1024
    reuse: int = 4
    workers: int = 1


@dataclass(frozen=True)
class OptimConfig:
    """AdamW with linear warm-up and cosine decay, gradient clipping, and the weights of the loss terms."""

    steps: int = 10_000
    learning_rate: float = 1e-3
    warmup: int = 200
    weight_decay: float = 1e-4
    clip: float = 1.0
    depth_weight: float = 0.02
    proposal_weight: float = 0.02
    opacity_weight: float = 0.02
    sweep_weight: float = 0.05
    precision: str = "float32"
    augment_rotation: bool = False


@dataclass(frozen=True)
class LogConfig:
    """How often to log, evaluate on held-out scenes and write a checkpoint, in steps."""

    log_every: int = 20
    evaluate_every: int = 1000
    evaluate_scenes: int = 4
    checkpoint_every: int = 500


@dataclass(frozen=True)
class TrainConfig:
    """A whole training run."""

    size: str = "small"
    seed: int = 0
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    log: LogConfig = field(default_factory=LogConfig)

    def to_dict(self) -> dict:
        return asdict(self)


SECTIONS = {"data": DataConfig, "optim": OptimConfig, "log": LogConfig}


def train_config(values: dict, source: str = "config") -> TrainConfig:
    """Configuration from nested dictionaries; an unknown key or a wrong type is a ValueError that lists known keys."""
    values = dict(values)
    size, seed = values.pop("size", "small"), values.pop("seed", 0)
    model = model_config(size, **values.pop("model", {}))
    parts = {name: _filled(kind, values.pop(name, {}), f"{source}: {name}") for name, kind in SECTIONS.items()}
    if values:
        known = ["size", "seed", "model", *SECTIONS]
        raise ValueError(f"{source}: unknown key {sorted(values)[0]!r}, expected one of {', '.join(known)}")
    if not isinstance(seed, int):
        raise ValueError(f"{source}: seed must be an integer, got {seed!r}")
    return TrainConfig(size=size, seed=seed, model=model, **parts)


def read_config(path: str | Path, overrides: list[str] = ()) -> TrainConfig:
    """Read a TOML file and apply `section.key=value` overrides (values in TOML syntax, bare words as strings)."""
    path = Path(path)
    try:
        values = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise ValueError(f"config: no such file {path}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"config: {path} is not valid TOML: {error}") from None
    for item in overrides:
        key, separator, text = item.partition("=")
        if not separator:
            raise ValueError(f"--set: expected key=value, got {item!r}")
        try:
            value = tomllib.loads(f"v = {text}")["v"]
        except tomllib.TOMLDecodeError:
            value = text
        *sections, name = key.strip().split(".")
        place = values
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return train_config(values, str(path))


def _filled(kind: type, values: dict, where: str):
    known = {f.name: f for f in fields(kind)}
    out = {}
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"{where}: unknown key {name!r}, expected one of {', '.join(known)}")
        default = known[name].default
        value = tuple(value) if isinstance(value, list) else value
        value = (
            float(value)
            if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool)
            else value
        )
        if type(value) is not type(default):
            raise ValueError(f"{where}: {name} must be {type(default).__name__}, got {value!r}")
        out[name] = value
    return kind(**out)
