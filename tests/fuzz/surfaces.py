"""Everything that reads files of others: a small valid input of each, and a call that reads all there is in it."""

import io
import json
import struct
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from raytrans.apps import cli, outputs, results
from raytrans.apps.studies import runs
from raytrans.data import open_scene, shards
from raytrans.data.generate.meshes import read_mesh
from raytrans.data.images import image_size, read_depth, read_image, read_mask
from raytrans.data.ply import read_ply
from raytrans.data.readers.transforms import read_cameras
from raytrans.data.readers.viewer_paths import is_camera_path, read_camera_path
from raytrans.export.files import read_json_lines
from raytrans.models.config import model_config
from raytrans.rendering.renderer import Renderer
from raytrans.systems.molecules.xyz import read_xyz
from raytrans.training.checkpoint import load, read_tensors, save_model
from raytrans.training.config import read_config
from tests.data.readers import captures
from tests.fuzz.contract import SCRATCH

PLY = "ply\nformat {} 1.0\nelement vertex 2\nproperty float x\nproperty float y\nproperty float z\n"
PLY += "property uchar red\nproperty uchar green\nproperty uchar blue\nend_header\n"


@dataclass(frozen=True)
class Surface:
    """write(folder) makes valid files and gives those to be damaged; read(folder, file) reads the one that was."""

    write: Callable[[Path], list[Path]]
    read: Callable[[Path, Path], object]


def look(folder: Path, _file: Path) -> None:
    """Open a scene and read all that three of its views have."""
    scene = open_scene(folder)
    scene.sparse_points()
    for index in range(min(3, len(scene))):
        scene.image(index)
        scene.depth(index)
        scene.mask(index)
        scene.sparse_range(index)
    scene.views([0], max_size=16)
    scene.nearest(scene.cameras[0], 2)


def of_format(write: Callable, *more: str) -> Callable[[Path], list[Path]]:
    """The capture of a small reader, its camera file and further ones of it."""

    def written(folder: Path) -> list[Path]:
        return [write(folder, captures.picture), *(folder / name for name in more)]

    return written


def depth_map(path: Path, kind: type = np.uint16) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.full((30, 40), 2000, kind)
    if path.suffix == ".png":
        Image.fromarray(values).save(path)
    elif path.suffix == ".npy":
        np.save(path, values)
    else:
        path.write_bytes(b"Pf\n40 30\n-1.0\n" + values.astype("<f4").tobytes())
    return path


def transforms(folder: Path) -> list[Path]:
    """With all that a transforms.json may name."""
    file = captures.transforms(folder, captures.picture)
    captures.picture(folder / "images/1.png")
    captures.picture(folder / "masks/0.png")
    depth_map(folder / "depth/0.png")
    (folder / "points.ply").write_text(PLY.format("ascii") + "0 0 1 1 2 3\n1 0 1 4 5 6\n")
    meta = json.loads(file.read_text())
    meta["frames"][0] |= {"depth_file_path": "depth/0.png", "mask_path": "masks/0.png", "near": 0.5, "far": 9.0}
    meta["frames"] += [meta["frames"][0] | {"file_path": "images/1.png"}]
    meta |= {"camera_model": "OPENCV", "k1": 0.01, "p1": 0.001, "cx": 20.0, "cy": 15.0, "ply_file_path": "points.ply"}
    meta |= {"applied_transform": np.eye(4)[[1, 0, 2], :].tolist(), "applied_scale": 2.0, "background": [0, 0, 1]}
    meta["applied_transform"][2][2] = -1.0
    meta |= {"train_filenames": ["images/1.png"], "test_filenames": ["images/0.png"], "depth_unit_scale_factor": 0.001}
    file.write_text(json.dumps(meta))
    return [file]


def blender(folder: Path) -> list[Path]:
    """The split files of NeRF-synthetic."""
    captures.picture(folder / "train/0.png")
    frame = {"file_path": "./train/0", "transform_matrix": np.eye(4).tolist()}
    file = folder / "transforms_train.json"
    file.write_text(json.dumps({"camera_angle_x": 0.7, "frames": [frame]}))
    return [file]


def colmap_text(folder: Path) -> list[Path]:
    images = captures.colmap(folder, captures.picture)
    images.write_text("1 1 0 0 0 0 0 0 1 0.png\n3.5 4.5 1 6.5 7.5 -1\n")
    images.with_name("points3D.txt").write_text("# x\n1 0 0 1 10 20 30 0.5 1 0\n")
    return [images, *(images.with_name(f"{name}.txt") for name in ("cameras", "points3D"))]


