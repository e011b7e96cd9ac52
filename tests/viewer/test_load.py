"""The viewer under load: twenty clients at a time, one of them Chromium, that leave in the middle of their renderings.

The short test looks inside a server of this process; the slow one (`make view-load`) watches the memory and the threads
of `tools/view.py` over 200 cycles, and writes what it measured to out/view_load.json.
"""

import asyncio
import contextlib
import gc
import json
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch
from viser import ClientHandle

from raytrans.export.files import write_json
from raytrans.models.config import model_config
from raytrans.rendering.renderer import Renderer
from raytrans.training.checkpoint import save_model
from raytrans.viewer.visit import Visit

ROOT = Path(__file__).resolve().parents[2]
CLIENTS, CYCLES, FIRST = 20, 200, 50
GROWTH = 0.05


@contextlib.asynccontextmanager
async def browser(program: str, arguments: list[str]):
    """A headless Chromium for this event loop."""
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        made = await playwright.chromium.launch(executable_path=program, args=arguments)
        yield made
        await made.close()


def tasks_of(viewer) -> int:
    """How many things the event loop of the server is at."""
    return sum(not task.done() for task in asyncio.all_tasks(viewer.server.get_event_loop()))


async def look(bare, port: int, draw: random.Random, patience: float) -> int:
    """One client: asks for more than it waits for, and vanishes without a word. How many pictures it waited for."""
    async with bare(port) as client:
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


async def cycle(bare, chromium, port: int, draw: random.Random) -> int:
    """Twenty clients come and go; how many pictures they waited for, the one of Chromium among them."""
    page = await chromium.new_page(viewport={"width": 240, "height": 160})
    await page.goto(f"http://127.0.0.1:{port}/")
    patience = [60.0, *(draw.uniform(0.2, 2.0) for _ in range(CLIENTS - 2))]  # one sees something, however busy it is
    counts = await asyncio.gather(*(look(bare, port, draw, seconds) for seconds in patience))
    await page.get_by_text("pixels").wait_for(timeout=60_000)
    await page.close()
    return 1 + sum(counts)


def until(true, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)


def remaining() -> list:
    """What is left in memory of clients."""
    return [one for one in gc.get_objects() if isinstance(one, (Visit, ClientHandle))]


def idle(viewer) -> bool:
    return not viewer.visits and not viewer.worker.waiting() and viewer.server.get_clients() == {}


def test_nothing_is_left_of_twenty_clients(serving, bare, chromium_program):
    program, arguments = chromium_program
    draw, pictures = random.Random(0), []
    tasks, threads = tasks_of(serving), set(threading.enumerate())

    async def cycles():
        async with browser(program, arguments) as chromium:
            for _ in range(2):
                pictures.append(await cycle(bare, chromium, serving.port, draw))
                await asyncio.to_thread(until, lambda: idle(serving) and tasks_of(serving) == tasks)

    asyncio.run(cycles())
    assert min(pictures) > 1 and set(threading.enumerate()) == threads
    until(lambda: gc.collect() is not None and not remaining())


def heed_interrupts() -> None:
    """Shells let what runs in the background ignore Ctrl-C, and that is inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def tool(tmp_path, scenes):
    """`tools/view.py` of a tiny model, with its port; interrupted at the end."""
    torch.manual_seed(0)
    save_model(tmp_path / "tiny.safetensors", Renderer(model_config("tiny")))
    arguments = [scenes / "blocks", "--checkpoint", tmp_path / "tiny.safetensors", "--port", 0, "--max-size", 48]
    command = [sys.executable, ROOT / "tools/view.py", *arguments, "--sources", 3, "--cloud-views", 3]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    run = subprocess.Popen(list(map(str, command)), **pipes, preexec_fn=heed_interrupts)
    line = run.stdout.readline()
    yield run, int(line.rsplit(":", 1)[1])
    run.send_signal(signal.SIGINT)
    try:
        out, err = run.communicate(timeout=60)
    finally:
        run.kill()
    assert (run.returncode, out, err) == (130, "", "view: error: interrupted\n")


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_memory_and_threads_stay_over_200_cycles(tool, bare, chromium_program):
    run, port = tool
    process, rows = psutil.Process(run.pid), []
    draw = random.Random(1)

    def measured(number: int, sent: int) -> dict:
        memory = process.memory_info().rss
        return {"cycle": number, "memory_bytes": memory, "threads": process.num_threads(), "pictures": sent}

    async def cycles():
        async with browser(*chromium_program) as chromium:
            sent = 0
            for number in range(1, CYCLES + 1):
                sent += await cycle(bare, chromium, port, draw)
                assert run.poll() is None
                rows.append(measured(number, sent))
                if number % 10 == 0:
                    write_json(ROOT / "out" / "view_load.json", {"clients": CLIENTS, "cycles": rows})

    asyncio.run(cycles())
    early, late = rows[FIRST - 1], rows[-1]
    assert late["pictures"] > CYCLES
    assert late["threads"] == early["threads"]
    assert late["memory_bytes"] <= (1 + GROWTH) * early["memory_bytes"], json.dumps([early, late])
