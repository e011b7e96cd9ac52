"""The server as a client sees it, without a browser: pictures, controls, downloads, and who may connect."""

import asyncio
import gc
import io
import logging
import math
import socket
import sys
import time
import weakref

import cv2
import numpy as np
import psutil
import pytest
import torch
import websockets
from websockets.asyncio.client import connect

import raytrans
from raytrans.viewer.pictures import picture
from raytrans.viewer.server import Viewer, check_free, frustum_size
from raytrans.viewer.sources import Choice
from raytrans.viewer.stage import Eye, browser_pose


def pose(viewer: Viewer, index: int) -> tuple[list, list]:
    wxyz, position = browser_pose(viewer.maker.stage.placed(viewer.rig)[index])
    return wxyz.tolist(), position.tolist()


def expected(viewer: Viewer, index: int, chosen, mode: str = "colour", side: int = 64) -> np.ndarray:
    """What `render` makes of the view, by its own way."""
    camera = viewer.maker.stage.camera(Eye.of(viewer.maker.stage.placed(viewer.rig)[index], 64, 48, 0.9), side)
    views = viewer.maker.sources.load(list(chosen))
    return picture(raytrans.render(viewer.maker.sources.model, views, camera), mode)


def test_a_picture_comes_and_changes_with_the_camera(serving, bare):
    async def looks():
        async with bare(serving.port) as client:
            await client.stand(*pose(serving, 0))
            coarse = await client.picture()
            first = await client.settled()
            await client.stand(*pose(serving, 5))
            return coarse, first, await client.settled()

    coarse, first, second = asyncio.run(looks())
    assert max(coarse.shape) <= 64 and first.shape == second.shape == (48, 64, 3)
    sources = serving.maker.sources
    for index, found in ((0, first), (5, second)):
        wanted = expected(serving, index, sources.chosen(serving.rig[index], sources_of(serving, 3)))
        assert np.abs(found.astype(int) - wanted).max() <= 2
        assert np.abs(found[::-1].astype(int) - wanted).max() > 10  # the measure sees one upside down
    assert np.abs(first.astype(int) - second).max() > 10


def sources_of(viewer: Viewer, count: int):
    return Choice("nearest", count)


def test_modes_and_sources_and_bounds_follow_the_controls(serving, bare):
    async def looks():
        found = {}
        async with bare(serving.port) as client:
            await client.stand(*pose(serving, 0))
            found["colour"] = await client.settled()
            for mode in ("depth", "opacity", "spread", "colour"):
                await client.turn("Mode", mode)
                found[mode + " again"] = await client.picture()
            await client.turn("Which", "all")
            found["all"] = await client.settled()
            await client.turn("Picked", "2, 5-6")
            await client.picture()
            await client.turn("Which", "pick")
            found["picked"] = await client.settled()
            (visit,) = serving.visits
            found["sources"] = visit._frame.sources
            await client.turn("Mode", "depth")
            await client.picture()
            await client.turn("Far", 0.5 / serving.maker.stage.scale)
            await client.settled()
            found["depths"] = serving.maker.stage.scale * visit._frame.out.depth
        return found

    found = asyncio.run(looks())
    np.testing.assert_array_equal(found["colour"], found["colour again"])
    pictures = [found[name] for name in ("colour", "depth again", "opacity again", "spread again", "all", "picked")]
    for i, a in enumerate(pictures):
        assert all(np.abs(a.astype(int) - b).max() > 10 for b in pictures[:i])
    assert np.ptp(found["opacity again"], -1).max() == 0  # grey
    assert found["sources"] == (2, 5, 6)
    assert float(found["depths"].nan_to_num().max()) < 0.6  # random weights see further than the bound
    assert np.abs(found["all"].astype(int) - expected(serving, 0, range(1, 7))).max() <= 2


def test_a_click_on_a_camera_looks_from_there(serving, bare):
    async def clicks():
        async with bare(serving.port) as client:
            await client.stand(*pose(serving, 0))
            await client.settled()
            event = {"instance_index": None, "ray_origin": [0.0] * 3, "ray_direction": [0.0, 0.0, 1.0]}
            event |= {"screen_pos": [0.5, 0.5], "modifier": None, "owner": ""}
            await client.send("SceneNodeClickMessage", name="/cameras/4", **event)
            return (await client.until("SetCameraPositionMessage"))["position"]

    np.testing.assert_allclose(asyncio.run(clicks()), pose(serving, 4)[1], atol=1e-6)


def test_the_slider_moves_the_camera_along_the_path(serving, bare):
    async def slides():
        async with bare(serving.port) as client:
            await client.stand(*pose(serving, 0))
            await client.settled()
            places = []
            for place in (0, 60):
                await client.turn("Place", place + 1)
                places.append((await client.until("SetCameraPositionMessage"))["position"])
            return places

    first, second = asyncio.run(slides())
    path = raytrans.geometry.paths.orbit(serving.rig, 120)
    placed = serving.maker.stage.placed(path).centers
    np.testing.assert_allclose(first, placed[1], atol=1e-6)
    np.testing.assert_allclose(second, placed[61], atol=1e-6)


