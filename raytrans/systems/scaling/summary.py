"""What a study says: envelopes, exponents with intervals, best splits and data curves of all arms, ready for JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations

import numpy as np

from raytrans.systems.scaling.fits import overlap
from raytrans.systems.scaling.grid import Row, data_curve, table
from raytrans.systems.scaling.split import fit_envelope, fit_surface

BUDGETS = 8
LEARNT = 0.95
"""A fit begins where the loss is below this part of the trivial one: before, nothing is learnt that could scale."""


def arm_summary(rows: Sequence[Row], arm: str, steps: Sequence[int], batch: int, trivial: float | None = None) -> dict:
    """Losses of an arm on fresh samples, its lower envelope with both laws, and the surface where there are 3 sizes.

    trivial: the loss without having learnt; that of the worst size at the first length where it is not known. A fit
    without enough budgets or lengths below `LEARNT` of it is None.
    """
    flops, losses = table(rows, arm)
    compute = flops[:, None] * np.asarray(steps, float)
    own = [row for row in rows if row.cell.arm == arm and not row.cell.data]
    sizes = sorted({row.cell.size for row in own})
    geometric = np.exp(np.log(losses).mean(0))
    begin = float(geometric[:, 0].max()) if trivial is None else trivial
    out = {
        "sizes": sizes,
        "parameters": [next(row.parameters for row in own if row.cell.size == size) for size in sizes],
        "flops_per_step": flops.tolist(),
        "steps": list(steps),
        "losses": geometric.tolist(),
        "deviations": np.log(losses).std(0, ddof=1).tolist() if len(losses) > 1 else None,
        "cpu_seconds": [float(np.mean([row.seconds for row in own if row.cell.size == size])) for size in sizes],
        "decades": float(np.log10(compute.max() / compute.min())),
    }
    every = np.geomspace(compute.min(), compute.max(), 64)
    first = fit_envelope(compute, losses, every, repeats=2).losses
    learnt = every[np.asarray(first) < LEARNT * begin]
    out["envelope"] = out["law"] = out["law_with_floor"] = out["surface"] = None
    if len(learnt) < BUDGETS:
        return out
    budgets = np.geomspace(learnt[0], compute.max(), BUDGETS)
    found = fit_envelope(compute, losses, budgets)
    out["envelope"] = {
        "budgets": list(found.budgets),
        "losses": list(found.losses),
        "sizes": [sizes[i] for i in found.sizes],
    }
    out["law"] = asdict(found.law)
    out["law_with_floor"] = asdict(fit_envelope(compute, losses, budgets, floor=True, repeats=300).law)
    late = [i for i in range(len(steps)) if geometric[:, i].min() < LEARNT * begin]
    if len(late) >= 3 and len(sizes) >= 3:
        samples = batch * np.asarray(steps, float)[late]
        surface = fit_surface(flops / batch, samples, losses[..., late])
        out["surface"] = asdict(surface)
        if surface.determined:
            work, number = surface.best(compute.max())
            out["surface"]["best"] = {"budget": float(compute.max()), "work": float(work), "samples": float(number)}
    return out


def comparison(arms: dict[str, dict]) -> list[dict]:
    """Every two arms with a law: whether the intervals of their exponents overlap, and how their losses compare.

    ratio: loss of the first over that of the second on their envelopes, at both ends of the compute that both were
    fitted on, None where there is none.
    """
    out = []
    for first, second in combinations([name for name, arm in arms.items() if arm["law"]], 2):
        laws, envelopes = ([arms[name][key] for name in (first, second)] for key in ("law", "envelope"))
        low = max(e["budgets"][0] for e in envelopes)
        high = min(e["budgets"][-1] for e in envelopes)
        intervals = [law["interval"] for law in laws]
        ends = [low, high] if low < high else None
        out.append(
            {
                "arms": [first, second],
                "exponents": [law["exponent"] for law in laws],
                "intervals": intervals,
                "overlap": overlap(*intervals) if None not in intervals else None,
                "compute": ends,
                "ratio": None if ends is None else [_value(envelopes[0], c) / _value(envelopes[1], c) for c in ends],
            }
        )
    return out


def _value(envelope: dict, compute: float) -> float:
    budgets, losses = (np.log(envelope[key]) for key in ("budgets", "losses"))
    return float(np.exp(np.interp(np.log(compute), budgets, losses)))


def data_summary(rows: Sequence[Row], arm: str, size: int, step: int) -> dict:
    """Losses of an arm after as many steps against the number of distinct samples; the last on fresh ones."""
    counts, losses = data_curve(rows, arm, size)
    return {
        "size": size,
        "counts": [None if np.isinf(count) else int(count) for count in counts],
        "losses": losses.mean(0).tolist(),
        "deviations": losses.std(0, ddof=1).tolist() if len(losses) > 1 else None,
        "flops": next(r.flops for r in rows if (r.cell.arm, r.cell.size) == (arm, size)) * step,
    }