def colmap_binary(folder: Path) -> list[Path]:
    captures.picture(folder / "images/0.png")
    model = folder / "sparse/0"
    model.mkdir(parents=True)
    parts = {"cameras": struct.pack("<QiiQQ4d", 1, 1, 1, 40, 30, 50, 50, 20, 15)}
    image = struct.pack("<QI7dI", 1, 1, 1, 0, 0, 0, 0, 0, 0, 1) + b"0.png\0"
    parts["images"] = image + struct.pack("<QddqddQ", 2, 3.5, 4.5, 1, 6.5, 7.5, 2**64 - 1)
    parts["points3D"] = struct.pack("<QQ3d3BdQii", 1, 1, 0, 0, 1, 10, 20, 30, 0.5, 1, 1, 0)
    for name, content in parts.items():
        (model / f"{name}.bin").write_bytes(content)
    return [model / f"{name}.bin" for name in parts]


def mvsnet(folder: Path) -> list[Path]:
    camera = captures.mvsnet(folder, captures.picture)
    return [camera, folder / "pair.txt", depth_map(folder / "depths/0.pfm")]


def scannet(folder: Path) -> list[Path]:
    camera = captures.scannet(folder, captures.picture)
    depth_map(folder / "depth/0.png")
    camera.with_name("intrinsic_depth.txt").write_text(captures.K)
    return [camera, camera.with_name("intrinsic_depth.txt"), folder / "pose/0.txt"]


def tum(folder: Path) -> list[Path]:
    poses = captures.tum(folder, captures.picture)
    depth_map(folder / "depth/0.png")
    (folder / "depth.txt").write_text("# d\n1.01 depth/0.png\n")
    return [poses, *(folder / name for name in ("rgb.txt", "depth.txt", "camera-intrinsics.txt"))]


def camera_path(folder: Path) -> list[Path]:
    shot = {"camera_to_world": np.eye(4).ravel().tolist(), "fov": 50, "aspect": 1.5}
    path = {"camera_type": "perspective", "render_height": 108, "render_width": 192, "camera_path": [shot], "fps": 24}
    transform = {"transform": np.eye(4)[:3].tolist(), "scale": 0.2}
    (folder / "path.json").write_text(json.dumps(path))
    (folder / "dataparser_transforms.json").write_text(json.dumps(transform))
    return [folder / "path.json", folder / "dataparser_transforms.json"]


def look_at_path(folder: Path, _file: Path) -> None:
    assert is_camera_path(folder / "path.json") in (True, False)
    read_camera_path(folder / "path.json")


def cameras(folder: Path) -> list[Path]:
    """Cameras to render, without images."""
    frame = {"file_path": "a.png", "transform_matrix": np.eye(4).tolist(), "w": 40, "h": 30, "fl_x": 50.0}
    (folder / "cameras.json").write_text(json.dumps({"frames": [frame, frame]}))
    return [folder / "cameras.json"]


def pictures(folder: Path) -> list[Path]:
    """Small images of every kind that is read, EXIF and alpha included."""
    pixels = np.arange(6 * 8 * 4, dtype=np.uint8).reshape(6, 8, 4)
    exif = Image.Exif()
    exif[0x0112] = 6
    plain, clear = Image.fromarray(pixels[..., :3].copy()), Image.fromarray(pixels)
    plain.save(folder / "a.jpg", exif=exif)
    clear.save(folder / "b.png", exif=exif)
    plain.quantize(8).save(folder / "c.png", transparency=2)
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 200).save(folder / "d.png")
    (folder / "e.png").write_bytes(cli_png(np.stack([pixels[..., 0].astype(np.uint16) * 200] * 3, -1)))
    clear.save(folder / "f.webp", lossless=True)
    plain.save(folder / "g.tiff", compression="tiff_deflate")
    plain.save(folder / "h.ppm")
    plain.save(folder / "i.bmp")
    return sorted(folder.iterdir())


def cli_png(pixels: np.ndarray) -> bytes:
    from raytrans.export.files import png_bytes

    return png_bytes(pixels, bits=16)


