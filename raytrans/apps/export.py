"""Take depth maps, a coloured point cloud or a mesh out of a captured scene, in the frame and units of its poses."""

import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from raytrans.apps import advice, cli, outputs
from raytrans.apps.captures import Capture, evenly_spaced
from raytrans.apps.progress import Progress
from raytrans.data.readers import open_scene
from raytrans.export.clouds import write_ply
from raytrans.export.files import write_json
from raytrans.export.fusion import Agreement, DepthMaps, consistent, footprint, fused, inside_box, without_rim
from raytrans.export.meshes import fused_mesh, write_mesh
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.rigid import Similarity
from raytrans.processes import ALONE, Processes
from raytrans.rendering.depth import confidence, rendered_from_others
from raytrans.rendering.renderer import Renderer

KINDS = ("cloud", "mesh", "depths")
FEW = 0.01  # share of the pixels below which a cloud is hardly one
BOX = 0.005  # share of the points on either side of every axis that a mesh leaves out


def parser() -> ArgumentParser:
    """Command line of `tools/export.py`."""
    out = ArgumentParser(
        prog="export",
        description="Depth of every view of a scene, rendered from the others; what other views confirm is fused to a "
        "coloured point cloud with normals, or to a mesh. Everything is in the frame and the units of the poses. Depth "
        "is estimated from colours alone: depth files of the scene are not used.",
    )
    out.add_argument("scene", metavar="SCENE", help=cli.SCENE)
    text = (
        "what to write, one or more: NAME.ply a point cloud, or a mesh where 'mesh' is in its name; NAME.glb a mesh; "
    )
    text += "a folder: color/, depth/, confidence/ ... of every view with its transforms.json, so that it is a scene"
    out.add_argument("--out", type=Path, nargs="+", required=True, metavar="FILE|DIR", help=text)
    text = "use N views, evenly spaced in their order (default: all); the others still serve as sources"
    out.add_argument("--views", type=cli.positive_int, metavar="N", help=text)
    text = "least confidence of a pixel, from 0 to 1 (default: 0.5)"
    out.add_argument("--confidence", type=cli.positive_float, default=0.5, metavar="C", help=text)
    text = f"how many other views, of the nearest {Agreement.compared}, have to confirm a depth (default: 2)"
    out.add_argument("--agree", type=cli.positive_int, metavar="N", help=text)
    text = "relative difference of depths that agree (default: 0.02)"
    out.add_argument("--tolerance", type=cli.positive_float, default=Agreement.depth, metavar="T", help=text)
    text = "side of a voxel in the units of the poses (default: the median size of a pixel on the surface)"
    out.add_argument("--voxel", type=cli.positive_float, metavar="V", help=text)
    cli.add_checkpoint_argument(out)
    cli.add_source_arguments(out, max_size=200)
    cli.add_json_argument(out)
    cli.share(out)
    return out


def main(arguments: Namespace) -> int:
    """Export as the command line says; the exit status."""
    with cli.together(arguments.device) as processes:
        return export_share(arguments, processes)


def export_share(arguments: Namespace, processes: Processes) -> int:
    """Render one's share of the views, as one of some processes, and export those of all as the first."""
    start = time.monotonic()
    capture = Capture(open_scene(arguments.scene), arguments.sources, arguments.max_size)
    chosen = evenly_spaced(len(capture.scene), arguments.views)
    kinds = {path: kind_of(path) for path in arguments.out}
    if processes.first:
        check_outputs(arguments, capture, kinds, len(chosen))
    arguments.agree = arguments.agree or Agreement.views
    model = cli.load_model(arguments, [capture.scene], processes.device)
    what = f"depth of {len(chosen)} view{'s'[: len(chosen) > 1]}"
    cli.say(f"{capture.scene.path}: {what}, each from up to {arguments.sources} others")
    folders = [path for path, kind in kinds.items() if kind == "depths"]
    processes.tell()  # before the first hour of work: whether all can do theirs
    maps, sources = estimated(model, capture, chosen, folders, arguments.checkpoint, processes)
    if not processes.first:
        return 0
    cli.warn(advice.on_sources(capture, sources))
    values: dict[str, object] = {"views": chosen, "pixels": sum(depth.numel() for depth in maps.depth)}
    files = [path for path, kind in kinds.items() if kind != "depths"]
    if files:
        values |= written(maps, kinds, files, arguments)
    values |= {"seconds": time.monotonic() - start, "peak_memory_bytes": cli.peak_memory()}
    values |= {name: getattr(arguments, name) for name in ("sources", "max_size", "confidence", "agree", "tolerance")}
    values |= {"scene": str(arguments.scene), "versions": cli.versions(), **cli.checkpoint_facts(arguments.checkpoint)}
    for folder in folders:
        write_json(folder / "summary.json", values)
    cli.write_report(arguments.json, values)
    cli.say("written to " + ", ".join(map(str, arguments.out)))
    return 0


