"""Frames: coarse at once, finer when the camera rests, at the end what `render` gives, dropped in between."""

from dataclasses import replace

import pytest
import torch

import raytrans
from raytrans.viewer import frames, ladder
from raytrans.viewer.frames import REST, FrameMaker, Wish, resized
from raytrans.viewer.sources import Choice
from raytrans.viewer.stage import Eye, Stage
from raytrans.viewer.turns import Next, Rank


@pytest.fixture
def maker(sources, monkeypatch) -> FrameMaker:
    monkeypatch.setattr(ladder, "COARSEST", 8)
    monkeypatch.setattr(ladder, "LARGEST_FIRST", 8)
    return FrameMaker(sources, Stage.of(sources.cameras))


@pytest.fixture
def wish(maker) -> Wish:
    eye = Eye.of(maker.stage.placed(maker.sources.cameras)[0], 64, 48, 0.9)
    return Wish(eye, 30, Choice("nearest", 3), asked=10.0)


def test_coarse_at_once_then_finer_when_the_camera_rests(maker, wish, monkeypatch):
    monkeypatch.setattr(ladder.Pace, "piece", lambda self: 150)
    shown = []
    said = list(maker.pieces(wish, shown.append))
    shapes = [tuple(frame.out.opacity.shape) for frame in shown]
    assert shapes[0] == (6, 8) and shapes[-1] == (23, 30) and shapes == sorted(shapes)
    assert [frame.level for frame in shown] == sorted(frame.level for frame in shown)
    assert shown[0].level == 0 and [frame.last for frame in shown] == [False] * (len(shown) - 1) + [True]
    assert said[0] == Next(Rank.FINE, 10.0 + REST) and {step.rank for step in said} == {Rank.FINE}
    assert len(shown) > len(set(shapes))  # the finest came in bands
    assert not any(torch.equal(a.out.color, b.out.color) for a, b in zip(shown, shown[1:], strict=False))


def test_the_last_frame_is_the_rendering(maker, wish, model, views):
    shown = []
    for _ in maker.pieces(wish, shown.append):
        pass
    camera = maker.stage.camera(wish.eye, 30)
    expected = raytrans.render(model, views[list(shown[-1].sources)], camera)
    for name in ("color", "opacity", "depth", "spread"):
        torch.testing.assert_close(
            getattr(shown[-1].out, name), getattr(expected, name), rtol=1e-3, atol=1e-4, equal_nan=True
        )
    assert float((shown[0].out.color.mean((0, 1)) - expected.color.mean((0, 1))).abs().max()) < 0.1
    turned = raytrans.render(model, views[list(shown[-1].sources)], camera.rolled(3.1416))
    assert float((shown[-1].out.color - turned.color).abs().max()) > 0.01  # the measure sees one upside down


def test_rows_above_are_new_and_those_below_are_coarse(maker, wish, monkeypatch):
    monkeypatch.setattr(ladder.Pace, "piece", lambda self: 150)
    shown = []
    for _ in maker.pieces(wish, shown.append):
        pass
    final = shown[-1]
    part = next(frame for frame in shown if frame.level == final.level and frame.known < 23)
    before = next(frame for frame in reversed(shown) if frame.level == final.level - 1)
    assert torch.equal(part.out.color[: part.known], final.out.color[: part.known])
    coarse = resized(before.out, 23, 30)
    assert torch.equal(part.out.color[part.known :], coarse.color[part.known :])


def test_a_job_that_is_dropped_renders_no_more(maker, wish, monkeypatch):
    rendered = []
    monkeypatch.setattr(maker, "rows", lambda *a, real=maker.rows: rendered.append(a[2]) or real(*a))
    job = maker.pieces(wish, lambda frame: None)
    next(job)
    job.close()
    assert len(rendered) == 1


def test_bounds_of_depth_hold(maker, wish):
    free, bound = [], []
    for shown, asked in ((free, wish), (bound, replace(wish, near=1e-3, far=0.5 / maker.stage.scale))):
        for _ in maker.pieces(asked, shown.append):
            pass
    nearer, known = bound[-1].out.depth, torch.isfinite(free[-1].out.depth)
    limit = 0.5 / maker.stage.scale
    assert float(free[-1].out.depth[known].max()) > 1.1 * limit
    assert float(nearer[torch.isfinite(nearer)].max()) < 1.1 * limit


def test_another_choice_of_sources_is_another_picture(maker, wish):
    ends = []
    for choice in (Choice("nearest", 3), Choice("all"), Choice("pick", picked=(2,))):
        shown = []
        for _ in maker.pieces(replace(wish, choice=choice), shown.append):
            pass
        ends.append(shown[-1])
    assert [len(end.sources) for end in ends] == [3, 6, 1]
    assert all(float((ends[0].out.color - end.out.color).abs().max()) > 1e-3 for end in ends[1:])


def test_the_whole_in_bands(maker, wish, model):
    camera = maker.stage.camera(wish.eye, 30)
    encoded = maker.sources.placed((1, 2, 3))
    maker.pace.rate = 100.0
    *steps, out = maker.whole(encoded, camera)
    assert steps == [None] * len(steps) and steps
    expected = raytrans.render(model, encoded, camera)
    torch.testing.assert_close(out.color, expected.color, rtol=0, atol=1e-4)


def test_weights_that_give_no_numbers_are_refused(maker, wish, monkeypatch):
    real = frames.render

    def broken(*arguments):
        out = real(*arguments)
        out.color[0, 0] = float("nan")
        return out

    monkeypatch.setattr(frames, "render", broken)
    with pytest.raises(ValueError, match="finite colours"):
        list(maker.pieces(wish, lambda frame: None))
