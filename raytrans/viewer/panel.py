"""The controls of one browser, and what they say."""

from dataclasses import dataclass

from raytrans.geometry.paths import PATHS
from raytrans.viewer.pictures import MODES
from raytrans.viewer.recording import MOST_FRAMES, RECORDED
from raytrans.viewer.sources import KINDS, Choice, parse_views

SMALLEST, LARGEST = 32, 1024  # long side of a picture in pixels
PLACES = 120  # of the slider along a path


@dataclass(frozen=True)
class Settings:
    """What the controls of a browser ask for."""

    mode: str
    side: int
    choice: Choice
    near: float | None
    far: float | None


def settings(panel: "Panel") -> Settings:
    """What the controls say; ValueError where it makes no sense, as a browser may send anything."""
    kind = _one_of(panel.kind, "sources", KINDS)
    picked = parse_views(panel.picked.value, panel.usable) if kind == "pick" else ()
    count = min(max(1, int(panel.count.value)), len(panel.usable))
    near, far = (float(handle.value) for handle in (panel.near, panel.far))
    if near < 0 or far < 0 or 0 < far <= near:
        raise ValueError(f"near, far: expected depths with near < far, or 0 for none, got {near:g} and {far:g}")
    side = min(max(SMALLEST, int(panel.side.value)), LARGEST)
    return Settings(mode_of(panel), side, Choice(kind, count, picked), near or None, far or None)


def mode_of(panel: "Panel") -> str:
    """What is drawn of a rendering; ValueError for a mode that is none."""
    return _one_of(panel.mode, "mode", MODES)


def _one_of(handle, name: str, known: tuple[str, ...]) -> str:
    if handle.value not in known:
        raise ValueError(f"{name}: expected one of {', '.join(known)}, got {handle.value!r}")
    return handle.value


class Panel:
    """The controls in `gui`, that of one browser. usable: views that may render; count, side: values at the start."""

    def __init__(self, gui, usable: tuple[int, ...], count: int, side: int):
        self.usable = usable
        self.status = gui.add_markdown("connected")
        with gui.add_folder("Picture"):
            self.shown = gui.add_checkbox("Rendering", True, hint="the model's picture from where you are")
            self.mode = gui.add_dropdown("Mode", MODES, initial_value=MODES[0])
            start = min(max(SMALLEST, side), LARGEST)
            text = "long side in pixels, once you rest"
            self.side = gui.add_slider("Size", min=SMALLEST, max=LARGEST, step=8, initial_value=start, hint=text)
            text = "float32, in the units of the poses, NaN where unknown"
            self.depth_npy = gui.add_button("Depth as .npy", hint=text)
            self.depth_png = gui.add_button("Depth as .png", hint="16 bits, 0 where unknown; the scale is in the name")
        with gui.add_folder("Source views"):
            self.kind = gui.add_dropdown("Which", KINDS, initial_value=KINDS[0])
            most = len(usable)
            first = min(count, most)
            self.count = gui.add_slider("Nearest", min=1, max=max(2, most), step=1, initial_value=first)
            self.picked = gui.add_text("Picked", ", ".join(map(str, usable[:first])), hint="numbers like 0, 3, 8-12")
        with gui.add_folder("Bounds of depth", expand_by_default=False):
            text = "in the units of the poses; 0 for none"
            self.near = gui.add_number("Near", 0.0, min=0.0, step=1e-6, hint=text)
            self.far = gui.add_number("Far", 0.0, min=0.0, step=1e-6, hint=text)
        with gui.add_folder("Path"):
            self.path = gui.add_dropdown("Along", (*PATHS, RECORDED), initial_value="orbit")
            self.place = gui.add_slider("Place", min=0, max=PLACES - 1, step=1, initial_value=0)
            self.record = gui.add_button("Record this place")
            self.forget = gui.add_button("Forget the recorded places")
            self.frames = gui.add_number("Frames", 48, min=1, max=MOST_FRAMES, step=1)
            self.fps = gui.add_number("Frames a second", 24.0, min=1.0, max=120.0)
            self.film = gui.add_button("Render a video")
            self.cameras = gui.add_button("Cameras as .json", hint="for tools/render.py --views")
            self.progress = gui.add_progress_bar(0.0, visible=False)

    @property
    def wishes(self) -> tuple:
        """Controls that another rendering follows from."""
        return self.side, self.kind, self.count, self.picked, self.near, self.far
