"""What a person should know about a scene or its renderings beyond the numbers, a sentence each."""

from collections.abc import Sequence

from raytrans.apps.captures import Capture
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.paths import common_focus, looks_one_way
from raytrans.rendering.sources import source_unit

DUPLICATE = 35.0  # dB between a held-out view and its nearest source from which they count as one picture
FAINT = 0.1  # mean opacity of a picture that shows hardly anything the sources see


def on_sources(capture: Capture, sources: Sequence[Sequence[int]]) -> list[str]:
    """What is wrong with the views that some pictures are to be rendered from."""
    cameras = [capture.scene.cameras[chosen] for chosen in sources]
    if min(len(chosen) for chosen in cameras) < 2:
        return ["depth cannot be found from one source view"]
    here = sum(source_unit(chosen) is None for chosen in cameras)
    if here:
        which = "" if here == len(cameras) else f" of {here} of {len(cameras)} pictures"
        return [f"the source views{which} share one place: depth cannot be found from them"]
    return []


def on_orbit(cameras: Cameras) -> list[str]:
    """Whether there is something to orbit."""
    if common_focus(cameras) is not None or looks_one_way(cameras):
        return []
    return ["the cameras do not look at a common place, so an orbit makes no sense here; try --views spiral, or all"]


def on_opacity(opacity: Sequence[float]) -> list[str]:
    """Which pictures show hardly anything."""
    faint = [number for number, value in enumerate(opacity) if value < FAINT]
    if not faint:
        return []
    named = ", ".join(map(str, faint[:5])) + (", ..." if len(faint) > 5 else "")
    return [f"the sources see hardly anything of {len(faint)} of {len(opacity)} pictures (number {named})"]


def on_duplicates(views: Sequence[object], nearest: Sequence[float]) -> list[str]:
    """Which held-out views are no test, `nearest` being the PSNR of the nearest source as it is."""
    same = [str(view) for view, psnr in zip(views, nearest, strict=True) if psnr >= DUPLICATE]
    if not same:
        return []
    named = ", ".join(same[:5]) + (", ..." if len(same) > 5 else "")
    return [f"view {named}: nearly the same picture is among the sources, so the numbers say little"]


def on_quality(psnr: float | None, nearest: float | None) -> list[str]:
    """Whether renderings are worse than what needs no rendering; means over the views."""
    if psnr is None or nearest is None or psnr > nearest or nearest >= DUPLICATE:
        return []
    text = "no better than the nearest photograph: are the axes of the poses OpenGL's (x right, y up, z backwards), "
    return [text + "and is the focal length that of these images?"]


def on_checks(cameras: Cameras) -> list[str]:
    """What a table of contracts does not say about sources like these."""
    return (
        ["one source view: its depth is a guess, and an order of sources cannot be tried"] if len(cameras) < 2 else []
    )
