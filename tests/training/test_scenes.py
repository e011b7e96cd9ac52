"""Scenes on disk as training data: read when needed, kept within bounds, stepped over where they are spoiled."""

import json
import logging
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from raytrans.apps.make_scenes import write_generated
from raytrans.data.generate import generated_scene
from raytrans.data.readers import open_scene
from raytrans.export.shards import scene_members, write_shards
from raytrans.processes import Processes
from raytrans.rendering.renderer import Renderer
from raytrans.training import loop
from raytrans.training.checkpoint import read_tensors, write_tensors
from raytrans.training.config import DataConfig, OptimConfig, train_config
from raytrans.training.feed import Carried, Feed
from raytrans.training.loop import STATE, RunOptions, train
from raytrans.training.samples import PATIENCE, POOL, SampleStream, draw_sample
from raytrans.training.scenes import Captured

SCENES = 12
OPTIONS = {"folder_share": 1.0, "sources": (2, 2), "rays": 8, "reuse": 2, "workers": 0}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    """A dozen small scenes of four views, each in a folder."""
    out = tmp_path_factory.mktemp("captures")
    drawn = generated_scene(0, "easy", (12, 12), 4)
    for number in range(SCENES):  # the same in other light
        images = [image * (1 - 0.05 * number) for image in drawn.images]
        write_generated(out / f"{number:02d}", replace(drawn, images=torch.stack(images)))
    return out


@pytest.fixture(scope="module")
def shards(folders, tmp_path_factory) -> Path:
    """The same scenes in a few shards, with depth."""
    out = tmp_path_factory.mktemp("shards")
    paths = sorted(folders.iterdir())
    write_shards(out, (scene_members(open_scene(p), p.name, with_depth=True) for p in paths), megabytes=0.05)
    assert len(list(out.iterdir())) > 2
    return out


@pytest.fixture
def spoiled(folders, tmp_path) -> tuple[Path, set[int]]:
    """The folders, three of them spoiled, and the numbers of those."""
    out = tmp_path / "captures"
    shutil.copytree(folders, out)
    image = out / "03" / "images" / "0001.png"
    image.write_bytes(image.read_bytes()[:200])
    (out / "07" / "transforms.json").write_text('{"frames": ')
    meta = json.loads((out / "08" / "transforms.json").read_text())
    for frame in meta["frames"]:
        frame["transform_matrix"] = meta["frames"][0]["transform_matrix"]
    (out / "08" / "transforms.json").write_text(json.dumps(meta))
    return out, {3, 7, 8}


def config(*, folders: Path | None = None, shards: Path | None = None, **options) -> DataConfig:
    named = {"folders": (f"{folders}/*",)} if folders else {}
    named |= {"shards": (f"{shards}/*.tar",)} if shards else {}
    return DataConfig(**{**OPTIONS, **named, **options})


def same(a, b) -> bool:
    """Whether two samples are the same to the last bit."""
    views = all(torch.equal(x, y) for x, y in zip(a.views.images, b.views.images, strict=True))
    return views and torch.equal(a.color, b.color) and torch.equal(a.rays.origin, b.rays.origin)


def test_a_scene_is_the_same_from_a_folder_and_from_a_shard(folders, shards):
    one, two = Captured(config(folders=folders)), Captured(config(shards=shards))
    both = Captured(config(folders=folders, shards=shards))
    assert len(one) == len(two) == SCENES and len(both) == 2 * SCENES
    for number in (5, 0, SCENES - 1):
        whole = open_scene(folders / f"{number:02d}")
        train = whole.split("train")
        for found in (one[number], two[number], both[number], both[SCENES + number]):
            assert len(found.images) == len(train) == 3 and not found.sky
            assert all(torch.equal(a, whole.image(i)) for a, i in zip(found.images, train, strict=True))
            expected = whole.cameras[train].world_from_camera
            torch.testing.assert_close(found.cameras.world_from_camera, expected, rtol=0, atol=1e-12)
        assert one[number].depth is None
        for depth, i in zip(two[number].depth, train, strict=True):
            torch.testing.assert_close(depth, whole.depth(i), rtol=0, atol=2e-4, equal_nan=True)