def look_at_picture(_folder: Path, file: Path) -> None:
    """All four uses of a picture, each as if it were the only one."""
    uses = (image_size, read_image, read_mask, lambda path: read_depth(path, 0.001, (0.0, 65535.0)))
    refused = []
    for use in uses:
        try:
            use(file)
        except (ValueError, OSError) as error:
            refused.append(error)
    if refused:
        raise refused[-1]


def depths(folder: Path) -> list[Path]:
    files = [depth_map(folder / "a.png"), depth_map(folder / "b.npy", np.float32), depth_map(folder / "c.pfm")]
    return files


def clouds(folder: Path) -> list[Path]:
    (folder / "a.ply").write_text(PLY.format("ascii") + "0 0 1 1 2 3\n1 0 1 4 5 6\n")
    rows = b"".join(struct.pack("<3f3B", 0, 0, z, 1, 2, 3) for z in (1, 2))
    (folder / "b.ply").write_bytes(PLY.format("binary_little_endian").encode() + rows)
    return [folder / "a.ply", folder / "b.ply"]


def mesh(folder: Path) -> list[Path]:
    """A textured box."""
    import trimesh

    box = trimesh.creation.box()
    picture = Image.new("RGB", (4, 4), (200, 100, 50))
    box.visual = trimesh.visual.TextureVisuals(uv=box.vertices[:, :2] + 0.5, image=picture)
    box.export(folder / "a.glb")
    return [folder / "a.glb"]


def look_at_mesh(_folder: Path, file: Path) -> None:
    read_mesh.cache_clear()
    read_mesh(str(file))


def shard(folder: Path) -> list[Path]:
    """A tar file of one scene."""
    (folder / SCRATCH).mkdir()
    frame = {"file_path": "a.0000.png", "transform_matrix": np.eye(4).tolist()}
    picture = captures.picture(folder / "a.0000.png").read_bytes()
    members = {
        "a.json": json.dumps({"w": 40, "h": 30, "fl_x": 50.0, "frames": [frame]}).encode(),
        "a.0000.png": picture,
    }
    with tarfile.open(folder / "a.tar", "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return [folder / "a.tar"]


def look_at_shard(folder: Path, file: Path) -> None:
    """All scenes of a shard, each unpacked into a folder that the watch leaves alone."""

    @contextmanager
    def unpacked(prefix: str) -> Iterator[str]:
        try:
            yield str(folder / SCRATCH)
        finally:
            for path in (folder / SCRATCH).iterdir():
                path.unlink()

    made, shards.TemporaryDirectory = shards.TemporaryDirectory, unpacked
    try:
        found = shards.Shards.of([str(file)])
        for number in range(min(3, len(found))):
            with found.opened(number) as scene:
                scene.image(0)
    finally:
        shards.TemporaryDirectory = made


def weights(folder: Path) -> list[Path]:
    torch.manual_seed(0)
    save_model(folder / "model.safetensors", Renderer(model_config("tiny")))
    return [folder / "model.safetensors"]


def look_at_weights(folder: Path, _file: Path) -> None:
    read_tensors(folder / "model.safetensors")
    load(folder)


def config(folder: Path) -> list[Path]:
    text = (
        '# run\nsize = "tiny"\nseed = 3\n[model]\nhidden = 16\ntyped = [2, 1]\nfine_type = "8x0 + 2x1 + 1x2"\n[data]\n'
    )
    text += 'views = 4\nsizes = [16]\nsources = [2, 2]\nfolders = ["a", "b"]\nzoom = 1.5\n[optim]\nsteps = 3\n'
    text += "[log]\nlog_every = 2\n"
    (folder / "run.toml").write_text(text)
    return [folder / "run.toml"]


def log(folder: Path) -> list[Path]:
    (folder / "log.jsonl").write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "loss": null}\n')
    return [folder / "log.jsonl"]


METHODS = dict.fromkeys(
    ("model", "nearest", "mean", "sweep"),
    {"psnr": 20.0, "ssim": 0.5, "depth_median": 0.1, "depth_mean": 0.2, "depth_close": 0.9},
)


