"""Tables of the pages: every number as the commands wrote it, of one checkpoint."""

import json

import pytest

from raytrans.apps import cli
from raytrans.apps import results as app

METHODS = {"model": 20.0, "nearest": 10.0, "mean": 15.0, "sweep": 12.5}


def scores(scene, shift, depth):
    known = {"depth_median": 0.0123, "depth_mean": 0.0456, "depth_close": 0.789}
    rows = {
        m: {"psnr": v + shift, "ssim": v / 100, **(known if depth else dict.fromkeys(known))}
        for m, v in METHODS.items()
    }
    return {"scene": scene, "protocol": "I/I", "worst_margin": 1.25, "views": [{}, {}], **rows}


@pytest.fixture
def files(tmp_path):
    weights = {"checkpoint_hash": "abcdef0123456789"}
    captures = [scores("data/fox", 0.0, False), scores("data/gum", 2.0, False)]
    captures[1]["sweep"]["psnr"] = 21.0
    contract = {"world_motion": {"error": 2.5e-7, "tolerance": 1e-4, "passed": True}}
    values = {
        "generated": {"scenes": [scores("easy", 1.0, True)], "sources": 8, "max_size": 200},
        "real": {"scenes": [*captures, {"protocol": "I/SE3"}], "sources": 8, "max_size": 160},
        "contracts": {
            "contracts": contract,
            "reported": {"mirror": {"error": 0.42}},
            "scene": "generated",
            "dtype": "float64",
            "size": [72, 96],
        },
        "photographs": {
            "contracts": {"world_motion": {"error": 5e-6, "tolerance": 1e-3, "passed": True}},
            "reported": {},
            "scene": "data/fox",
            "dtype": "float32",
            "size": [57, 32],
        },
        "speed": {
            "machine": {"threads": 1},
            "speed": {
                "named": {"rendering": {"rays_per_cpu_second": 5123.4, "cpu_seconds": 3.2, "peak_memory_bytes": 529e6}}
            },
        },
    }
    for name, value in values.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(value | weights))
    (tmp_path / "page.md").write_text("before\n<!-- numbers -->\n<!-- /numbers -->\nafter\n")
    return tmp_path


def command(files, *more):
    names = ["--quality", "generated", "real", "--contracts", "contracts", "photographs", "--speed", "speed"]
    return [n if n.startswith("--") else str(files / f"{n}.json") for n in names] + list(more)


def test_every_number_is_in_the_page(files):
    assert cli.run(app.main, app.parser(), command(files, "--write", str(files / "page.md"))) == 0
    lines = (files / "page.md").read_text().splitlines()
    assert lines[0] == "before" and lines[-1] == "after"
    for line in (
        "| `easy`, 2 views | raytrans | **21.00** | 0.200 | 1.2 % | 4.6 % | 78.9 % | +1.25 dB |",
        "|  | plane sweep | 12.50 | 0.125 |  |  |  |  |",
        "| mean of 2 captures | raytrans | **21.00** | 0.200 |  |  |  |  |",
        "|  | best of the three in each | 18.00 |  |  |  |  |  |",  # (15 + 21) / 2
        "| row | tolerance, float64 | tolerance, float32 | generated, float64, 96 x 72 | fox, float32, 32 x 57 |",
        "| `world_motion` | 1e-04 | 1e-03 | 2e-07 | 5e-06 |",
        "| `mirror` | reported | reported | 0.42 | - |",
        "| rendering | 5123 | 3.2 | 529 MB |",
        "Weights with SHA-256 abcdef012345.",
    ):
        assert line in lines
    assert any("the long side of captures is 160 pixels" in line for line in lines)


def test_numbers_of_two_checkpoints_are_refused(files, capsys):
    speed = json.loads((files / "speed.json").read_text())
    (files / "speed.json").write_text(json.dumps(speed | {"checkpoint_hash": "0" * 64}))
    before = (files / "page.md").read_text()
    assert cli.run(app.main, app.parser(), command(files, "--write", str(files / "page.md"))) == 2
    assert "expected numbers of one checkpoint, got those of 000000000000, abcdef012345" in capsys.readouterr().err
    assert (files / "page.md").read_text() == before


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"checkpoint_hash": "abcdef0123456789"}'])
def test_other_files_are_refused(files, capsys, text):
    (files / "real.json").write_text(text)
    assert cli.run(app.main, app.parser(), command(files)) == 2
    assert "expected" in capsys.readouterr().err
