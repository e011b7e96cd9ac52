"""Changes of source views and of the target camera that a rendering must survive, or is reported under."""

import torch
import torch.nn.functional as F
from torch import Tensor

from raytrans.data.priors import DepthPrior
from raytrans.data.views import Views
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.distortion import Distortion

LENS = (-0.1, 0.02, 0.004, -0.003, 0.0)  # bends the corners of a usual photo by a few percent; monotonic everywhere
STRETCH = 1.13
GREY = 0.5


def scene_size(views: Views, camera: Cameras) -> float:
    """Largest distance between source centres; where they coincide that to the target, or one."""
    centers = views.cameras.centers
    size = (centers[:, None] - centers).norm(dim=-1).max()
    size = size if size > 0 else (centers - camera.centers).norm(dim=-1).max()
    return float(size) if size > 0 else 1.0


def with_view(views: Views, index: int, image: Tensor, camera: Cameras, prior: DepthPrior | None = None) -> Views:
    """The views with one of them replaced."""
    images, cameras, priors = list(views.images), list(views.cameras), list(views.priors)
    images[index], cameras[index], priors[index] = image, camera, prior
    return Views(images, Cameras.stack(cameras), priors)


def quarter_turned(views: Views, turns: dict[int, int]) -> Views:
    """The views {index: k} rolled by k quarter turns together with their images."""
    for index, k in turns.items():
        image = torch.rot90(views.image(index), k, (0, 1)).contiguous()
        prior = views.priors[index] and views.priors[index].quarter_turned(k)
        views = with_view(views, index, image, views.cameras[index].quarter_turned(k), prior)
    return views


def awkward(views: Views) -> Views:
    """The images cut to odd, non-square sizes, declared to come from cameras with fx != fy, an off-centre principal
    point and a bent lens (unless they have one). Equivariance must hold whether images and cameras fit or not.
    """
    images, cameras = [], []
    for i, (image, camera) in enumerate(views):
        height, width = _odd(camera.height - 3 - i % 3), _odd(camera.width - 6 - i % 5)
        top, left = min(1 + i % 2, camera.height - height), min(3, camera.width - width)
        cut = camera.cropped(top, left, height, width)
        intrinsics = cut.intrinsics.clone()
        intrinsics[0, 0] *= STRETCH
        images.append(image[top : top + height, left : left + width])
        lens = cut.distortion or Distortion("opencv", torch.tensor(LENS, dtype=torch.float64))
        cameras.append(Cameras(intrinsics, cut.world_from_camera, (height, width), lens, cut.near, cut.far))
    return Views(images, Cameras.stack(cameras), views.priors)


def _odd(side: int) -> int:
    return max(1, side - 1 + side % 2)


def single_pixel(camera: Cameras, pixel: Tensor, angle: float) -> Cameras:
    """The camera rolled by `angle`, its image the one pixel that sees the ray of `pixel` (x, y) of the unrolled one."""
    ray = camera.pixel_rays(pixel)
    rolled = camera.rolled(angle)
    # a point as far away as the camera is from the origin loses no digits
    reach = camera.centers.norm().clamp_min(1.0)
    (x, y), _ = rolled.project(ray.point(reach))
    intrinsics = rolled.intrinsics.clone()
    intrinsics[:2, 2] -= torch.stack([x, y]) - 0.5
    pose, lens = rolled.world_from_camera, rolled.distortion
    return Cameras(intrinsics, pose, (1, 1), lens, rolled.near, rolled.far)


def _cosine_to_border(camera: Cameras) -> Tensor:
    """Largest cosine to the optical axis over the border of the image: the circle that any roll keeps inside."""
    rays = camera.rays()
    cosine = (rays.direction * camera.forward).sum(-1)
    return torch.stack([cosine[0].max(), cosine[-1].max(), cosine[:, 0].max(), cosine[:, -1].max()]).max()


def rolled(views: Views, angles: list[float]) -> Views:
    """Every view rolled by its angle, its image resampled; grey outside the circle that stays inside the image.

    Priors are left out.
    """
    images, cameras = [], []
    for (image, camera), angle in zip(views, angles, strict=True):
        turned = camera.rolled(angle)
        directions = turned.rays().direction
        cosine = (directions * camera.forward).sum(-1)
        pixels, _ = camera.project(camera.centers + directions * camera.centers.norm().clamp_min(1.0))
        size = pixels.new_tensor([camera.width, camera.height])
        grid = (2 * pixels / size - 1).to(image)
        values = F.grid_sample(
            image.permute(2, 0, 1)[None], grid[None], mode="bicubic", padding_mode="border", align_corners=False
        )
        values = values[0].permute(1, 2, 0).clamp(0, 1)
        inside = (cosine >= _cosine_to_border(camera))[..., None].to(image.device)
        images.append(torch.where(inside, values, GREY))
        cameras.append(turned)
    return Views(images, Cameras.stack(cameras))


def mirrored_camera(camera: Cameras) -> Cameras:
    """The camera of the world reflected in x that sees the image flipped left to right."""
    flip = torch.diag(torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64))
    pose = camera.world_from_camera.clone()
    pose[:3, :3] = flip @ pose[:3, :3] @ flip
    pose[:3, 3] = flip @ pose[:3, 3]
    intrinsics = camera.intrinsics.clone()
    intrinsics[0, 2] = camera.width - intrinsics[0, 2]
    intrinsics[0, 1] = -intrinsics[0, 1]
    lens = camera.distortion
    if lens is not None and lens.model != "fisheye":
        signs = torch.ones_like(lens.coefficients)
        signs[..., 3] = -1
        lens = Distortion(lens.model, lens.coefficients * signs)
    return Cameras(intrinsics, pose, (camera.height, camera.width), lens, camera.near, camera.far)


def mirrored(views: Views) -> Views:
    """The whole rig reflected, its images and priors flipped."""
    cameras = Cameras.stack([mirrored_camera(camera) for camera in views.cameras])
    priors = [prior and DepthPrior(prior.logits.flip(2), prior.near.flip(1)) for prior in views.priors]
    return Views([image.flip(1) for image in views.images], cameras, priors)