def measured(folder: Path) -> list[Path]:
    """What evaluate, verify and benchmark write, small."""
    scene = {"scene": "easy", "protocol": "I/I", "worst_margin": 1.0, "views": [{}], **METHODS}
    contract = {"world_motion": {"error": 1e-7, "tolerance": 1e-4, "passed": True}}
    verified = {
        "contracts": contract,
        "reported": {"mirror": {"error": 0.4}},
        "scene": "a",
        "dtype": "float32",
        "size": [4, 6],
    }
    named = {"rendering": {"rays_per_cpu_second": 5.0, "cpu_seconds": 3.0, "peak_memory_bytes": 5e6}}
    values = {
        "quality": {"scenes": [scene], "sources": 8, "max_size": 200},
        "contracts": verified,
        "speed": {"machine": {"threads": 1}, "speed": {"named": named}},
    }
    for name, value in values.items():
        (folder / f"{name}.json").write_text(json.dumps(value | {"checkpoint_hash": "ab"}))
    return [folder / f"{name}.json" for name in values]


def look_at_measured(folder: Path, _file: Path) -> None:
    words = [word for name in ("quality", "contracts", "speed") for word in (f"--{name}", str(folder / f"{name}.json"))]
    said, cli.say = cli.say, lambda *_: None
    try:
        results.main(results.parser().parse_args(words))
    finally:
        cli.say = said


def rendering(folder: Path) -> list[Path]:
    """What `render` and `study` leave in a folder and read when they come again."""
    frames = [{"file_path": "color/0000.png"}]
    (folder / "transforms.json").write_text(json.dumps({"generator": outputs.GENERATOR, "frames": frames}))
    arm = {"name": "a", "changes": ["x=1"], "budget": {"minutes": 1, "steps": 2}, "steps": 2, "parameters": 3}
    (folder / runs.ARM).write_text(json.dumps(arm))
    return [folder / "transforms.json", folder / runs.ARM]


def look_at_rendering(folder: Path, _file: Path) -> None:
    outputs.earlier_files(folder)
    outputs.is_own(folder / "transforms.json")
    runs.read_arm(folder)


def molecules(folder: Path) -> list[Path]:
    """Two frames in the extended xyz format."""
    header = 'Lattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3:forces:R:3 config_type=a energy=-31.5\n'
    (folder / "a.xyz").write_text(2 * f"2\n{header}H 0 0 0 0 0 1\nO 0 0 0.97 0 0 -1\n")
    return [folder / "a.xyz"]


SURFACES = {
    "transforms": Surface(transforms, look),
    "transforms-split": Surface(blender, look),
    "colmap-text": Surface(colmap_text, look),
    "colmap-binary": Surface(colmap_binary, look),
    "llff": Surface(of_format(captures.llff), look),
    "idr": Surface(of_format(captures.idr), look),
    "mvsnet": Surface(mvsnet, look),
    "middlebury": Surface(of_format(captures.middlebury), look),
    "rgbd": Surface(of_format(captures.rgbd, "camera-intrinsics.txt"), look),
    "scannet": Surface(scannet, look),
    "tum": Surface(tum, look),
    "realestate": Surface(of_format(captures.realestate), look),
    "camera-path": Surface(camera_path, look_at_path),
    "cameras": Surface(cameras, lambda _folder, file: read_cameras(file)),
    "picture": Surface(pictures, look_at_picture),
    "depth": Surface(depths, lambda _folder, file: read_depth(file, 0.001, (0.0,))),
    "ply": Surface(clouds, lambda _folder, file: read_ply(file)),
    "molecules": Surface(molecules, lambda _folder, file: read_xyz(file)),
    "shard": Surface(shard, look_at_shard),
    "mesh": Surface(mesh, look_at_mesh),
    "checkpoint": Surface(weights, look_at_weights),
    "config": Surface(config, lambda _folder, file: read_config(file)),
    "log": Surface(log, lambda _folder, file: read_json_lines(file)),
    "measured": Surface(measured, look_at_measured),
    "rendering": Surface(rendering, look_at_rendering),
}


def damage(files: list[Path], data: bytes) -> Path:
    """Put an input of the corpus into its place: its first byte chooses the file, the rest is the content."""
    file = files[data[0] % len(files)] if data else files[0]
    file.write_bytes(data[1:])
    return file


def prepared(name: str, folder: Path) -> tuple[Path, list[Path]]:
    """The folder of a valid input, made in an empty folder beside what no input may lead to, and its files."""
    scene = folder / "scene"
    scene.mkdir()
    captures.picture(folder / "secret.png")
    np.save(folder / "secret.npy", np.ones((30, 40), np.float32))
    (folder / "secret.ply").write_text(PLY.format("ascii") + "0 0 1 1 2 3\n1 0 1 4 5 6\n")
    return scene, SURFACES[name].write(scene)
