"""Source views: chosen as asked, encoded once, and the same as `encode` makes of them."""

import pytest
import torch

import raytrans
from raytrans.viewer.sources import KEPT_SETS, Choice, Sources, parse_views


def test_views_one_by_one_are_what_encode_makes_of_them_together(sources, views, model):
    chosen = (1, 3, 4)
    ours, whole = sources.placed(chosen), raytrans.encode(model, views[list(chosen)])
    for name in ("colors", "fine", "match", "context"):
        for a, b in zip(getattr(ours, name), getattr(whole, name), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-4)
    out, expected = (raytrans.render(model, encoded, views.cameras[0]) for encoded in (ours, whole))
    torch.testing.assert_close(out.color, expected.color, rtol=0, atol=1e-4)
    other = raytrans.render(model, sources.placed((2, 3, 4)), views.cameras[0])
    assert float((other.color - expected.color).abs().max()) > 1e-3  # the measure sees another set


def test_every_view_is_encoded_once_and_every_set_placed_once(model, views, monkeypatch):
    loads, places = [], []
    monkeypatch.setattr(model, "place", lambda *a, real=model.place: places.append(1) or real(*a))
    sources = Sources(model, views.cameras, range(7), lambda i: loads.append(i[0]) or views[i])
    first = sources.placed((0, 1, 2))
    assert sources.placed((0, 1, 2)) is first
    sources.placed((1, 2, 3))
    assert loads == [0, 1, 2, 3] and len(places) == 2
    sources.placed((0, 1, 3), keep=False)
    sources.placed((0, 1, 3), keep=False)
    assert len(loads) == 4 and len(places) == 4
    for k in range(KEPT_SETS):
        sources.placed((k % 7,) if k < 7 else (0, 6))
    assert sources.placed((0, 1, 2)) is not first  # too long ago


def test_choices(sources, views):
    camera = views.cameras[0]
    near = sources.chosen(camera, Choice("nearest", 3))
    assert near == tuple(sorted(views_nearest(views, camera, 3))) and len(near) == 3
    assert sources.chosen(camera, Choice("all")) == (1, 2, 3, 4, 5, 6)
    assert sources.chosen(camera, Choice("pick", picked=(2, 5))) == (2, 5)
    assert len(sources.chosen(camera, Choice("nearest", 99))) == 6
    assert 2 not in sources.around(2, 6) and 0 not in sources.around(2, 6)


def views_nearest(views, camera, count):
    return raytrans.data.nearest(views.cameras, camera, count, exclude=[0])


def test_a_set_at_hand_does_for_a_coarse_picture(sources):
    assert sources.at_hand((1, 2, 3, 4)) == (1, 2, 3, 4)
    sources.placed((1, 2, 5, 6))
    assert sources.at_hand((1, 2, 3, 4)) == (1, 2, 5, 6)
    assert sources.at_hand((2, 3, 4)) == (2, 3, 4)  # less than half of it
    sources.placed((1, 2, 3, 4))
    assert sources.at_hand((1, 2, 3, 4)) == (1, 2, 3, 4)


def test_lists_of_views_are_read():
    usable = (1, 2, 3, 5, 6, 9)
    assert parse_views("1, 3,9", usable) == (1, 3, 9)
    assert parse_views("2-6, 1", usable) == (1, 2, 3, 5, 6)
    for text in ("", "0", "1-4", "x", "1;2", "6-2", "-1", "1 2", "²"):
        with pytest.raises(ValueError, match="views: expected"):
            parse_views(text, usable)


def test_without_views_there_are_no_sources(model, views):
    with pytest.raises(ValueError, match="sources: expected at least one view"):
        Sources(model, views.cameras, (), views.__getitem__)