def kind_of(path: Path) -> str:
    """What is to be written at a path, by its name; ValueError for an ending that is none of ours."""
    ending = path.suffix.lower()
    if ending == ".ply":
        return "mesh" if "mesh" in path.stem.lower() else "cloud"
    if ending == ".glb":
        return "mesh"
    if ending == "" or path.is_dir():
        return "depths"
    raise ValueError(f"--out: expected a file .ply or .glb, or a folder, got {path}")


def check_outputs(arguments: Namespace, capture: Capture, kinds: dict[Path, str], count: int) -> None:
    """Refuse what cannot succeed before the work, and outputs that would write over the scene or each other."""
    if arguments.confidence > 1:
        raise ValueError(f"--confidence: expected a number from 0 to 1, got {arguments.confidence}")
    if len(capture.scene) < 2:
        raise ValueError(f"{capture.scene.path}: expected at least two views, each rendered from the others, got one")
    if set(kinds.values()) != {"depths"}:
        check_agree(arguments.agree, count, len(capture.scene))
    if len({path.expanduser().resolve() for path in arguments.out}) < len(arguments.out):
        raise ValueError(f"--out: expected different names, got {' '.join(map(str, arguments.out))}")
    files = outputs.scene_files(capture.scene, Path(arguments.scene))
    for path, kind in kinds.items():
        try:
            place = (cli.output_folder if kind == "depths" else cli.output_file)(str(path))
        except ArgumentTypeError as error:  # argparse turns these into a line only while it parses
            raise ValueError(f"--out: {error}") from None
        if kind == "depths":
            outputs.check_folder(place, files, count)
        else:
            outputs.check_file("--out", place, files)


def check_agree(agree: int | None, count: int, every: int) -> None:
    """Refuse to compare `count` of `every` view of a scene where `agree` (None: the default) have to confirm each."""
    most = min(Agreement.compared, count - 1)
    if agree is None and Agreement.views > most:
        named = "--views: expected" if count < every else "views: expected a scene of"
        least = f"{Agreement.views + 1} views, of which {Agreement.views} confirm the third, or a smaller --agree"
        raise ValueError(f"{named} at least {least}, got {count}")
    if agree is not None and agree > most:
        raise ValueError(f"--agree: expected at most {most}, as so many views can confirm one, got {agree}")


