"""The arms of each study: what they change in its configuration, in the syntax of `train --set`."""

from dataclasses import dataclass

FEW_SCENES = "data.reuse=1000000"  # one pool of scenes for the whole run


@dataclass(frozen=True)
class Study:
    """Arms by name; the first is the one that the others are compared with.

    equal: whether their numbers of parameters have to agree within `EQUAL`.
    """

    arms: dict[str, tuple[str, ...]]
    equal: bool

    @property
    def reference(self) -> str:
        return next(iter(self.arms))


EQUAL = 0.05
UNTYPED = ('model.fine_type="36x0"', 'model.match_type="24x0"', "model.typed=[]")
IBRNET = ("model.directions=world", "model.pooling=moments", "model.encoder=plain", *UNTYPED)

FRAMES = {
    "equivariant": (),
    "world": ("model.directions=world",),
    "world-augmented": ("model.directions=world", "optim.augment_rotation=true"),
    "target": ("model.directions=target",),
    "ibrnet": IBRNET,
}

ABLATIONS = {
    "unchanged": (),
    "order 0": UNTYPED,
    "order 1": ('model.fine_type="24x0 + 6x1"', "model.typed=[6]"),
    "order 3": ('model.fine_type="24x0 + 3x1 + 2x2 + 1x3"', "model.typed=[3, 2, 1]"),
    "real kernel": ("model.kernel=real",),
    "moments for attention": ("model.pooling=moments",),
    "dot-product logits": ("model.logits=dot",),
    "mlp logits": ("model.logits=mlp",),
    "non-linear messages": ("model.messages=nonlinear",),
    "no moments": ("model.moments=false",),
    "plain encoder": ("model.encoder=plain",),
    "residual colour": ("model.residual=true",),
    "uniform proposal": ("model.proposal=uniform",),
    "no visibility": ("model.visibility=none",),
    "two scales": ("model.scales=2",),
    "half-size colours": ("model.color_stride=2",),
    "exposure": ("model.exposure=true",),
    "8 samples": ("model.fine=8",),
    "32 samples": ("model.fine=32",),
}

STUDIES = {
    "frames": Study(FRAMES, equal=True),
    "few-scenes": Study({name: (*changes, FEW_SCENES) for name, changes in FRAMES.items()}, equal=True),
    "ablations": Study(ABLATIONS, equal=False),
}
