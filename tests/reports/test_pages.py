"""Pages of the commands: whole, harmless, with the numbers of the JSON and charts of just these."""

import math

import pytest
import torch

import raytrans
from raytrans.data.generate import generated_scene
from raytrans.reports.evaluation import evaluation_page, protocol_bars, psnr_bars
from raytrans.reports.inspection import pair_bars
from raytrans.reports.pictures import Shown
from raytrans.reports.rendering import PixelPictures, pixel_plots, rendering_page, ringed, roll_bars, source_bars
from raytrans.reports.training import training_page
from raytrans.reports.verification import contract_bars, verification_page

EVIL = "<script>alert('x')</script>\"><img src=http://evil.example/a.png>"
FACTS = {"checkpoint": EVIL, "checkpoint_hash": "0123456789abcdef", "seed": 0, "scene": EVIL}


@pytest.fixture(scope="module")
def scene(textures_once):
    return generated_scene(5, "easy", (12, 16), 4)


def pixel() -> dict:
    sources = [
        {"view": 7, "angle": 2.0, "distance": 3.5, "place": [4.0, 5.0], "share": 0.75, "attention": 0.5, "fade": 1.0},
        {"view": 2, "angle": 31.0, "distance": 1.5, "place": None, "share": 0.25, "attention": 0.5, "fade": 0.0},
    ]
    rolls = [
        {"degrees": 90, "color": [0.1, 0.2, 0.3], "depth": 2.5, "change": 1e-7},
        {"degrees": 180, "color": [0.1, 0.2, 0.3], "depth": None, "change": 0.0},
    ]
    return {
        **{"picture": 0, "x": 3, "y": 4, "color": [0.1, 0.2, 0.3], "depth": 2.5, "distance": 2.625, "spread": 0.125},
        **{"opacity": 0.875, "distances": [1.0, 2.0, 50.0, None], "weights": [0.125, 0.5, 0.25, 0.0625]},
        **{"sources": sources, "rolls": rolls, "tolerance": 1e-4},
    }


def rendered(scene, **changes) -> tuple[dict, list[Shown], PixelPictures]:
    row = {"number": 0, "view": 3, "psnr": 21.25, "psnr_nearest": 14.5, "opacity": 0.9375, "sources": [7, 2]}
    values = {"psnr": 21.25, "psnr_nearest": 14.5, "ssim": None, "depth_abs_rel": None, "depth_median": None}
    values |= {**FACTS, "views": [row], "rays_per_second": 1234.0, "peak_memory_bytes": 5e8, "seconds": 7.0}
    values |= {"pixel": pixel(), **changes}
    shown = [Shown(EVIL, scene.images[0], scene.depth[0], scene.images[1], None)]
    views = raytrans.Views(scene.images[1:3], scene.cameras[1:3])
    return values, shown, PixelPictures(scene.images[0], scene.cameras[0], views)


def test_a_rendering_shows_its_numbers_and_needs_nothing_else(scene, read_html):
    values, shown, pictures = rendered(scene)
    reader = read_html(rendering_page(values, shown, pictures).html())
    assert reader.lacks_nothing() and reader.of("h1") == [f"Rendering of {EVIL}"]
    numbers = reader.numbers()
    assert numbers[:2] == ["21.25", "14.5"]
    assert numbers[2:8] == ["0", "3", "21.25", "14.5", "0.9375", "2"]
    assert numbers[8:20] == ["7", "2", "3.5", "0.75", "0.5", "1", "2", "31", "1.5", "0.25", "0.5", "0"]
    assert numbers[20:26] == ["90", "0.1", "0.2", "0.3", "2.5", "1e-07"]
    captions = reader.of("figcaption")
    assert "view 7: 0.750" in captions and "view 2: 0.250" in captions
    assert any("1 is background (0.0625)" in text.replace("of 1", "1") for text in reader.of("p"))


def test_charts_of_a_pixel_hold_its_numbers():
    values = pixel()
    weights, angles, distances = pixel_plots(values)
    assert list(zip(*weights.parts[0], strict=True)) == [(1.0, 0.125), (2.0, 0.5), (50.0, 0.25)]
    assert weights.log_x and "units of the poses" in weights.x_label
    assert angles.parts[0] == ([2.0, 31.0], [0.75, 0.25]) and "degrees" in angles.x_label
    assert distances.parts[0] == ([3.5, 1.5], [0.75, 0.25]) and distances.labels == ["7", "2"]
    values["distances"] = [1.0, 2.0, 3.0, None]
    assert not pixel_plots(values)[0].log_x
    assert source_bars(values["sources"]).groups == {"share": [0.75, 0.25], "attention": [0.5, 0.5]}
    rolls = roll_bars(values)
    assert rolls.groups == {"change": [1e-7, 0.0]} and rolls.limits == [1e-4, 1e-4] and rolls.logarithmic


