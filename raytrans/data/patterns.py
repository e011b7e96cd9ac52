"""Paths that one text stands for: numbers and words in braces, and wildcards."""

import glob
import itertools
import os
import re
from pathlib import Path

BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(\d+)\.\.(\d+)")
MOST = 1_000_000  # paths that one text may stand for


def expanded(pattern: str) -> list[str]:
    """The texts that braces stand for: `a{08..10}` is a08, a09, a10; `{train,extra}` is train, extra.

    Numbers are as long as the longer of the two where one begins with 0. What is neither stays. Raises ValueError for
    more than a million.
    """
    parts, choices, count, end = [], [], 1, 0
    for match in BRACES.finditer(pattern):
        parts.append(pattern[end : match.start()])
        choices.append(_choices(match[1], pattern))
        end, count = match.end(), count * len(choices[-1])
        _check(count, pattern)
    tails = [*parts[1:], pattern[end:]] if parts else []
    head = parts[0] if parts else pattern
    return [head + "".join(itertools.chain(*zip(chosen, tails, strict=True))) for chosen in itertools.product(*choices)]


def _choices(inside: str, pattern: str) -> list[str]:
    ends = RANGE.fullmatch(inside)
    if ends is None:
        return inside.split(",") if "," in inside else [f"{{{inside}}}"]
    first, last = int(ends[1]), int(ends[2])
    _check(abs(last - first) + 1, pattern)
    padded = any(len(text) > 1 and text.startswith("0") for text in ends.groups())
    width = max(map(len, ends.groups())) if padded else 0
    step = 1 if first <= last else -1
    return [f"{number:0{width}d}" for number in range(first, last + step, step)]


def _check(count: int, pattern: str) -> None:
    if count > MOST:
        raise ValueError(f"{pattern}: expected braces for at most {MOST} paths, got more")


def is_pattern(text: str) -> bool:
    """Whether a text stands for whatever is found: one with wildcards that is no path itself."""
    return glob.has_magic(text) and not os.path.lexists(os.path.expanduser(text))


def paths_of(pattern: str) -> list[Path]:
    """The paths of a text: braces in their order, what wildcards find (`**` any folders between) sorted by name."""
    found: list[str] = []
    for text in map(os.path.expanduser, expanded(pattern)):
        found += sorted(glob.glob(text, recursive=True)) if is_pattern(text) else [text]
    return [Path(text) for text in found]
