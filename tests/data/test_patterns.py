"""Texts that stand for many paths, beside the package that WebDataset expands braces with."""

from pathlib import Path

import pytest
from webdataset.shardlists import expand_urls

from raytrans.data.patterns import expanded, is_pattern, paths_of

TEXTS = ["a", "a{0..3}.tar", "a{000..127}.tar", "a{8..11}b{x,y}", "{train,extra}/{00..01}.tar", "a{9..10}"]


@pytest.mark.parametrize("text", [*TEXTS, "a{09..10}", "a{3..1}"])
def test_braces_stand_for_what_webdataset_takes_them_for(text):
    assert expanded(text) == expand_urls(text)


def test_what_is_no_choice_stays():
    assert expanded("a{b}c{0..1}") == ["a{b}c0", "a{b}c1"]


@pytest.mark.parametrize("text", ["{0..99999999999}", "{0..999}{0..999}{0..999}"])
def test_too_many_are_refused_before_they_are_made(text):
    with pytest.raises(ValueError, match="at most 1000000 paths"):
        expanded(text)


def test_wildcards_find_in_order_and_a_path_that_exists_is_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b", "a", "[c]", "deep/er/d"):
        Path(name).mkdir(parents=True)
    assert paths_of("?") == [Path("a"), Path("b")]
    assert paths_of("{b,a,*c*}") == [Path("b"), Path("a"), Path("[c]")]
    assert paths_of("**/d") == [Path("deep/er/d")]
    assert paths_of("[c]") == [Path("[c]")] and not is_pattern("[c]") and is_pattern("[d]")
    assert paths_of("x*") == [] and paths_of("x") == [Path("x")]
