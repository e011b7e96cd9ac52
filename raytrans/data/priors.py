"""What is already known of the depth along the rays of a view."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class DepthPrior:
    """A distribution of the surface along the rays of a view, which takes the place of its plane sweep.

    p_k = softmax(logits)_k at inverse distance near (1 - k / (D - 1))^2, k = 0 ... D - 1: planes uniform in the root of
    inverse distance along the ray, the last at infinity.

    logits: (D, h, w), at h x w points that divide the image evenly, whatever its size. near: (h, w), inverse distance
    of the first plane in 1 / units of the poses. Raises ValueError for fewer than two planes, other shapes, values
    that are not finite and `near` that is not above 0.
    """

    logits: Tensor
    near: Tensor

    def __post_init__(self):
        if self.logits.ndim != 3 or self.logits.shape[0] < 2 or self.logits.numel() == 0:
            raise ValueError(f"logits: expected (planes, h, w) of two planes or more, got {tuple(self.logits.shape)}")
        if self.near.shape != self.logits.shape[1:]:
            raise ValueError(
                f"near: expected {tuple(self.logits.shape[1:])} as of logits, got {tuple(self.near.shape)}"
            )
        if not self.logits.is_floating_point() or not bool(torch.isfinite(self.logits.detach()).all()):
            raise ValueError("logits: expected finite floats, got others")
        if not self.near.is_floating_point() or not bool(((self.near > 0) & torch.isfinite(self.near)).all()):
            raise ValueError("near: expected finite floats above 0, got others")

    def quarter_turned(self, turns: int) -> "DepthPrior":
        """The prior of the view whose image is `torch.rot90(image, turns, (0, 1))`."""
        return DepthPrior(torch.rot90(self.logits, turns, (1, 2)), torch.rot90(self.near, turns, (0, 1)))

    def scaled(self, scale: float) -> "DepthPrior":
        """The prior in a world in which all lengths are `scale` times as long."""
        return DepthPrior(self.logits, self.near / scale)

    def to(self, device: torch.device | str) -> "DepthPrior":
        """The same prior on a device."""
        return DepthPrior(self.logits.to(device), self.near.to(device))
