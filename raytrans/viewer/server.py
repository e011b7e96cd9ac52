"""The server: the scene that all browsers share, and one visit for each that looks."""

import logging
import socket
import warnings
from collections.abc import Hashable, Iterator
from typing import Any

import torch

from raytrans.geometry.cameras import Cameras
from raytrans.viewer.clouds import Points, cloud_pieces
from raytrans.viewer.frames import FrameMaker
from raytrans.viewer.sources import Choice, Sources
from raytrans.viewer.stage import Stage, browser_pose, distances, field_of_view, middle_camera
from raytrans.viewer.turns import Next, Rank
from raytrans.viewer.visit import Visit
from raytrans.viewer.worker import Worker

LOGGER = logging.getLogger(__name__)
THUMBNAIL = 64  # pixels of the long side
FRUSTUM, LARGEST_FRUSTUM = 0.3, 0.1  # size of a drawn camera: over the distance of its neighbour, and in the stage
LINE, POINT = 0.04, 0.004  # thickness of its lines over its size, and size of a point in the stage
SOURCE_COLOR, OTHER_COLOR = (0, 114, 178), (213, 94, 0)  # told apart by the colour-blind too


class Viewer:
    """Serves a scene to browsers until `stop`; `run` is the worker, to be called in the thread that may work.

    sources: the views of the scene with the model; count and side: source views and size of a picture at the start;
    host and port: where to listen, port 0 for any that is free. Raises ValueError where viser is absent, or where the
    port is taken.
    """

    def __init__(self, sources: Sources, count: int, side: int, host: str = "127.0.0.1", port: int = 8080):
        self.maker = FrameMaker(sources, Stage.of(sources.cameras))
        self.worker = Worker(self._failed, self.maker.clock)
        self.defaults = count, side
        self._visits: dict[int, Visit] = {}
        self.server = open_server(host, port)
        self.port = self.server.get_port()
        self._set_scene()
        self.server.on_client_connect(self._arrived)
        self.server.on_client_disconnect(self._left)

    @property
    def rig(self) -> Cameras:
        """The cameras of the scene, in the world."""
        return self.maker.sources.cameras

    @property
    def visits(self) -> tuple[Visit, ...]:
        """The browsers that look now."""
        return tuple(self._visits.values())

    def run(self) -> None:
        """Work for the browsers until `stop`, or until a KeyboardInterrupt."""
        self.worker.run()

    def stop(self) -> None:
        """Send the browsers away and end `run`."""
        self.worker.stop()
        for visit in self.visits:
            visit.leave()
        self.server.stop()

    def estimate(self, views: tuple[int, ...], count: int) -> None:
        """Fill in the points of some views when nobody waits, each estimated from `count` others."""
        self.worker.ask(None, "cloud", cloud_pieces(self.maker, views, count, self._show_points), Rank.IDLE)

    # The scene that all see

    def _set_scene(self) -> None:
        stage, server = self.maker.stage.placed(self.rig), self.server
        middle = middle_camera(self.rig)
        start = stage[middle]
        server.initial_camera.position = start.centers.numpy()
        server.initial_camera.look_at = (start.centers + start.forward).numpy()
        server.initial_camera.fov = field_of_view(start)
        with server.gui.add_folder("Scene"):
            cameras = server.gui.add_checkbox("Cameras", True)
            points = server.gui.add_checkbox("Points", True)
            size = server.gui.add_slider("Size of points", min=0.001, max=0.03, step=0.001, initial_value=POINT)
        self._frames = server.scene.add_frame("/cameras", show_axes=False)
        self._cloud = server.scene.add_frame("/points", show_axes=False)
        self._points: dict[int, Any] = {}
        self._point_size = size

        async def shown(_event) -> None:
            self._frames.visible, self._cloud.visible = cameras.value, points.value

        async def sized(_event) -> None:
            for handle in tuple(self._points.values()):
                handle.point_size = size.value

        cameras.on_update(shown)
        points.on_update(shown)
        size.on_update(sized)
        self._frustum = frustum_size(stage)
        self.worker.ask(None, "start", self._prepared(self.rig[middle]), Rank.IDLE)
        self.worker.ask(None, "cameras", self._cameras(stage), Rank.IDLE)

    def _prepared(self, camera: Cameras) -> Iterator[Next]:
        """A job that has the source views ready before the first browser comes."""
        sources = self.maker.sources
        sources.placed(sources.chosen(camera, Choice(count=min(self.defaults[0], len(sources.usable)))))
        yield from ()

    def _cameras(self, stage: Cameras) -> Iterator[Next]:
        """A job that draws one camera after the other, as their photographs may be many and large."""
        for index in range(len(stage)):
            self._add_camera(index, stage[index])
            yield Next(Rank.IDLE)

    def _add_camera(self, index: int, camera: Cameras) -> None:
        """A frustum with the photograph in it; a click looks from there."""
        usable = index in self.maker.sources.usable
        image = self.maker.sources.load([index]).resized(THUMBNAIL).image(0)
        wxyz, position = browser_pose(camera)
        handle = self.server.scene.add_camera_frustum(
            f"/cameras/{index}",
            field_of_view(camera),
            float(camera.width / camera.height),
            scale=self._frustum,
            thickness=LINE * self._frustum,
            color=SOURCE_COLOR if usable else OTHER_COLOR,
            image=(image.clamp(0, 1) * 255).round().byte().numpy(),
            wxyz=wxyz.numpy(),
            position=position.numpy(),
        )

        async def clicked(event) -> None:
            visit = self._visits.get(event.client_id)
            if visit is not None:
                visit.stand(camera)

        handle.on_click(clicked)

    def _show_points(self, index: int, points: Points) -> None:
        self._points[index] = self.server.scene.add_point_cloud(
            f"/points/{index}",
            points.positions,
            points.colors,
            point_size=self._point_size.value,
            point_shape="circle",
            point_shading="flat",
            precision="float32",
        )

    # Browsers come and go; in the event loop of viser

    async def _arrived(self, client) -> None:
        visit = Visit(client, self.maker, self.worker, self.rig, self.defaults)
        self._visits[client.client_id] = visit

    async def _left(self, client) -> None:
        visit = self._visits.pop(client.client_id, None)
        if visit is not None:
            visit.leave()

    def _failed(self, owner: Hashable, error: Exception) -> None:
        """Tell the browser whose job failed, else the log; in the thread of the worker."""
        visit = self._visits.get(owner)
        told = isinstance(error, (ValueError, OSError))
        if told and visit is not None:
            visit.failed(error)
        elif not told or owner is None:  # who has left is told nothing
            LOGGER.warning("viewer: %s: %s", type(error).__name__, error)