def test_unknown_depth_of_captures_is_not_the_sky_and_teaches_nothing(shards):
    data = config(shards=shards, rays=64)
    scene = Captured(data)[2]
    scene.depth[0][:] = torch.nan
    for depth in scene.depth[1:]:
        depth[:4] = torch.nan
    samples = [draw_sample(scene, data, np.random.default_rng(seed)) for seed in (0, 1, 11)]
    shown = [torch.cat([one.distance, *(depth.flatten() for depth in one.source_distance)]) for one in samples]
    assert all(bool(depth.isnan().any()) and not bool(depth.isinf().any()) for depth in shown)
    model, optim = Renderer(train_config({"size": "tiny"}).model), OptimConfig()
    terms = [loop.sample_losses(model, one, optim, torch.Generator().manual_seed(0)) for one in samples]
    assert all(bool(torch.isfinite(value)) for one in terms for value in one.values())
    assert {"depth" in one for one in terms} == {True, False}  # the first view has none at all
    sky = draw_sample(replace(scene, sky=True), data, np.random.default_rng(0))
    assert not any(bool(depth.isnan().any()) for depth in [sky.distance, *sky.source_distance])


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_as_many_numbers_as_scenes_have_every_scene_once_in_an_order_of_their_own(folders, share, monkeypatch):
    drawn = generated_scene(0, "easy", (12, 12), 4)
    monkeypatch.setattr("raytrans.training.samples.mixture_scene", lambda *_: drawn)

    class Asked:
        """Scenes that note which were asked for."""

        def __init__(self, scenes):
            self.scenes, self.asked = scenes, []

        def __len__(self):
            return len(self.scenes)

        def __getitem__(self, number):
            self.asked.append(number)
            return self.scenes[number]

    data = config(folders=folders, folder_share=share, sizes=(12,), views=4)
    scenes, epochs = list(Captured(data)), []
    for epoch in range(3):
        asked = Asked(scenes)
        stream = SampleStream(data, 5, 1, scenes)
        stream.captured = asked
        for number in range(epoch * SCENES, (epoch + 1) * SCENES):
            stream.load(number)
        epochs.append(asked.asked)
    assert all(max(Counter(epoch).values()) == 1 for epoch in epochs)
    assert all(len(epoch) == SCENES for epoch in epochs) if share == 1 else 6 < sum(map(len, epochs)) < 30
    assert epochs[0] != epochs[1] != epochs[2]


@pytest.mark.parametrize("kind", ["folders", "shards"])
def test_samples_are_functions_of_seed_and_step_whoever_draws_them(folders, shards, kind):
    data = config(**{kind: {"folders": folders, "shards": shards}[kind]}, cache=1)
    steps = 20
    whole = [SampleStream(data, 3, steps, Captured(data))[step] for step in range(steps)]
    late = SampleStream(data, 3, steps, Captured(data))
    assert all(same(late[step], whole[step]) for step in (17, 2, 9))
    drawn = list(Feed(loop._loader(SampleStream(data, 3, steps, Captured(data)), 11, 2)))
    assert [number for number, _ in drawn] == list(range(11, steps))
    assert all(same(a, b) for (_, a), b in zip(drawn, whole[11:], strict=True))
    data = replace(data, batch=2)
    pairs, one = SampleStream(data, 3, 4, Captured(data)), Processes()
    for one.rank, one.count in ((0, 2), (1, 2)):
        share = dict(loop._loader(pairs, 1, 0, one))
        assert list(share) == [2 + one.rank, 4 + one.rank, 6 + one.rank]
        assert all(same(share[number], pairs[number]) for number in share)
    assert not same(pairs[2], pairs[3])


def test_memory_is_bounded_by_what_is_kept_not_by_the_number_of_scenes(shards, monkeypatch):
    data = config(shards=shards, cache=3, reuse=1)
    captured, read = Captured(data), []
    load = captured.load.function
    captured.load.function = lambda number: read.append(number) or load(number)
    stream, held = SampleStream(data, 0, 4 * SCENES, captured), 0
    for step in range(len(stream)):
        stream[step]
        held = max(held, len(captured.load.values))
        assert len(stream.load.values) <= POOL and len(captured.load.values) <= 3
    assert held == 3 and set(read) == set(range(SCENES)) and len(read) >= 3 * SCENES
    roomy = Captured(config(shards=shards, cache=SCENES))
    again = SampleStream(data, 0, 4 * SCENES, roomy)
    assert all(same(again[step], stream[step]) for step in (0, 30, 47))


def test_spoiled_scenes_are_stepped_over_counted_and_logged_once(spoiled, caplog):
    folders, bad = spoiled
    data, steps = config(folders=folders), 64
    stream = SampleStream(data, 0, steps, Captured(data))
    feed = Feed(loop._loader(stream, 0, 0))
    drawn = [sample for _, sample in feed]
    assert len(drawn) == steps and set(feed.skipped) == bad and feed.facts()["skipped"] == 3
    told = [record.getMessage() for record in caplog.records if record.name == "raytrans.training.feed"]
    words = {
        3: ("03/images/0001.png", "broken or cut"),
        7: ("07/transforms.json", "JSON"),
        8: ("08", "different places"),
    }
    assert len(told) == 3
    for number in bad:
        assert sum(all(word in line for word in words[number]) for line in told) == 1
    caplog.clear()
    workers = Feed(loop._loader(SampleStream(data, 0, steps, Captured(data)), 0, 2))
    assert all(same(a, b) for (_, a), b in zip(workers, drawn, strict=True))
    assert workers.skipped == feed.skipped and len(caplog.records) == 3
    whole = {number for number in range(SCENES)} - bad
    skipped = [number for sample in drawn for number, _ in sample.skipped]
    assert set(skipped) == bad and not set(skipped) & whole