def test_a_pixel_that_knows_no_lengths_has_no_charts_of_them(scene, read_html):
    values, shown, pictures = rendered(scene)
    one = values["pixel"]
    one |= {"distances": [None] * 4, "depth": None, "distance": None, "spread": None}
    one["sources"] = [row | {"angle": None, "distance": None, "place": None} for row in one["sources"]]
    assert pixel_plots(one) == []
    reader = read_html(rendering_page(values, shown, pictures).html())
    assert any("z-depth unknown" in text for text in reader.of("p")) and reader.lacks_nothing()


def test_a_ring_is_drawn_around_the_place():
    picture = ringed(torch.zeros(20, 30, 3), (12.5, 7.5))
    scale = picture.shape[1] / 30
    rows, columns = (picture.sum(-1) > 100).nonzero()
    assert abs(columns.mean() / scale - 12.5) < 0.3 and abs(rows.mean() / scale - 7.5) < 0.3
    assert not ringed(torch.zeros(20, 30, 3), (float("nan"), 1.0)).any()


def verified(**changes) -> dict:
    contracts = {
        "world_motion": {"error": 3e-7, "tolerance": 1e-4, "passed": True},
        "scale": {"error": 0.5, "tolerance": 1e-4, "passed": False},
    }
    values = {**FACTS, "dtype": "float32", "sources": 3, "size": [12, 16], "passed": False}
    return {**values, "contracts": contracts, "reported": {"mirror": {"error": 0.25}}, **changes}


def test_a_verification_shows_every_row_and_names_what_is_broken(scene, read_html):
    views = raytrans.Views(scene.images[1:], scene.cameras[1:])
    reader = read_html(verification_page(verified(), views).html())
    assert reader.lacks_nothing() and "Broken: scale." in reader.of("p")
    assert reader.numbers() == ["3e-07", "0.0001", "0.5", "0.0001", "0.25"]
    assert len(reader.sources) == 1 + 3
    assert "Every contract holds." in read_html(verification_page(verified(passed=True), views).html()).of("p")


def test_bars_of_contracts_are_their_errors_beside_their_tolerances():
    chart = contract_bars(verified())
    assert list(chart.names) == ["world_motion", "scale", "mirror"] and chart.logarithmic
    assert chart.groups == {"kept": [3e-7, None, None], "broken": [None, 0.5, None], "reported": [None, None, 0.25]}
    assert chart.limits == [1e-4, 1e-4, None]


def evaluated() -> dict:
    def method(psnr: float) -> dict:
        return {"psnr": psnr, "ssim": 0.5, "depth_median": None, "depth_mean": None, "depth_close": None}

    def scene(name: str, protocol: str, psnr: float) -> dict:
        row = {"scene": name, "protocol": protocol, "worst_margin": 1.5, "views": [{"view": "0"}]}
        return row | {"model": method(psnr), "nearest": method(psnr - 4)}

    scenes = [scene("a/one", "I/I", 20.0), scene("a/one", "I/roll", 19.0), scene(EVIL, "I/I", 30.0)]
    return {**FACTS, "scenes": [*scenes, scene(EVIL, "I/roll", 29.5)], "sources": 8, "max_size": 200}


def test_an_evaluation_has_a_row_for_each_scene_protocol_and_method(scene, read_html):
    shown = {"a/one": [Shown("view 0", scene.images[0], scene.depth[0], scene.images[1], scene.depth[1])], EVIL: []}
    shown[EVIL] = shown["a/one"]
    values = evaluated()
    reader = read_html(evaluation_page(values, ("model", "nearest"), shown).html())
    assert reader.lacks_nothing() and reader.of("h2") == ["Scenes", "a/one", EVIL]
    expected = []
    for one in values["scenes"]:
        expected += ["1", f"{one['model']['psnr']:.4g}", "0.5", "1.5", "1", f"{one['nearest']['psnr']:.4g}", "0.5"]
    assert reader.numbers() == expected
    assert psnr_bars(values["scenes"], ("model", "nearest")).groups == {"model": [20.0, 30.0], "nearest": [16.0, 26.0]}
    assert protocol_bars(values["scenes"], "model").groups == {"I/I": [20.0, 30.0], "I/roll": [19.0, 29.5]}


def test_a_training_shows_where_its_curves_begin_and_end(read_html):
    lines = [{"step": s, "color": 1.0 / s, "held-out/psnr": 20.0 + s if s > 4 else None} for s in (2, 4, 6)]
    reader = read_html(training_page(EVIL, {"start": EVIL, "seed": 3}, lines).html())
    assert reader.lacks_nothing() and len(reader.sources) == 1
    assert reader.numbers() == ["3", "2", "0.5", "6", "0.1667", "6", "26", "6", "26"]
    empty = read_html(training_page("run", {}, []).html())
    assert empty.sources == [] and "Nothing is logged yet." in empty.of("p")


def test_bars_of_pairs_are_those_of_the_worst():
    rows = [{"views": [i, i + 1], "matches": 9, "median": 30.0 - i if i else math.nan} for i in range(25)]
    chart = pair_bars(rows)
    assert len(chart.names) == 20 and chart.names[1] == "views 1 and 2"
    assert chart.groups["median"] == [None, *(30.0 - i for i in range(1, 20))]
