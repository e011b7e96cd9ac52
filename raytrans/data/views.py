"""Source views: images together with the cameras that took them."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from raytrans.data.images import bounded_size, resize_area
from raytrans.data.priors import DepthPrior
from raytrans.geometry.cameras import Cameras

RANGE_SLACK = 1e-3  # resampling may leave [0, 1] by a rounding; anything more is a caller's mistake


class Views:
    """Images and the cameras that took them; all that a rendering depends on.

    images: (N, H, W, 3) array or tensor, or a list of (H, W, 3) where sizes differ; floats in [0, 1] (any float type)
    or uint8, which is divided by 255. cameras: a batch (N,) in pixels of these images.
    priors: what is known of the depth of each view, if anything (`DepthPrior` or None for each).
    `.images` is one float32 tensor (N, H, W, 3) when all sizes agree, else a list of (H, W, 3) tensors.
    Raises ValueError where counts, sizes or ranges disagree or a value is not finite.
    """

    def __init__(
        self,
        images: Tensor | np.ndarray | Sequence,
        cameras: Cameras,
        priors: Sequence | None = None,
    ):
        if not isinstance(cameras, Cameras):
            raise ValueError(f"cameras: expected Cameras, got {type(cameras).__name__}")
        if cameras.intrinsics.ndim == 2:
            cameras = Cameras.stack([cameras])
        if cameras.intrinsics.ndim != 3:
            raise ValueError(f"cameras: expected a batch (N,), got batch {tuple(cameras.intrinsics.shape[:-2])}")
        images = [_as_image(image, f"images[{i}]") for i, image in enumerate(_listed(images))]
        if len(images) != len(cameras):
            raise ValueError(f"images: expected one for each of the {len(cameras)} cameras, got {len(images)}")
        if not images:
            raise ValueError("images: expected at least one view, got none")
        for i, (image, height, width) in enumerate(zip(images, cameras.height, cameras.width, strict=True)):
            expected, got = (int(height), int(width)), tuple(image.shape[:2])
            if expected != got:
                raise ValueError(f"images[{i}]: expected height and width {expected} of its camera, got {got}")
        same = all(image.shape == images[0].shape for image in images)
        self.images: Tensor | list[Tensor] = torch.stack(images) if same else images
        self.cameras = cameras
        self.priors = _as_priors(priors, len(images))

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[tuple[Tensor, Cameras]]:
        return ((self.image(i), self.cameras[i]) for i in range(len(self)))

    def __repr__(self) -> str:
        sizes = sorted({tuple(image.shape[:2]) for image in self.images})
        return f"Views({len(self)}, sizes={sizes})"

    def image(self, index: int) -> Tensor:
        """Image (H, W, 3) of one view."""
        return self.images[index]

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> "Views":
        """The views at an index, a slice or a list of indices; one index gives a batch of one."""
        positions = torch.arange(len(self))[index].reshape(-1).tolist()
        return Views([self.images[i] for i in positions], self.cameras[positions], [self.priors[i] for i in positions])

    def resized(self, max_size: int | None) -> "Views":
        """Views whose long side is at most `max_size`, area-averaged, intrinsics scaled exactly; never enlarged."""
        images, cameras = [], []
        for image, camera in self:
            height, width = bounded_size(camera.height, camera.width, max_size)
            images.append(resize_area(image, height, width))
            cameras.append(camera.resized(height, width))
        return Views(images, Cameras.stack(cameras), self.priors)

    def moved(self, rotation: Tensor, translation: Tensor, scale: float = 1.0) -> "Views":
        """The same images in a world moved by x -> scale * rotation @ x + translation."""
        priors = [prior and prior.scaled(scale) for prior in self.priors]
        return Views(self.images, self.cameras.moved(rotation, translation, scale), priors)

    def to(self, device: torch.device | str) -> "Views":
        """The same views with their images and priors on a device (cameras stay where they are)."""
        priors = [prior and prior.to(device) for prior in self.priors]
        return Views([image.to(device) for image in self.images], self.cameras, priors)


def _listed(images: Tensor | np.ndarray | Sequence) -> list:
    if isinstance(images, (Tensor, np.ndarray)) and images.ndim != 4:
        raise ValueError(f"images: expected (N, H, W, 3), got shape {tuple(images.shape)}")
    if not isinstance(images, (Tensor, np.ndarray, list, tuple)):
        raise ValueError(f"images: expected a tensor, an array or a list of them, got {type(images).__name__}")
    return list(images)


def _as_priors(priors: Sequence | None, count: int) -> list[DepthPrior | None]:
    priors = [None] * count if priors is None else list(priors)
    if len(priors) != count:
        raise ValueError(f"priors: expected one or None for each of the {count} views, got {len(priors)}")
    for i, prior in enumerate(priors):
        if prior is not None and not isinstance(prior, DepthPrior):
            raise ValueError(f"priors[{i}]: expected a DepthPrior or None, got {type(prior).__name__}")
    return priors


def _as_image(image: Tensor | np.ndarray, name: str) -> Tensor:
    if isinstance(image, np.ndarray) and image.dtype.kind in "buif":
        # torch reads neither backward strides nor foreign byte orders
        image = torch.as_tensor(np.ascontiguousarray(image, image.dtype.newbyteorder("=")))
    if not isinstance(image, Tensor):
        raise ValueError(f"{name}: expected an array or tensor of numbers, got {type(image).__name__}")
    if image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(f"{name}: expected shape (H, W, 3), got {tuple(image.shape)}")
    if image.dtype == torch.uint8:
        return image.float() / 255
    if not image.dtype.is_floating_point:
        raise ValueError(f"{name}: expected floats in [0, 1] or uint8, got {image.dtype}")
    image = image.float()
    if image.numel() == 0:
        raise ValueError(f"{name}: expected at least one pixel, got shape {tuple(image.shape)}")
    low, high = (value.item() for value in image.detach().aminmax())
    if not (np.isfinite(low) and np.isfinite(high)):  # aminmax passes NaN on
        raise ValueError(f"{name}: expected finite values in [0, 1], got NaN or infinity")
    if low < -RANGE_SLACK or high > 1 + RANGE_SLACK:
        raise ValueError(f"{name}: expected values in [0, 1], got [{low:.4g}, {high:.4g}]")
    return image
