"""What the viewer is tried on: a tiny model with random weights, and a small drawn scene."""

import asyncio
import contextlib
import random
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
import torch
import viser
import zstandard
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from raytrans.data.generate import generated_scene
from raytrans.data.views import Views
from raytrans.models.config import model_config
from raytrans.rendering.renderer import Renderer
from raytrans.viewer.server import Viewer
from raytrans.viewer.sources import Sources

COUNT, USABLE = 7, (1, 2, 3, 4, 5, 6)


@pytest.fixture(scope="session")
def drawn():
    return generated_scene(7, "easy", (20, 24), COUNT)


@pytest.fixture(scope="session")
def model() -> Renderer:
    torch.manual_seed(0)
    made = Renderer(model_config("tiny"))
    with torch.no_grad():
        for p in made.parameters():
            p += 0.05 * torch.randn_like(p)
    return made.eval()


@pytest.fixture
def views(drawn) -> Views:
    return Views(drawn.images, drawn.cameras)


@pytest.fixture
def sources(model, views) -> Sources:
    return Sources(model, views.cameras, USABLE, views.__getitem__)


def _decoded(content: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


class Bare:
    """A client without a browser: viser's handshake and messages over a websocket, for use in an `async with`."""

    def __init__(self, port: int):
        self.port, self.controls = port, {}

    async def __aenter__(self) -> "Bare":
        protocol = Subprotocol(f"viser-v{viser.__version__}")
        url = f"ws://127.0.0.1:{self.port}"
        self.socket = await connect(url, subprotocols=[protocol], compression=None, max_size=None)
        return self

    async def __aexit__(self, *_) -> None:
        await self.socket.close()

    def vanish(self) -> None:
        """Break the connection without a word."""
        self.socket.transport.abort()

    async def send(self, kind: str, **values) -> None:
        await self.socket.send(msgspec.msgpack.encode({"type": kind, **values}))

    async def stand(self, wxyz, position, fov=0.9, size=(64, 48), **changes) -> None:
        """Say where the camera is, in the stage."""
        values = {"wxyz": list(map(float, wxyz)), "position": list(map(float, position)), "fov": fov}
        values |= {"near": 0.01, "far": 100.0, "image_width": size[0], "image_height": size[1]}
        values |= {"look_at": [0.0, 0.0, 0.0], "up_direction": [0.0, 0.0, 1.0], **changes}
        await self.send("ViewerCameraMessage", **values)

    async def messages(self, seconds: float = 30.0) -> list[dict]:
        """The next that come together, each as a dictionary."""
        raw = await asyncio.wait_for(self.socket.recv(), seconds)
        size, packed = (int.from_bytes(raw[i : i + 8], "little") for i in (0, 8))
        inner = zstandard.ZstdDecompressor().decompress(raw[16 : 16 + packed], size)
        found = msgspec.msgpack.decode(inner)["messages"]
        for message in found:
            props = message.get("props")
            if message["type"].startswith("Gui") and isinstance(props, dict) and "label" in props:
                self.controls[props["label"]] = message["uuid"]
        return found

    async def until(self, wanted: str, test=lambda message: True) -> dict:
        """The next message of a type that passes a test; those before it are gone."""
        while True:
            for message in await self.messages():
                if message["type"] == wanted and test(message):
                    return message

    async def picture(self) -> np.ndarray:
        """The next picture behind the scene, (H, W, 3)."""
        message = await self.until("BackgroundImageMessage", lambda one: one["rgb_data"] is not None)
        return _decoded(message["rgb_data"])

    async def settled(self) -> np.ndarray:
        """The last picture of where the client is: the one before the line that says so."""
        latest = None
        while True:
            for message in await self.messages():
                if message["type"] == "BackgroundImageMessage" and message["rgb_data"] is not None:
                    latest = message["rgb_data"]
                line = message.get("updates", {}).get("_markdown", "...")
                if latest is not None and "pixels" in line and "..." not in line:
                    return _decoded(latest)

    async def download(self) -> tuple[str, bytes]:
        """Name and content of the next file that is sent."""
        name, content = None, b""
        while True:
            for message in await self.messages():
                if message["type"] == "FileTransferStartDownload":
                    name, missing = message["filename"], message["part_count"]
                elif message["type"] == "FileTransferPart":
                    content, missing = content + message["content"], missing - 1
                    if not missing:
                        return name, content

    async def turn(self, label: str, value) -> None:
        """Set a control by its label."""
        await self.send("GuiUpdateMessage", uuid=self.controls[label], updates={"value": value})


@pytest.fixture(scope="session")
def bare():
    """Makes clients without a browser, by the port of the server."""
    return Bare


@pytest.fixture(scope="module")
def serving(model, drawn):
    """Serves the drawn scene in this process until the module is done; sizes of at most 64 pixels at the start."""
    views = Views(drawn.images, drawn.cameras)
    with _running(Viewer(Sources(model, views.cameras, USABLE, views.__getitem__), 3, 64, port=0)) as viewer:
        yield viewer


@pytest.fixture(scope="session")
def run_viewer():
    """Runs a viewer in a thread as long as the block lasts."""
    return _running


@contextlib.contextmanager
def _running(viewer: Viewer):
    runner = threading.Thread(target=viewer.run)
    runner.start()
    try:
        yield viewer
    finally:
        viewer.stop()
        runner.join(20)
    assert not runner.is_alive()


@pytest.fixture(scope="session")
def scenes() -> Path:
    """The folder of the shipped scenes."""
    return Path(__file__).resolve().parents[2] / "scenes"


CHROMIUM = (
    *("--headless", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--use-gl=angle", "--use-angle=swiftshader"),
    "--enable-unsafe-swiftshader",
)


@pytest.fixture(scope="session")
def chromium_program() -> tuple[str, list[str]]:
    """The Chromium of the system and its arguments; skips, saying so, where there is none."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("there is no Chromium here: `make browser` installs it")
    return program, list(CHROMIUM)


@pytest.fixture(scope="module")
def chromium(chromium_program):
    """A headless Chromium."""
    from playwright.sync_api import sync_playwright

    program, arguments = chromium_program
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


CLIENTS = 20


async def look(port: int, draw: random.Random, patience: float) -> int:
    """One client: asks for more than it waits for, and vanishes without a word. How many pictures it waited for."""
    async with Bare(port) as client:
        pictures = 0

        async def wait(seconds: float) -> None:
            nonlocal pictures
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(client.picture(), seconds)
                pictures += 1

        place = [draw.uniform(-0.5, 0.5) for _ in range(3)]
        await client.stand([0.64, -0.77, 0.0, 0.0], place, size=(160, 120))
        await wait(patience)
        if "Size" in client.controls:
            await client.turn("Mode", draw.choice(["colour", "depth", "opacity", "spread"]))
            await client.turn("Size", 1024)
            await client.turn("Nearest", draw.randint(1, 4))
            await client.turn("Place", draw.randint(1, 119))
            await client.turn(draw.choice(["Render a video", "Depth as .npy", "Record this place"]), True)
            if draw.random() < 0.5:
                await wait(2.0)  # what it asked for is under way
        client.vanish()
        return pictures


async def crowd(port: int, draw: random.Random) -> int:
    """Nineteen clients come and go; how many pictures they waited for."""
    patience = [60.0, *(draw.uniform(0.2, 2.0) for _ in range(CLIENTS - 2))]  # one sees something, however busy it is
    return sum(await asyncio.gather(*(look(port, draw, seconds) for seconds in patience)))


@pytest.fixture(scope="session")
def crowded():
    """Lets twenty clients come and go, one a page of a Chromium; how many pictures they waited for."""

    def cycle(chromium, port: int, draw: random.Random) -> int:
        page = chromium.new_page(viewport={"width": 240, "height": 160})
        page.goto(f"http://127.0.0.1:{port}/")
        with ThreadPoolExecutor(1) as other:  # playwright has the event loop of this thread
            pictures = other.submit(asyncio.run, crowd(port, draw)).result()
        page.get_by_text("pixels").wait_for(timeout=60_000)
        page.close()
        return 1 + pictures

    return cycle
