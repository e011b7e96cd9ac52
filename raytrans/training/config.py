"""Training configuration: frozen dataclasses, filled from a short TOML file that holds only differences."""

import math
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from raytrans.models.config import ModelConfig, model_config

PRECISIONS = ("float32", "bfloat16")
LONGEST = 1 << 16  # bytes of a file of differences; parsing takes time with the square of it
SEEDS = 2**31  # a sample's generator is seeded with (seed << 32) + its number


def _require(name: str, value: object, met: bool, expected: str) -> None:
    if not met:
        raise ValueError(f"{name}: expected {expected}, got {value!r}")


def _at_least(config: object, least: int, *names: str) -> None:
    for name in names:
        _require(name, getattr(config, name), getattr(config, name) >= least, f"an integer of at least {least}")


def _whole(values: tuple) -> bool:
    return all(type(value) is int for value in values)


@dataclass(frozen=True)
class DataConfig:
    """What is trained on. Generated scenes of `views` images with sides drawn from `sizes`, a share of them `easy`.

    Shares of the generated scenes: object_share, one object before a plain background, instead of either; narrow_share,
    cameras drawn together to 3 to 40 % of their distances; roll_share, cameras rolled, besides what `full` rolls;
    photographic_share, tones, light and lens of photographs; mesh_share, one to three of `meshes` (.glb files or
    folders of them) in it. aspect: largest ratio of the sides, the area being kept. zoom: largest factor on focal
    lengths.

    folders, shards: scenes on disk, folders and tar files by name or by pattern, drawn with probability `folder_share`,
    images at most `max_size` pixels; every worker keeps the last `cache` of them. sources: smallest and largest number
    of source views. exposure: spread of the logarithm of every source's gain, a bias with it. rays: target rays a
    sample. batch: samples a step, whose losses are averaged. reuse: samples that use one scene.
    """

    views: int = 9
    sizes: tuple[int, ...] = (64,)
    easy_share: float = 0.4
    object_share: float = 0.0
    narrow_share: float = 0.0
    roll_share: float = 0.0
    photographic_share: float = 0.0
    meshes: tuple[str, ...] = ()
    mesh_share: float = 0.0
    aspect: float = 1.0
    zoom: float = 1.0
    folders: tuple[str, ...] = ()
    shards: tuple[str, ...] = ()
    folder_share: float = 0.0
    cache: int = 16
    max_size: int = 128
    sources: tuple[int, int] = (4, 8)
    exposure: float = 0.0
    rays: int = 1024
    batch: int = 1
    reuse: int = 4
    workers: int = 1

    def __post_init__(self):
        _at_least(self, 1, "rays", "batch", "reuse", "max_size", "cache")
        _at_least(self, 0, "workers")
        _at_least(self, 2, "views")
        sizes, sources = self.sizes, self.sources
        _require("sizes", sizes, _whole(sizes) and min(sizes, default=0) >= 1, "one or more positive integers")
        rising = _whole(sources) and len(sources) == 2 and 1 <= sources[0] <= sources[1]
        _require("sources", sources, rising, "two rising positive integers")
        enough = sources[1] < self.views or self.folder_share == 1
        _require("sources", sources, enough, f"fewer than views, {self.views}, which hold the target too")
        for name in ("folders", "shards", "meshes"):
            _require(
                name, getattr(self, name), all(isinstance(f, str) for f in getattr(self, name)), f"paths of {name}"
            )
        for name in (f.name for f in fields(self) if f.name.endswith("_share")):
            _require(name, getattr(self, name), 0 <= getattr(self, name) <= 1, "a number from 0 to 1")
        unused = bool(self.shards) and self.folder_share == 0
        _require("folder_share", self.folder_share, not unused, "more than 0 where shards names some")
        for name in ("aspect", "zoom"):
            _require(name, getattr(self, name), 1 <= getattr(self, name) < math.inf, "a finite number of at least 1")
        _require("exposure", self.exposure, 0 <= self.exposure <= 1, "a number from 0 to 1")
        _require("mesh_share", self.mesh_share, bool(self.meshes) or self.mesh_share == 0, "0 where meshes names none")


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

    def __post_init__(self):
        _at_least(self, 1, "steps")
        _at_least(self, 0, "warmup")
        for name in (f.name for f in fields(self) if isinstance(f.default, float)):
            value, positive = getattr(self, name), name in ("learning_rate", "clip")
            expected = f"a finite number {'above 0' if positive else 'of at least 0'}"
            _require(name, value, 0 <= value < math.inf and (value > 0 or not positive), expected)
        _require("precision", self.precision, self.precision in PRECISIONS, f"one of {', '.join(PRECISIONS)}")


