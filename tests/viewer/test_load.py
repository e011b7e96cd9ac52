"""The viewer under load: twenty clients at a time, one of them Chromium, that leave in the middle of their renderings.

`make view-load`: over 200 cycles the memory and the threads of `tools/view.py` are watched, and written to
out/view_load.json. A short version, which looks inside the server, is in test_browser.py.
"""

import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from raytrans.export.files import write_json
from raytrans.models.config import model_config
from raytrans.rendering.renderer import Renderer
from raytrans.training.checkpoint import save_model

ROOT = Path(__file__).resolve().parents[2]
CYCLES, FIRST = 200, 50
GROWTH = 0.05


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
def test_memory_and_threads_stay_over_200_cycles(tool, crowded, chromium):
    run, port = tool
    process, rows, draw, pictures = psutil.Process(run.pid), [], random.Random(1), 0
    for number in range(1, CYCLES + 1):
        pictures += crowded(chromium, port, draw)
        assert run.poll() is None
        memory, threads = process.memory_info().rss, process.num_threads()
        rows.append({"cycle": number, "memory_bytes": memory, "threads": threads, "pictures": pictures})
        if number % 10 == 0:
            write_json(ROOT / "out" / "view_load.json", {"cycles": rows})
    early, late = rows[FIRST - 1], rows[-1]
    assert late["pictures"] > 2 * CYCLES
    assert late["threads"] == early["threads"]
    assert late["memory_bytes"] <= (1 + GROWTH) * early["memory_bytes"], json.dumps([early, late])