def estimated(
    model: Renderer,
    capture: Capture,
    chosen: list[int],
    folders: list[Path],
    checkpoint: Path | None,
    processes: Processes = ALONE,
) -> tuple[DepthMaps, list[list[int]]]:
    """Depth maps of the chosen views, written to `folders` as they come, and the sources of each.

    Each process renders its share; the first has them all, the others none.
    """
    cameras = Cameras.stack([capture.camera(i) for i in range(len(capture.scene))])
    maps = DepthMaps(cameras[chosen], [], [], [])
    every, share = [], chosen[processes.rank :: processes.count]
    bar = Progress("rendering", sum(cameras[i].height * cameras[i].width for i in share), "rays")
    own = rendered_from_others(model, cameras, share, capture.views, capture.count, tell=bar.traced)
    own = ((sources, out.map(lambda value: value.cpu())) for sources, out in own)
    for number, (sources, out) in enumerate(bar.over(processes.interleaved(own))):
        cli.check_finite(out.color, checkpoint)
        image, mask = capture.image(chosen[number]), capture.mask(chosen[number])
        for folder in folders:
            if number == 0:
                outputs.begin(folder, len(chosen))
            outputs.write_frame(folder, number, replace(out, color=image))
        trust = without_rim(confidence(out), out.opacity)
        trust = trust if mask is None else torch.where(mask, trust, 0.0)
        for values, new in ((maps.depth, out.depth), (maps.confidence, trust), (maps.color, image)):
            values.append(new)
        every.append(sources)
    for folder in folders if processes.first else ():
        outputs.write_depth_pictures(folder, [_solid(d, c) for d, c in zip(maps.depth, maps.confidence, strict=True)])
        scale = outputs.write_depth16(folder, len(chosen))["depth16_scale"]
        outputs.write_cameras(folder, list(maps.cameras), scale)
        outputs.finish(folder)
    return maps, every


def _solid(depth: Tensor, trust: Tensor):
    return torch.where(trust >= outputs.SOLID, depth, torch.nan).numpy()


def written(maps: DepthMaps, kinds: dict[Path, str], files: list[Path], arguments: Namespace) -> dict[str, object]:
    """Write the clouds and meshes; what came out in numbers.

    All is computed in the frame of the first camera, so that another world frame gives the same points, moved, and
    worlds far from their origin keep their digits.
    """
    first = maps.cameras[0].world_from_camera
    back = Similarity(first[:3, :3], first[:3, 3])
    here = back.inverse()
    maps = replace(maps, cameras=maps.cameras.moved(here.rotation, here.translation)).trusted(arguments.confidence)
    values: dict[str, object] = {"pixels_confident": maps.known()}
    agreement = Agreement(views=arguments.agree, depth=arguments.tolerance)
    with Progress("comparing", len(maps), "views") as bar:
        maps = consistent(maps, agreement, lambda view: bar.to(view + 1))
    check_confirmed(maps, values["pixels_confident"], arguments)
    voxel = arguments.voxel or footprint(maps)
    cloud = fused(maps, voxel)
    values |= {"pixels_confirmed": maps.known(), "voxel": voxel, "points": len(cloud)}
    for path in files:
        if kinds[path] == "cloud":
            write_ply(path, cloud.moved(back))
            cli.say(f"{path}: {len(cloud)} points")
    meshes = [path for path in files if kinds[path] == "mesh"]
    if meshes:
        depth = torch.cat([one[one.isfinite()] for one in maps.depth]).median().item()
        noise, inside = arguments.tolerance * depth, cloud.points[inside_box(cloud.points, BOX)]
        with Progress("fusing to a mesh", len(maps), "views") as bar:
            mesh = fused_mesh(maps, inside, voxel, noise, tell=lambda view: bar.to(view + 1))
        values |= {"vertices": len(mesh.vertices), "faces": len(mesh.faces)}
        for path in meshes:
            write_mesh(path, mesh.moved(back))
            cli.say(f"{path}: {len(mesh.vertices)} vertices, {len(mesh.faces)} faces")
    return values


def check_confirmed(maps: DepthMaps, confident: int, arguments: Namespace) -> None:
    """Say how many pixels are left, and where these are few what would leave more; ValueError where there is none."""
    pixels, left = sum(depth.numel() for depth in maps.depth), maps.known()
    text = f"of {pixels} pixels {confident} have a confidence of {arguments.confidence:g}"
    text += f", and other views confirm {left}"
    if left >= FEW * pixels:
        cli.say(text)
        return
    text += "; pictures must overlap and be taken from different places: "
    text += "try more views or larger ones, a lower --confidence or --agree, a larger --tolerance"
    if not left:
        raise ValueError(f"depth: {text}")
    cli.warn([f"little is left: {text}"])