@pytest.mark.parametrize("workers", [0, 1])
def test_where_nothing_can_be_read_training_ends_with_one_sentence(tmp_path, workers):
    for number in range(3):
        (tmp_path / "captures" / str(number)).mkdir(parents=True)
    data = config(folders=tmp_path / "captures", workers=workers)
    with pytest.raises(ValueError) as caught:
        next(Feed(loop._loader(SampleStream(data, 0, 4, Captured(data)), 0, workers)))
    text = str(caught.value)
    assert text.startswith("data: 3 of 3 scenes") and "not a scene" in text and "\n" not in text


def test_it_gives_up_after_so_many_in_a_row():
    class Broken:
        tried = 0

        def __len__(self):
            return 10**9

        def __getitem__(self, number):
            Broken.tried += 1
            raise ValueError("spoiled")

    stream = SampleStream(config(), 0, 1, [])
    stream.captured = Broken()
    stream.permutation = lambda epoch: range(10**9)
    with pytest.raises(ValueError, match=f"{PATIENCE} of 1000000000 scenes .* the first: spoiled"):
        stream[0]
    assert Broken.tried == PATIENCE


@pytest.mark.parametrize(("error", "carried"), [(ValueError("spoiled"), True), (ZeroDivisionError(), False)])
def test_loaders_carry_mistakes_of_files_and_no_others(error, carried):
    class Broken:
        def __len__(self):
            return 1

        def __getitem__(self, number):
            raise error

    stream = SampleStream(config(), 0, 1, [])
    stream.captured = Broken()
    if carried:
        assert "the first: spoiled" in str(Carried(stream)[0])
    else:
        with pytest.raises(ZeroDivisionError):
            Carried(stream)[0]


def test_training_on_shards_goes_on_where_it_stopped_bit_for_bit(shards, tmp_path, caplog):
    caplog.set_level(logging.INFO, "raytrans")
    values = {
        "size": "tiny",
        "data": {**OPTIONS, "sources": [2, 2], "shards": [f"{shards}/*.tar"]},
        "optim": {"steps": 6, "warmup": 2},
        "log": {"checkpoint_every": 3},
    }
    settings = train_config(values)

    def losses(out: Path, resume: bool = False, **options) -> dict[int, float]:
        found: dict[int, float] = {}

        def report(step, terms):
            found[step] = terms["total"]
            assert terms["waited"] >= 0 and {"depth", "sweep"} <= set(terms)
            if options.get("stop") == step:
                raise KeyboardInterrupt

        train(settings, RunOptions(out, resume=resume), Captured(settings.data), None, report)
        return found

    whole = losses(tmp_path / "whole")
    assert f"scenes on disk: {SCENES} for 100% of the scenes" in caplog.text
    with pytest.raises(KeyboardInterrupt):
        losses(tmp_path / "parts", stop=4)
    tensors, metadata = read_tensors(tmp_path / "parts" / STATE)
    assert metadata["config"]["data"]["cache"] == 16
    del metadata["config"]["data"]["cache"]  # an earlier version knew of none
    write_tensors(tmp_path / "parts" / STATE, tensors, metadata)
    assert losses(tmp_path / "parts", resume=True) == {step: whole[step] for step in (5, 6)}


def test_a_state_of_a_version_that_knew_no_shards_goes_on():
    old = {name: value for name, value in loop._plain(train_config({"size": "tiny"}))["data"].items()}
    del old["shards"], old["cache"]
    new = loop._plain(train_config({"size": "tiny"}))
    assert loop._experiment(new | {"data": old}) == loop._experiment(new)
    other = loop._plain(train_config({"size": "tiny", "data": {"shards": ["a.tar"], "folder_share": 0.5}}))
    assert loop._experiment(other) != loop._experiment(new)


def test_shards_that_would_not_be_used_are_refused():
    with pytest.raises(ValueError, match="folder_share: expected more than 0 where shards names some"):
        DataConfig(shards=("a.tar",))
    with pytest.raises(ValueError, match="cache: expected an integer of at least 1"):
        DataConfig(cache=0)


def test_named_folders_are_opened_at_once_and_found_ones_later(spoiled):
    folders, _ = spoiled
    for number, words in ((7, "07/transforms.json: not valid JSON"), (8, "data.folders: .*08: .* different places")):
        with pytest.raises(ValueError, match=words):
            Captured(DataConfig(**OPTIONS, folders=(f"{folders}/{number:02d}",)))
    with pytest.raises(ValueError, match="data.folders: .*x\\*: expected folders, found none"):
        Captured(DataConfig(**OPTIONS, folders=(f"{folders}/x*",)))
    found = Captured(DataConfig(**OPTIONS, folders=(f"{folders}/{{00..02}}", f"{folders}/0[78]")))
    assert [isinstance(one, Path) for one in found.folders] == [False] * 3 + [True] * 2
    for number in (3, 4):
        for _ in range(2):
            with pytest.raises(ValueError, match="JSON|different places"):
                found[number]
    assert np.array_equal(found[0].images[0], open_scene(folders / "00").image(1))
