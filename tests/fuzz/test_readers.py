"""Every reader, given files damaged by hypothesis and all that ever broke one, keeps the contract of `contract.py`."""

import logging
from pathlib import Path

import jaxtyping
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.contract import faults
from tests.fuzz.mutations import mutate
from tests.fuzz.surfaces import SURFACES, damage, prepared

EXAMPLES = 60
CORPUS = Path(__file__).with_name("corpus")
KEPT = sorted(path for path in CORPUS.rglob("*") if path.is_file())
CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]


@pytest.fixture(params=SURFACES)
def surface(request, tmp_path, monkeypatch):
    """Name, folder, files and how they are read, after a valid input was, so that nothing is imported later."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # users have no checks of annotations
    logging.getLogger("raytrans").setLevel(logging.CRITICAL)
    folder, files = prepared(request.param, tmp_path)
    read = SURFACES[request.param].read
    if request.param == "picture":
        read(folder, next(file for file in files if file.name == "d.png"))  # the only one that may be depth too
    else:
        for file in files:
            read(folder, file)
    yield request.param, folder, files, read
    logging.getLogger("raytrans").setLevel(logging.NOTSET)


def broken(surface, data: bytes) -> list[str]:
    """Faults of one input; the valid file is put back."""
    _, folder, files, read = surface
    file = files[data[0] % len(files)] if data else files[0]
    before = file.read_bytes()
    try:
        damage(files, data)
        return faults(lambda: read(folder, file), folder)
    finally:
        file.write_bytes(before)


def test_damaged_files_break_nothing(surface):
    originals = [file.read_bytes() for file in surface[2]]

    @settings(max_examples=EXAMPLES, suppress_health_check=CHECKS)
    @given(which=st.integers(0, len(originals) - 1), random=st.randoms(use_true_random=False))
    def holds(which, random):
        data = bytes([which]) + mutate(random, originals[which])
        assert broken(surface, data) == []

    holds()


def test_what_was_kept_breaks_nothing(surface):
    for path in KEPT:
        if path.parent.name == surface[0]:
            assert broken(surface, path.read_bytes()) == [], path.name


def test_every_surface_has_a_corpus_and_every_corpus_a_surface():
    assert {path.parent.name for path in KEPT} == set(SURFACES)
    assert sum(path.stat().st_size for path in KEPT) < 400_000
