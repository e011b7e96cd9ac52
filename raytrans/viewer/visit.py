"""One browser that looks: its controls, what it wants to see, what it sees, and the places it recorded."""

import functools
import logging
from collections.abc import Callable
from typing import Any

from raytrans.geometry.cameras import Cameras
from raytrans.viewer.frames import Frame, FrameMaker, Wish
from raytrans.viewer.panel import PLACES, Panel, mode_of, settings
from raytrans.viewer.pictures import depth_npy, depth_png, picture, scale_of
from raytrans.viewer.recording import Film, cameras_json, film_pieces, path_of
from raytrans.viewer.stage import Eye, browser_pose, field_of_view
from raytrans.viewer.turns import Rank
from raytrans.viewer.worker import Worker

LOGGER = logging.getLogger(__name__)
MOST_PLACES = 200
NOTICE_SECONDS = 8.0


class Visit:
    """Binds the `client` of viser to the worker. Callbacks only note what is wanted; the worker draws.

    rig: the cameras that paths lead through, in the world.
    """

    def __init__(self, client: Any, maker: FrameMaker, worker: Worker, rig: Cameras, defaults: tuple[int, int]):
        self.client, self.maker, self.worker, self.rig = client, maker, worker, rig
        self.gone = False
        self._frame: Frame | None = None
        self._scale: tuple[float | None, float | None] = (None, None)
        self._keys: list[Eye] = []
        self.panel = Panel(client.gui, maker.sources.usable, *defaults)
        self._listen()

    def _listen(self) -> None:
        panel = self.panel
        changes = [(handle, self.look) for handle in panel.wishes]
        changes += [(panel.mode, self.redraw), (panel.shown, self.toggle), (panel.place, self.move)]
        for handle, action in changes:
            handle.on_update(self._heard(action))
        clicks = [(panel.record, self.record), (panel.forget, self.forget), (panel.film, self.shoot)]
        clicks += [(panel.depth_npy, self.send_npy), (panel.depth_png, self.send_png)]
        clicks += [(panel.cameras, self.send_cameras)]
        for handle, action in clicks:
            handle.on_click(self._heard(action))
        self.client.camera.on_update(self._heard(self.follow))

    def _heard(self, action: Callable[[], None]) -> Callable:
        """A callback of viser: in its event loop, as others would each take one of its threads."""

        async def heard(_event) -> None:
            if self.gone:
                return
            try:
                action()
            except (ValueError, OverflowError) as error:
                self.tell(str(error))

        return heard

    def tell(self, text: str, title: str = "raytrans") -> None:
        """Show a message that goes away by itself."""
        if not self.gone:
            self.client.add_notification(title, text, auto_close_seconds=NOTICE_SECONDS)

    def failed(self, error: Exception) -> None:
        """Say why what was asked for does not come."""
        self.tell(str(error))
        if not self.gone:
            self.panel.progress.visible = False

    def leave(self) -> None:
        """Nothing of this browser is wanted any more."""
        self.gone = True
        self.worker.drop(self.client.client_id)
        self._frame, self._keys = None, []

    # What the browser does

    def eye(self) -> Eye:
        """Where the browser's camera is; ValueError where it sends nonsense."""
        camera = self.client.camera
        pose = tuple(map(float, camera.wxyz)), tuple(map(float, camera.position))
        return Eye(*pose, float(camera.fov), int(camera.image_width), int(camera.image_height))

    def wish(self) -> Wish:
        """What the browser wants to see."""
        asked = settings(self.panel)
        return Wish(self.eye(), asked.side, asked.choice, asked.near, asked.far, self.worker.clock())

    def look(self) -> None:
        """Render from where the browser is."""
        if self.panel.shown.value:
            self._ask("look", self.maker.pieces(self.wish(), self.show), Rank.COARSE)

    def follow(self) -> None:
        """Render from where the browser has gone; a window without pixels sees nothing."""
        try:
            self.eye()
        except ValueError as error:
            LOGGER.debug("viewer: %s", error)
            return
        self.look()

    def redraw(self) -> None:
        """Draw the latest picture again, in another mode or not at all."""
        self._ask("redraw", self._once(self._draw), Rank.COARSE)

    def toggle(self) -> None:
        """Begin to render, or cease to."""
        if self.panel.shown.value:
            self.look()
        else:
            self.worker.drop(self.client.client_id, "look")
            self.redraw()

    def move(self) -> None:
        """Go to the place along the path that the slider is at."""
        path = self._path(PLACES)
        self.stand(self.maker.stage.placed(path[min(max(0, int(self.panel.place.value)), PLACES - 1)]))

    def stand(self, camera: Cameras) -> None:
        """Look from a camera of the stage."""
        wxyz, position = browser_pose(camera)
        with self.client.atomic():
            self.client.camera.wxyz = wxyz.numpy()
            self.client.camera.position = position.numpy()
            self.client.camera.fov = field_of_view(camera)

    def record(self) -> None:
        """Take the place of the browser into the path."""
        if len(self._keys) >= MOST_PLACES:
            raise ValueError(f"path: expected at most {MOST_PLACES} places")
        self._keys.append(self.eye())
        self.tell(f"{len(self._keys)} places recorded")

    def forget(self) -> None:
        """Begin another path."""
        self._keys.clear()
        self.tell("no places recorded")

    def shoot(self) -> None:
        """Render the video along the path."""
        asked, path = settings(self.panel), self._path(int(self.panel.frames.value))
        fps = min(max(1.0, float(self.panel.fps.value)), 120.0)
        film = Film(path, asked.side, asked.mode, asked.choice, fps, asked.near, asked.far)
        self.panel.progress.visible = True
        self._progress(0.0)
        self._ask("film", film_pieces(self.maker, film, self._progress, self._filmed), Rank.FINE)

    def send_cameras(self) -> None:
        """Hand over the cameras along the path."""
        path = self._path(int(self.panel.frames.value))
        self._ask("cameras", self._once(lambda: self._send("transforms.json", cameras_json(path))), Rank.COARSE)

    def send_npy(self) -> None:
        """Hand over the depth that is shown, as numbers."""
        self._ask("npy", self._once(lambda: self._send("depth.npy", depth_npy(self._now().out.depth))), Rank.COARSE)

    def send_png(self) -> None:
        """Hand over the depth that is shown, as 16-bit picture."""
        self._ask("png", self._once(self._send_png), Rank.COARSE)

    def _path(self, frames: int) -> Cameras:
        name, keys = str(self.panel.path.value), tuple(self._keys)
        return _paths(name, self.rig, keys, self.maker.stage, frames)

    def _ask(self, kind: str, pieces, rank: Rank) -> None:
        self.worker.ask(self.client.client_id, kind, pieces, rank)

    @staticmethod
    def _once(action: Callable[[], None]):
        """A job of a single piece."""
        action()
        yield from ()

    # What the worker does

    def show(self, frame: Frame) -> None:
        """Show a rendering as it is so far."""
        if self.gone:
            return
        if frame.level == 0:
            self._scale = scale_of(frame.out)
        self._frame = frame
        self._draw()

    def _draw(self) -> None:
        if self.gone:
            return
        frame = self._frame  # which is gone with the browser, in the middle of this too
        if frame is None or not self.panel.shown.value:
            self.client.scene.set_background_image(None)
            return
        mode = mode_of(self.panel)
        self.client.scene.set_background_image(picture(frame.out, mode, self._scale), format="png")
        self.panel.status.content = caption(frame, mode, self._scale)

    def _now(self) -> Frame:
        frame = self._frame
        if frame is None:
            raise ValueError("depth: expected a rendering, there is none yet")
        return frame

    def _send_png(self) -> None:
        content, scale = depth_png(self._now().out.depth)
        self._send(f"depth16_scale_{scale:.9g}.png", content)

    def _send(self, name: str, content: bytes) -> None:
        if not self.gone:
            self.client.send_file_download(name, content)

    def _progress(self, share: float) -> None:
        if not self.gone:
            self.panel.progress.value = 100 * share

    def _filmed(self, content: bytes) -> None:
        if not self.gone:
            self.panel.progress.visible = False
            self._send("video.mp4", content)


@functools.lru_cache(maxsize=8)
def _paths(name: str, rig: Cameras, keys: tuple[Eye, ...], stage, frames: int) -> Cameras:
    return path_of(name, rig, keys, stage, frames)


def caption(frame: Frame, mode: str, scale: tuple[float | None, float | None]) -> str:
    """What is shown, in a line."""
    height, width = frame.out.opacity.shape
    parts = [f"{width} x {height} pixels{'' if frame.last else ' ...'}", f"views {', '.join(map(str, frame.sources))}"]
    if mode == "depth" and scale[0] is not None:
        parts.append(f"depth {scale[0]:.4g} (red) to {scale[1]:.4g} (blue)")
    return "  \n".join(parts)
