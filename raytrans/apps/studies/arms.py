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

FRAMES = {
    "equivariant": (),
    "world": ("model.directions=world",),
    "world-augmented": ("model.directions=world", "optim.augment_rotation=true"),
    "target": ("model.directions=target",),
}

STUDIES = {
    "frames": Study(FRAMES, equal=True),
    "few-scenes": Study({name: (*changes, FEW_SCENES) for name, changes in FRAMES.items()}, equal=True),
}
