"""Named model sizes: one frozen dataclass, differences only."""

from dataclasses import asdict, dataclass, fields, replace

from raytrans.fields.types import FieldType

LARGEST, HIGHEST = 4096, 64  # integers of a configuration, and types: what a file states is made before it is known
ARMS = ("none", "world", "target")
CHOICES = {
    "directions": ARMS,
    "kernel": ("complex", "real"),
    "pooling": ("attention", "moments"),
    "logits": ("difference", "dot", "mlp"),
    "messages": ("linear", "nonlinear"),
    "visibility": ("sweep", "none"),
    "proposal": ("sweep", "uniform"),
    "encoder": ("turns", "plain"),
    "scales": (1, 2),
    "color_stride": (1, 2),
}


@dataclass(frozen=True)
class ModelConfig:
    """Everything that fixes the architecture.

    widths: group channels of the encoder at 1/2, 1/4, 1/8. fine_type, match_type: types of the rendering and matching
    features. planes: depths of the sweep in every source. coarse, fine: proposal positions and samples of a ray.
    hidden, heads, view_layers, ray_layers: the two transformers. typed: channels of type 1, 2, ... on target samples,
    at most as many of each as `fine_type` has; () for none.
    directions: "none" (equivariant), or the frame whose directions the control arms read ("world", "target").

    Switches of the ablations, whose defaults are the released model:
    kernel: "complex", or "real" coefficients of the typed values.
    pooling: "attention" over the sources, or visibility-weighted "moments" (mean and variance) in its place.
    logits: of that attention, by the "difference" of query and key, their "dot" product, or an "mlp" of their sum.
    messages: of that attention, "linear" in the tokens, or "nonlinear".
    moments: whether the variance over the sources is handed on beside their mean.
    visibility: whether the sources' own depth distributions ("sweep") enter weights and tokens of the view stage.
    proposal: samples from the "sweep" of the sources, or "uniform" in the root of inverse distance.
    encoder: exact at quarter "turns", or a "plain" CNN with about as many weights.
    scales: 1, or 2 to read the matching features, at quarter resolution, as tokens too.
    color_stride: 1, or 2 to read the colours of an image of half the size.
    residual: whether a small learned colour is added to the blend of source colours.
    exposure: whether a gain and a bias of every photo are fitted and undone in the colours that are blended.
    """

    widths: tuple[int, int, int] = (8, 12, 16)
    fine_type: str = "24x0 + 4x1 + 2x2"
    match_type: str = "16x0 + 4x1"
    groups: int = 4
    context: int = 4
    volume: int = 4
    planes: int = 48
    coarse: int = 80
    fine: int = 15
    hidden: int = 32
    heads: int = 4
    view_layers: int = 1
    ray_layers: int = 2
    typed: tuple[int, ...] = (4, 2)
    directions: str = "none"
    kernel: str = "complex"
    pooling: str = "attention"
    logits: str = "difference"
    messages: str = "linear"
    moments: bool = True
    visibility: str = "sweep"
    proposal: str = "sweep"
    encoder: str = "turns"
    scales: int = 1
    color_stride: int = 1
    residual: bool = False
    exposure: bool = False

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            known = CHOICES.get(field.name, (value,))
            if type(value) is not type(known[0]) or value not in known:
                raise ValueError(f"{field.name}: expected one of {', '.join(map(str, known))}, got {value!r}")
            if field.type is bool and type(value) is not bool:
                raise ValueError(f"{field.name}: expected true or false, got {value!r}")
            if field.type is int and (type(value) is not int or not 1 <= value <= LARGEST):
                raise ValueError(f"{field.name}: expected a positive integer, at most {LARGEST}, got {value!r}")
        if not _integers(self.widths, 1) or len(self.widths) != 3:
            raise ValueError(f"widths: expected 3 integers from 1 to {LARGEST}, got {self.widths!r}")
        if self.planes < 2:
            raise ValueError(f"planes: expected at least 2, got {self.planes}")
        if self.hidden % self.heads:
            raise ValueError(f"hidden: expected a multiple of heads ({self.heads}), got {self.hidden}")
        if self.logits != "difference" and self.hidden // 2 % self.heads:
            raise ValueError(f"hidden: expected a multiple of twice heads for {self.logits} logits, got {self.hidden}")
        for name in ("fine_type", "match_type"):
            try:
                kind = FieldType(getattr(self, name))
            except (TypeError, ValueError, AttributeError) as error:
                raise ValueError(f"{name}: {error}") from None
            if kind.dim > LARGEST or any(n > HIGHEST for n, _ in kind.counts):
                raise ValueError(f"{name}: expected at most {LARGEST} numbers, of types up to {HIGHEST}, got {kind}")
        known = FieldType(self.fine_type)
        if not _integers(self.typed, 0) or any(c > known.count(n) for n, c in enumerate(self.typed, 1)):
            expected = f"integers, at most the channels of type 1, 2, ... of fine_type ({known})"
            raise ValueError(f"typed: expected {expected}, got {self.typed!r}")

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


def _integers(value: object, least: int) -> bool:
    return isinstance(value, tuple) and all(type(v) is int and least <= v <= LARGEST for v in value)


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
