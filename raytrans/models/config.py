"""Named model sizes: one frozen dataclass, differences only."""

from dataclasses import asdict, dataclass, fields, replace

from raytrans.fields.types import FieldType

ARMS = ("none", "world", "target")


@dataclass(frozen=True)
class ModelConfig:
    """Everything that fixes the architecture.

    widths: group channels of the encoder at 1/2, 1/4, 1/8. fine_type, match_type: types of the rendering and matching
    features. planes: depths of the sweep in every source. coarse, fine: proposal positions and samples of a ray.
    hidden, heads, view_layers, ray_layers: the two transformers. typed: channels of type 1 and 2 on target samples.
    directions: "none" (equivariant), or the frame whose directions the control arms read ("world", "target").
    """

    widths: tuple[int, int, int] = (8, 12, 16)
    fine_type: str = "24x0 + 4x1 + 2x2"
    match_type: str = "16x0 + 4x1"
    groups: int = 4
    context: int = 4
    volume: int = 4
    planes: int = 48
    coarse: int = 64
    fine: int = 16
    hidden: int = 32
    heads: int = 4
    view_layers: int = 1
    ray_layers: int = 2
    typed: tuple[int, int] = (4, 2)
    directions: str = "none"

    def __post_init__(self):
        if self.directions not in ARMS:
            raise ValueError(f"directions: expected one of {', '.join(ARMS)}, got {self.directions!r}")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is int and (type(value) is not int or value < 1):
                raise ValueError(f"{field.name}: expected a positive integer, got {value!r}")
        for name, count, least in (("widths", 3, 1), ("typed", 2, 0)):
            value = getattr(self, name)
            if not isinstance(value, tuple) or [type(v) is int and v >= least for v in value] != [True] * count:
                raise ValueError(f"{name}: expected {count} integers of at least {least}, got {value!r}")
        if self.planes < 2:
            raise ValueError(f"planes: expected at least 2, got {self.planes}")
        if self.hidden % self.heads:
            raise ValueError(f"hidden: expected a multiple of heads ({self.heads}), got {self.hidden}")
        for name in ("fine_type", "match_type"):
            try:
                FieldType(getattr(self, name))
            except (TypeError, ValueError, AttributeError) as error:
                raise ValueError(f"{name}: {error}") from None

    def with_changes(self, **changes) -> "ModelConfig":
        """A copy with some fields changed; ValueError lists the known fields for an unknown one."""
        known = [f.name for f in fields(self)]
        for name in changes:
            if name not in known:
                raise ValueError(f"model: unknown key {name!r}, expected one of {', '.join(known)}")
        return replace(self, **_tuples(changes))

    def to_dict(self) -> dict:
        return asdict(self)

    @staticmethod
    def from_dict(values: dict) -> "ModelConfig":
        """Inverse of `to_dict`, also after a journey through JSON or TOML, which know no tuples."""
        return ModelConfig(**_tuples(values))


def _tuples(values: dict) -> dict:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


SIZES = {
    "tiny": ModelConfig(
        widths=(4, 4, 4),
        fine_type="8x0 + 2x1 + 1x2",
        match_type="8x0 + 2x1",
        context=2,
        volume=2,
        planes=16,
        coarse=24,
        fine=8,
        hidden=16,
        heads=2,
        ray_layers=1,
        typed=(2, 1),
    ),
    "small": ModelConfig(),
    "base": ModelConfig(
        widths=(12, 24, 32),
        fine_type="40x0 + 8x1 + 4x2",
        match_type="32x0 + 8x1",
        groups=8,
        context=8,
        volume=8,
        planes=64,
        coarse=96,
        fine=32,
        hidden=64,
        heads=8,
        view_layers=2,
        ray_layers=3,
        typed=(8, 4),
    ),
}


def model_config(size: str, **changes) -> ModelConfig:
    """Configuration of a named size ("tiny", "small", "base") with changes; ValueError for an unknown name."""
    if not isinstance(size, str) or size not in SIZES:
        raise ValueError(f"size: expected one of {', '.join(SIZES)}, got {size!r}")
    return SIZES[size].with_changes(**changes)