def frustum_size(cameras: Cameras) -> float:
    """How large cameras of the stage are drawn, so that neighbours do not hide each other."""
    nearest = [torch.where(apart > 0, apart, torch.inf).amin(-1) for apart in distances(cameras)]
    near = float(torch.cat(nearest).median())
    return min(LARGEST_FRUSTUM, FRUSTUM * near)


def open_server(host: str, port: int):
    """A ViserServer that listens there and nowhere else; ValueError where viser is absent or the port is taken."""
    try:
        import rich
        import viser
    except ImportError as error:
        raise ValueError(f"the viewer needs viser ({error}); install the extra `view`") from error
    check_free(host, port)
    # it would write of every connection; the package logs, and only tools print
    rich.get_console().quiet = True
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", "Queued a .* on a closed connection")  # who leaves in this moment misses nothing
    server = viser.ViserServer(host=host, port=port, label="raytrans", verbose=False)
    if port and server.get_port() != port:  # somebody was faster; viser goes on to the next
        server.stop()
        raise ValueError(f"port: expected a free one, got {port}, which is taken")
    # any browser could ask for a tunnel that shows the scene to the world
    server.request_share_url = _refuse_to_share
    server.gui.configure_theme(show_share_button=False)
    return server


def _refuse_to_share(*_arguments, **_options) -> None:
    LOGGER.warning("viewer: a browser asked to share the scene with the world: refused")


def check_free(host: str, port: int) -> None:
    """Raise ValueError where nobody can listen at a port: viser itself would take another one, or wait for ever."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except OSError as error:
        named = f"port {port} of {host}"
        raise ValueError(f"port: expected a free one, got {named} ({error.strerror or error})") from error