def test_depth_and_video_and_cameras_are_sent(serving, bare):
    async def takes():
        files = {}
        async with bare(serving.port) as client:
            await client.stand(*pose(serving, 0))
            await client.settled()
            await client.turn("Size", 32)
            await client.settled()
            await client.turn("Frames", 2)
            await client.turn("Along", "recorded")
            for index in (0, 2):
                await client.stand(*pose(serving, index))
                await client.picture()
                await client.turn("Record this place", True)
                await client.until("NotificationShowMessage")
            for label in ("Depth as .npy", "Depth as .png", "Cameras as .json", "Render a video"):
                await client.turn(label, True)
                files[label] = await client.download()
            (visit,) = serving.visits
            return files, visit._frame.out.depth

    files, depth = asyncio.run(takes())
    name, content = files["Depth as .npy"]
    assert name == "depth.npy" and np.load(io.BytesIO(content)).dtype == np.float32
    name, content = files["Depth as .png"]
    steps = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    scale = float(name.removeprefix("depth16_scale_").removesuffix(".png"))
    assert steps.shape == tuple(depth.shape) and steps.max() == 65535
    known = torch.isfinite(depth).numpy()
    np.testing.assert_allclose(steps[known] * scale, depth.numpy()[known], atol=2 * scale)
    assert b"transform_matrix" in files["Cameras as .json"][1]
    assert files["Render a video"][1][4:8] == b"ftyp"


def test_nonsense_is_told_or_passed_over(serving, bare):
    async def tries():
        told = []
        async with bare(serving.port) as client:
            await client.stand(*pose(serving, 0))
            await client.settled()
            await client.stand([math.nan] * 4, [0.0, 0.0, 0.0])
            await client.stand([0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0])
            await client.stand(*pose(serving, 0), size=(0, 0))
            await client.stand(*pose(serving, 0))
            wrong = {"Mode": "x", "Which": "y", "Far": -1.0, "Place": 3}
            right = {"Mode": "colour", "Which": "nearest", "Far": 0.0}
            await client.turn("Along", "nowhere")
            for label, value in wrong.items():
                await client.turn(label, value)
                while (body := (await client.until("NotificationShowMessage"))["props"]["body"]) in told:
                    pass  # said once more, of what came before
                told.append(body)
                if label in right:
                    await client.turn(label, right[label])
            await client.stand(*pose(serving, 5))
            return told, await client.settled()

    told, last = asyncio.run(tries())
    assert [text.split(":")[0] for text in told] == ["mode", "sources", "near, far", "path"]
    assert np.ptp(last) > 10


def test_who_leaves_is_forgotten(serving, bare):
    async def leaves(vanish: bool):
        async with bare(serving.port) as client:
            await client.stand(*pose(serving, 3), size=(1024, 768))
            await client.picture()
            await client.turn("Size", 1024)  # minutes of work
            await client.picture()
            (visit,) = serving.visits
            if vanish:
                client.vanish()
            return weakref.ref(visit), weakref.ref(visit.client)

    for vanish in (True, False):
        kept = asyncio.run(leaves(vanish))
        until(lambda: not serving.visits and not serving.worker.waiting())
        until(lambda kept=kept: gc.collect() is not None and [one() for one in kept] == [None, None])
        assert serving.server.get_clients() == {}


def until(true, seconds: float = 30.0) -> None:
    """Wait for something to become true; fails where it does not."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)


def test_only_this_machine_is_served(serving):
    with socket.create_connection(("127.0.0.1", serving.port), 5):
        pass
    listening = [c for c in psutil.Process().net_connections() if c.status == "LISTEN" and c.laddr.port == serving.port]
    assert [c.laddr.ip for c in listening] == ["127.0.0.1"]


def test_nobody_can_share_the_scene_with_the_world(serving, bare, caplog):
    async def shares():
        async with bare(serving.port) as client:
            await client.stand(*pose(serving, 0))
            await client.send("ShareUrlRequest")
            await client.picture()

    with caplog.at_level(logging.WARNING):
        asyncio.run(shares())
        until(lambda: "refused" in caplog.text)
    assert serving.server._share_tunnel is None


def test_another_version_of_the_client_is_sent_away(serving):
    async def tries():
        async with connect(f"ws://127.0.0.1:{serving.port}", subprotocols=["viser-v0.0.1"]) as client:
            with pytest.raises(websockets.exceptions.ConnectionClosed):
                await asyncio.wait_for(client.recv(), 10)

    asyncio.run(tries())


def test_a_port_that_is_taken_is_refused(serving):
    with pytest.raises(ValueError, match=f"port: expected a free one, got port {serving.port} of 127.0.0.1"):
        check_free("127.0.0.1", serving.port)
    with pytest.raises(ValueError, match="port: expected a free one"):
        check_free("nowhere.invalid", 0)
    check_free("127.0.0.1", 0)


def test_without_viser_the_extra_is_named(serving, monkeypatch):
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(ValueError, match="needs viser .* install the extra `view`"):
        Viewer(serving.maker.sources, 3, 64, port=0)


def test_drawn_cameras_do_not_hide_each_other(serving):
    placed = serving.maker.stage.placed(serving.rig)
    assert 0 < frustum_size(placed) <= 0.1
    assert frustum_size(placed[[0]]) > 0 and math.isfinite(frustum_size(placed[[0, 0]]))


def test_a_browser_that_leaves_while_it_is_drawn_for_is_no_error(serving, bare, caplog):
    """In the middle of a piece of work, as the event loop may do at any moment."""

    async def looks():
        async with bare(serving.port) as client:
            await client.stand(*pose(serving, 0))
            await client.settled()
            (visit,) = serving.visits
            return visit, visit._frame

    visit, frame = asyncio.run(looks())
    until(lambda: visit.gone)
    visit.gone = False  # the check was a moment before
    with caplog.at_level(logging.WARNING):
        visit.show(frame)
        visit._frame = None
        visit._draw()
        with pytest.raises(ValueError, match="depth: expected a rendering"):
            visit._now()
        serving._failed(visit.client.client_id, ValueError("too late"))
    assert caplog.text == ""
    serving._failed(visit.client.client_id, KeyError("a mistake of ours"))
    assert "a mistake of ours" in caplog.text
