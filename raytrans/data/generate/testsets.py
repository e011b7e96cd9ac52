"""The two test sets, frozen by seed before any training. Training seeds are 1,000,000 and above."""

from collections.abc import Iterator

from raytrans.data.generate.scene import GeneratedScene, generated_scene

TEST_SETS: dict[str, tuple[int, ...]] = {"easy": tuple(range(1000, 1016)), "full": tuple(range(2000, 2016))}
"""Name -> seeds; the name is also the kind of scene."""


def test_set(name: str, side: int = 64) -> Iterator[GeneratedScene]:
    """The scenes of a test set, one after the other: ten views of `side` x `side` pixels each.

    Raises:
        ValueError: unknown name.
    """
    if name not in TEST_SETS:
        raise ValueError(f"name of a test set: expected one of {sorted(TEST_SETS)}, got {name!r}")
    return (generated_scene(seed, name, (side, side)) for seed in TEST_SETS[name])
