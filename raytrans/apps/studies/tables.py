"""Tables of a study: means of every arm, and differences from the reference arm paired by scene and seed."""

from dataclasses import dataclass

import numpy as np

from raytrans.shapes import Float

Table = tuple[tuple[str, ...], list[tuple]]


@dataclass(frozen=True)
class Paired:
    """Statistics of differences d over scenes and seeds; a scene is won where its mean over the seeds is above 0."""

    mean: float
    deviation: float | None
    error: float | None
    won: int
    scenes: int
    seeds: int


def paired(differences: Float[np.ndarray, "scenes seeds"]) -> Paired:
    """Mean, standard deviation, and the standard error of the mean where both scenes and seeds are drawn at random.

    With mean squares A of the scenes, B of the seeds and E of the rest the squared error is (A + B - E)/(scenes seeds)
    and never less than what A or B alone says: a two-way layout with random effects. None for a single difference.
    """
    d = np.asarray(differences, dtype=np.float64)
    scenes, seeds = d.shape
    by_scene, by_seed = d.mean(1), d.mean(0)
    rest = d - by_scene[:, None] - by_seed + d.mean()
    a = seeds * by_scene.var(ddof=1) if scenes > 1 else 0.0
    b = scenes * by_seed.var(ddof=1) if seeds > 1 else 0.0
    e = (rest**2).sum() / ((scenes - 1) * (seeds - 1)) if scenes > 1 and seeds > 1 else 0.0
    several = d.size > 1
    return Paired(
        mean=float(d.mean()),
        deviation=float(d.std(ddof=1)) if several else None,
        error=float(np.sqrt(max(a + b - e, a, b) / d.size)) if several else None,
        won=int((by_scene > 0).sum()),
        scenes=scenes,
        seeds=seeds,
    )


Scores = dict[tuple[str, int], list[dict]]
"""(arm, seed) -> rows as `scores.json` has them."""

Group = tuple[str, int, int, str]
"""Set, size of the images, number of sources, protocol."""


def group_of(row: dict) -> Group:
    """What a score is compared within."""
    return row["set"], row["size"], row["sources"], row["protocol"]


def groups(scores: Scores) -> list[Group]:
    """Every group that was measured, in the order of the rows."""
    return list(dict.fromkeys(group_of(row) for rows in scores.values() for row in rows))


def by_view(rows: list[dict], group: Group, quality: str) -> dict[tuple[str, str], float]:
    """(scene, view) -> value, within one group."""
    known = [row for row in rows if group_of(row) == group and row[quality] is not None]
    return {(row["scene"], row["view"]): row[quality] for row in known}


def matrix(
    scores: Scores, arms: tuple[str, ...], group: Group, quality: str
) -> list[Float[np.ndarray, "scenes seeds"]]:
    """For each arm its means over the views of a scene; views and seeds are those that all of these arms have."""
    seeds = sorted({seed for _, seed in scores if all((arm, seed) in scores for arm in arms)})
    found = {(arm, seed): by_view(scores[arm, seed], group, quality) for arm in arms for seed in seeds}
    seeds = [seed for seed in seeds if all(found[arm, seed] for arm in arms)]
    shared = [set(found[arm, seed]) for arm in arms for seed in seeds]
    views: dict[str, list[tuple[str, str]]] = {}
    for view in sorted(set.intersection(*shared)) if shared else []:
        views.setdefault(view[0], []).append(view)
    return [
        np.reshape(
            [np.mean([found[arm, seed][view] for view in own]) for own in views.values() for seed in seeds],
            (len(views), len(seeds)),
        )
        for arm in arms
    ]


@dataclass(frozen=True)
class Comparison:
    """An arm against the reference within a group."""

    group: Group
    arm: str
    paired: Paired


def comparisons(scores: Scores, arms: list[str], reference: str, quality: str = "psnr") -> list[Comparison]:
    """For each group and arm but the reference the paired differences arm - reference, where both were measured."""
    out = []
    for group in groups(scores):
        for arm in (one for one in arms if one != reference):
            own, other = matrix(scores, (arm, reference), group, quality)
            if own.size:
                out.append(Comparison(group, arm, paired(own - other)))
    return out


def mean_table(scores: Scores, arms: list[str], quality: str, digits: int) -> Table:
    """A row for each set and arm, a column for each protocol: means over scenes and seeds, of what was measured."""
    found = groups(scores)
    protocols = list(dict.fromkeys(group[-1] for group in found))
    rows = []
    for place in dict.fromkeys(group[:-1] for group in found):
        for arm in arms:
            values = [matrix(scores, (arm,), (*place, protocol), quality)[0] for protocol in protocols]
            shown = [f"{v.mean():.{digits}f}" if v.size else "-" for v in values]
            if scenes := max(len(v) for v in values):
                rows.append((*map(str, place), arm, str(scenes), *shown))
    return ("set", "pixels", "sources", "arm", "scenes", *protocols), rows


def comparison_table(found: list[Comparison]) -> Table:
    """A row for each comparison."""
    rows = []
    for one in found:
        p = one.paired
        spread = ["-" if value is None else f"{value:.2f}" for value in (p.deviation, p.error)]
        rows.append((*map(str, one.group), one.arm, f"{p.mean:+.2f}", *spread, f"{p.won} of {p.scenes}", str(p.seeds)))
    header = ("set", "pixels", "sources", "protocol", "arm", "difference", "deviation", "standard error", "scenes won")
    return (*header, "seeds"), rows