@dataclass(frozen=True)
class LogConfig:
    """How often to log, evaluate on held-out scenes and write a checkpoint, in steps."""

    log_every: int = 20
    evaluate_every: int = 1000
    evaluate_scenes: int = 4
    checkpoint_every: int = 500

    def __post_init__(self):
        _at_least(self, 1, *(f.name for f in fields(self)))


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


@dataclass(frozen=True)
class FinetuneConfig:
    """Fine-tuning on one scene: `rays` of a view a step, from `drawn` of its `sources` nearest, of `max_size` pixels.

    steps: an end besides that of time. learning_rate: of the weights; prior_rate: of the logits of depth priors.
    checks: how often.
    """

    seed: int = 0
    steps: int = 100_000
    max_size: int = 200
    sources: int = 8
    drawn: int = 6
    rays: int = 768
    learning_rate: float = 1e-3
    prior_rate: float = 0.1
    warmup: int = 20
    clip: float = 1.0
    checks: int = 5

    def __post_init__(self):
        _at_least(self, 0, "seed", "warmup")
        _at_least(self, 1, "steps", "max_size", "sources", "drawn", "rays", "checks")
        for name in ("learning_rate", "prior_rate", "clip"):
            value = getattr(self, name)
            _require(name, value, 0 < value < math.inf, "a finite number above 0")


def finetune_config(overrides: Sequence[str] = ()) -> FinetuneConfig:
    """The defaults with `key=value` overrides."""
    return _filled(FinetuneConfig, overridden({}, overrides), "--set")


SECTIONS = {"data": DataConfig, "optim": OptimConfig, "log": LogConfig}


def train_config(values: dict, source: str = "config") -> TrainConfig:
    """Configuration from nested dictionaries; an unknown key or a wrong type is a ValueError that lists known keys."""
    values = dict(values)
    size, seed = values.pop("size", "small"), values.pop("seed", 0)
    changes = _table(values.pop("model", {}), f"{source}: model")
    try:
        model = model_config(size, **changes)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{source}: {error}") from None
    parts = {name: _filled(kind, values.pop(name, {}), f"{source}: {name}") for name, kind in SECTIONS.items()}
    if values:
        known = ["size", "seed", "model", *SECTIONS]
        raise ValueError(f"{source}: unknown key {sorted(values)[0]!r}, expected one of {', '.join(known)}")
    if type(seed) is not int or not 0 <= seed < SEEDS:
        raise ValueError(f"{source}: seed must be an integer from 0 to {SEEDS - 1}, got {seed!r}")
    return TrainConfig(size=size, seed=seed, model=model, **parts)


def read_config(path: str | Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a TOML file and apply `section.key=value` overrides."""
    path = Path(path)
    try:
        with open(path, "rb") as file:
            text = file.read(LONGEST + 1)
        if len(text) > LONGEST:
            raise ValueError(f"expected at most {LONGEST} bytes, got more")
        values = tomllib.loads(text.decode())
    except FileNotFoundError:
        raise ValueError(f"config: no such file {path}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"config: {path} is not valid TOML: {error}") from None
    return train_config(overridden(values, overrides), str(path))


def overridden(values: dict, overrides: Sequence[str]) -> dict:
    """Nested dictionaries with every `section.key=value` in its place, values in TOML syntax, bare words as strings."""
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
            place = _table(place.setdefault(section, {}), f"--set {item}: {section}")
        place[name] = value
    return values


def _table(values: object, where: str) -> dict:
    if not isinstance(values, dict):
        raise ValueError(f"{where}: expected a section of keys and values, got {values!r}")
    return values


def _filled(kind: type, values: object, where: str):
    known = {f.name: f for f in fields(kind)}
    out = {}
    for name, value in _table(values, where).items():
        if name not in known:
            raise ValueError(f"{where}: unknown key {name!r}, expected one of {', '.join(known)}")
        default = known[name].default
        value = tuple(value) if isinstance(value, list) else value
        if isinstance(default, float) and type(value) is int and abs(value) < 1 << 53:
            value = float(value)
        if type(value) is not type(default):
            raise ValueError(f"{where}: {name} must be {type(default).__name__}, got {value!r}")
        out[name] = value
    try:
        return kind(**out)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from None
