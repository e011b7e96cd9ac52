"""The viewer in a real browser: headless Chromium, whose own pixels are looked at."""

import asyncio
import gc
import random
import threading
import time

import cv2
import numpy as np
import pytest
import torch
from viser import ClientHandle

from raytrans.apps.captures import Capture
from raytrans.apps.view import sources_of
from raytrans.data.readers import open_scene
from raytrans.training.checkpoint import load
from raytrans.viewer.clouds import Points
from raytrans.viewer.frames import Frame
from raytrans.viewer.pictures import picture
from raytrans.viewer.server import Viewer
from raytrans.viewer.visit import Visit

WIDTH, HEIGHT = 640, 360
SEEN = (slice(170, 300), slice(0, 290))  # where no panel, no notice and no axes are


@pytest.fixture(scope="module")
def viewer(run_viewer, scenes):
    capture = Capture(open_scene(scenes / "blocks"), 3, 64)
    with run_viewer(Viewer(sources_of(load(None, "cpu"), capture), 3, 64, port=0)) as made:
        made._frames.visible = False  # the cameras, which would stand before the picture
        yield made


@pytest.fixture(scope="module")
def page(viewer, chromium):
    page = chromium.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    page.goto(f"http://127.0.0.1:{viewer.port}/")
    page.get_by_text("pixels").wait_for(timeout=60_000)
    yield page
    page.close()


def shot(page) -> np.ndarray:
    """What the browser shows, (H, W, 3)."""
    image = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_COLOR)
    return image[:, :, ::-1]


def rendered(viewer) -> np.ndarray:
    """The finest picture of the one browser, as large as its window, once it is there."""
    (visit,) = viewer.visits
    until(lambda: not viewer.worker.waiting() and visit._frame is not None and visit._frame.last)
    found = picture(visit._frame.out, visit.panel.mode.value, visit._scale)
    return cv2.resize(found, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Mean difference of two pictures, in levels, where nothing else is."""
    return float(np.abs(a[SEEN].astype(float) - b[SEEN]).mean())


def until(true, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.4)


def test_the_rendering_is_shown(viewer, page):
    wanted = rendered(viewer)
    until(lambda: difference(shot(page), wanted) < 6)
    shown = shot(page)
    for wrong in (wanted[::-1], wanted[:, ::-1], np.full_like(wanted, wanted.mean())):
        assert difference(shown, wrong) > 12


def test_it_changes_when_the_camera_moves_and_in_another_mode(viewer, page):
    before, shown = rendered(viewer), shot(page)
    (visit,) = viewer.visits
    eye = visit.eye()
    page.mouse.move(100, 250)
    page.mouse.down()
    page.mouse.move(220, 230, steps=4)
    page.mouse.up()
    until(lambda: visit.eye() != eye)
    until(lambda: difference(rendered(viewer), before) > 6)
    until(lambda: difference(shot(page), rendered(viewer)) < 6)
    assert difference(shot(page), shown) > 6
    page.get_by_role("combobox", name="Mode").click()
    page.get_by_role("option", name="depth").click()
    until(lambda: visit.panel.mode.value == "depth")
    until(lambda: difference(shot(page), rendered(viewer)) < 6)
    page.get_by_text("(red)").wait_for()


def test_the_slider_moves_along_the_path(viewer, page):
    (visit,) = viewer.visits
    eye = visit.eye()
    slider = page.get_by_role("slider").last
    slider.press("ArrowRight")
    until(lambda: visit.panel.place.value > 0 and visit.eye() != eye)
    path = viewer.maker.stage.placed(visit._path(120))
    wanted = path.centers[int(visit.panel.place.value)].numpy()
    until(lambda: np.abs(np.array(visit.eye().position) - wanted).max() < 1e-3)


def test_points_are_drawn_where_the_rendering_has_them(viewer, page):
    """A point in three dimensions and the pixel where `project` puts it have one place on the screen."""
    rendered(viewer)
    (visit,) = viewer.visits
    frame, stage = visit._frame, viewer.maker.stage
    height, width = frame.out.opacity.shape
    pixel = torch.tensor([0.3 * width, 0.7 * height], dtype=torch.float64).round() + 0.5
    ray = frame.camera.pixel_rays(pixel)
    point = stage.from_world.apply(ray.origin + ray.direction / stage.scale)
    viewer._show_points(0, Points(point[None].float().numpy(), np.array([[255, 0, 255]], np.uint8)))
    viewer._points[0].point_size = 0.03
    color = torch.zeros(height, width, 3)
    column, row = (pixel - 0.5).long().tolist()
    color[row - 1 : row + 2, column - 1 : column + 2] = torch.tensor([0.0, 1.0, 0.0])
    visit.panel.mode.value = "colour"
    painted = frame.out.map(torch.clone)
    painted.color = color
    shown = Frame(frame.camera, painted, frame.sources, height, 1, True)
    visit.show(shown)

    def centre(channels: list[bool]) -> np.ndarray:
        """The middle of what is bright in these channels alone, NaN where that is nothing."""
        found = np.argwhere(((shot(page)[SEEN] > 100) == channels).all(-1))
        corner = [SEEN[0].start + 0.5, SEEN[1].start + 0.5]
        return (found.mean(0) + corner)[::-1] if len(found) > 3 else np.full(2, np.nan)

    wanted = pixel.numpy() * [WIDTH / width, HEIGHT / height]
    until(lambda: np.abs(centre([True, False, True]) - wanted).max() < 2)
    viewer._cloud.visible = False
    until(lambda: np.isnan(centre([True, False, True])).all())

    def painted_in_place() -> bool:
        visit.show(shown)  # again, where a rendering that was under way has come after it
        return np.abs(centre([False, True, False]) - wanted).max() < 2

    until(painted_in_place)
    for other in (
        [WIDTH, HEIGHT] - wanted,
        wanted + [0, HEIGHT / height],
    ):  # upside down, a pixel off: it would be seen
        assert np.abs(other - wanted).max() > 4
    viewer._cloud.visible = True


def tasks_of(viewer) -> int:
    """How many things the event loop of the server is at."""
    return sum(not task.done() for task in asyncio.all_tasks(viewer.server.get_event_loop()))


def remaining() -> list:
    """What is left in memory of clients."""
    return [one for one in gc.get_objects() if type(one) in (Visit, ClientHandle)]


def test_nothing_is_left_of_twenty_clients(serving, chromium, crowded, viewer, page):
    """The page of the other tests stays; twenty more come to another server and leave while they are rendered for."""
    draw, tasks, threads, before = random.Random(0), tasks_of(serving), set(threading.enumerate()), remaining()
    assert crowded(chromium, serving.port, draw) > 1
    until(lambda: not serving.visits and not serving.worker.waiting() and serving.server.get_clients() == {})
    until(lambda: tasks_of(serving) == tasks)
    assert set(threading.enumerate()) == threads
    until(lambda: gc.collect() is not None and len(remaining()) == len(before))
