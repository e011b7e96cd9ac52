"""Transformers of four geometric algebras: distances and nearest points of pairs, and depth over rays.

    .venv/bin/python docs/studies/algebra.py

All arms of a question have about as many parameters and the same CPU time. A training that is there already, in
DIR/runs of --out with the same settings, is not repeated.
"""

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from raytrans.apps import cli
from raytrans.apps.pages import markdown
from raytrans.apps.studies.script import finish, shown, spread
from raytrans.apps.studies.script import parser as common
from raytrans.data.guards import read_json
from raytrans.export.files import write_json
from raytrans.reports.charts import Bars, bars
from raytrans.systems import raydepth
from raytrans.systems.algebra import AlgebraRayDepth, pairs
from raytrans.systems.scaling.flops import nominal_flops

NAME = "algebra"
ALGEBRAS = ("E", "P", "iP", "C")
PAIR_ARMS = (*ALGEBRAS, "plain")
DEPTH_ARMS = (*ALGEBRAS, "ray attention", "plain", "plain, target frame")
PAIR_SHARE = 1 / 3  # of the time of a training on rays
PARAMETERS = {"pairs": 11_000, "depth": 24_000}
BATCH = {"pairs": 128, "depth": 16}
RATE = {"pairs": 5e-3, "depth": 3e-3}
WARMUP, CLIP = 20, 1.0
SHIFT = 200.0  # of pairs out of distribution, in standard deviations of their points
POOL, TEST = 4000, {"pairs": 4000, "depth": 256}  # scenes to train on; pairs are drawn afresh
TEST_SEED = 1_000_003


def parser() -> ArgumentParser:
    """Command line of the study."""
    out = common(NAME, "Compare transformers of four geometric algebras on pairs and over rays.", 0.25)
    text = f"CPU minutes of one training over rays, {PAIR_SHARE:.2g} of that for one of pairs (default: 0.25)"
    next(a for a in out._actions if a.dest == "minutes").help = text
    out.add_argument("--pool", type=cli.positive_int, default=POOL, metavar="N", help=f"scenes to train on ({POOL})")
    text = f"questions to answer (default: {', '.join(QUESTIONS)})"
    out.add_argument("--questions", nargs="+", choices=QUESTIONS, default=list(QUESTIONS), metavar="Q", help=text)
    return out


QUESTIONS = (*pairs.TASKS, "depth")


def main(arguments: Namespace) -> int:
    """Train and measure what is not there yet, and write tables, numbers and picture."""
    values: dict[str, dict] = {}
    for question in arguments.questions:
        runs: dict[str, list[dict]] = {arm: [] for arm in arms_of(question)}
        # seed by seed, so that whatever else the machine does meets all arms alike
        for seed in arguments.seeds:
            for arm in runs:
                runs[arm].append(known_or_run(arguments, question, arm, seed))
        values[question] = {arm: {**facts(question, arm), **summary(found)} for arm, found in runs.items()}
        cli.say(markdown(*table_of(question, values[question])))
    if "depth" in values:
        test = scenes(TEST["depth"], TEST_SEED)
        values["depth baselines"] = {
            "nearest point": float(raydepth.error(raydepth.nearest_point(test), test)),
            "unit": float(raydepth.error(torch.zeros_like(test.truth), test)),
        }
        cli.say(f"depth without learning: {values['depth baselines']}")
    finish(arguments, {"settings": settings(arguments), "questions": values}, picture(values), NAME)
    return 0


def arms_of(question: str) -> Sequence[str]:
    """Arms that answer a question."""
    return DEPTH_ARMS if question == "depth" else PAIR_ARMS


def kind_of(question: str) -> str:
    """Key of the settings of a question."""
    return "depth" if question == "depth" else "pairs"


def build(question: str, arm: str, size: int) -> nn.Module:
    """Model of an arm, its channels by `size`."""
    if question != "depth":
        return pairs.PlainPairs(question, 2 * size) if arm == "plain" else pairs.AlgebraPairs(arm, question, size)
    if arm == "ray attention":
        return raydepth.NativeRayDepth(width=4 * size, basis=4)
    if arm in ALGEBRAS:
        return AlgebraRayDepth(arm, multivectors=size)
    return raydepth.PlainRayDepth("target" if "target" in arm else "world", width=4 * size)


def matched(question: str, arm: str) -> int:
    """Size of an arm whose number of parameters comes nearest to that of all."""
    goal = PARAMETERS[kind_of(question)]
    counts = {size: sum(p.numel() for p in build(question, arm, size).parameters()) for size in range(1, 17)}
    return min(counts, key=lambda size: abs(counts[size] - goal))


@lru_cache(4)
def scenes(count: int, seed: int) -> raydepth.RayDepths:
    """Scenes of the depth question."""
    return raydepth.draw(count, torch.Generator().manual_seed(seed))


def batches(question: str, seed: int, pool: int) -> Iterable:
    """Endless training batches: pairs drawn afresh, scenes out of a pool."""
    generator = torch.Generator().manual_seed(seed)
    held = scenes(pool, seed) if question == "depth" else None
    while True:
        if held is None:
            yield pairs.draw(question, BATCH["pairs"], generator).to(torch.float32)
        else:
            yield held[torch.randint(pool, (BATCH["depth"],), generator=generator)]


def loss(question: str, model: nn.Module, batch) -> Tensor:
    """Mean squared error of pairs, mean |log(depth/truth)| of rays."""
    return raydepth.error(model(batch), batch) if question == "depth" else (model(batch) - batch.answer).square().mean()


def train(question: str, model: nn.Module, given: Iterable, seconds: float) -> int:
    """Adam for so many CPU-seconds, its rate falling to zero with them; the number of steps."""
    optimizer = torch.optim.Adam(model.parameters(), RATE[kind_of(question)])
    spent, steps = 0.0, 0
    given = iter(given)
    batch = next(given)
    while spent < seconds:
        start = time.process_time()
        for group in optimizer.param_groups:
            group["lr"] = RATE[kind_of(question)] * (1 - spent / seconds) * min(1.0, (steps + 1) / WARMUP)
        optimizer.zero_grad(set_to_none=True)
        loss(question, model, batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        batch = next(given)
        spent, steps = spent + time.process_time() - start, steps + 1
    return steps


def settings(arguments: Namespace) -> dict:
    """What a training depends on, beside its question, arm and seed."""
    return {
        "minutes": arguments.minutes,
        "pool": arguments.pool,
        "parameters": PARAMETERS,
        "batch": BATCH,
        "rate": RATE,
        "test": TEST,
    }


def known_or_run(arguments: Namespace, question: str, arm: str, seed: int) -> dict:
    """The run of an arm and a seed out of its file, if it was made with the same settings, or a new one."""
    file = arguments.out / "runs" / f"{question}-{arm}-{seed}.json"
    if file.is_file():
        held = read_json(file)
        if held.pop("settings", None) == settings(arguments):
            return held
    seconds = 60 * arguments.minutes * (1.0 if question == "depth" else PAIR_SHARE)
    torch.manual_seed(seed)
    model = build(question, arm, matched(question, arm))
    steps = train(question, model, batches(question, seed, arguments.pool), seconds)
    found = {"seed": seed, "steps": steps, "cpu_seconds": seconds, "errors": errors(question, model)}
    write_json(file, {"settings": settings(arguments), **found})
    cli.say(f"{question}, {arm}, seed {seed}: {steps} steps, {found['errors']}")
    return found


def errors(question: str, model: nn.Module) -> dict[str, float]:
    """Errors on held-out data: of depth as in training, of pairs squared over the variance of the answers.

    Of pairs also far from the origin, in float64 and float32, and there without the centre that "E" and "plain" use.
    """
    with torch.no_grad():
        if question == "depth":
            test = scenes(TEST["depth"], TEST_SEED)
            return {"held out": float(raydepth.error(model(test), test))}
        test = pairs.draw(question, TEST["pairs"], torch.Generator().manual_seed(TEST_SEED))
        far = test.moved(torch.eye(3, dtype=torch.float64), SHIFT * torch.eye(3, dtype=torch.float64)[0])
        variance = test.answer.var(0).mean()

        def error(given: pairs.Pairs) -> float:
            return float((model(given) - given.answer).square().mean() / variance)

        found = {"held out": error(test.to(torch.float32)), "far, float32": error(far.to(torch.float32))}
        model.double()
        found["far"] = error(far)
        if model.centred:
            model.centred = False
            found["far, not centred"] = error(far)
        return found


def facts(question: str, arm: str) -> dict[str, float]:
    """Parameters, and nominal FLOPs of a training step of one pair or scene."""
    torch.manual_seed(0)
    model = build(question, arm, matched(question, arm))
    batch = next(iter(batches(question, 0, 4)))[:4]
    flops = nominal_flops(model, lambda: model(batch)) / 4
    return {"parameters": sum(p.numel() for p in model.parameters()), "nominal_flops": flops}


def summary(found: list[dict]) -> dict:
    """Steps, time and errors of the seeds."""
    names = found[0]["errors"]
    errors = {name: spread([run["errors"][name] for run in found]) for name in names}
    steps = spread([run["steps"] for run in found])
    return {"steps": steps, "cpu_seconds": found[0]["cpu_seconds"], "errors": errors}


def table_of(question: str, values: dict) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table of a question."""
    columns = list(dict.fromkeys(name for arm in values.values() for name in arm["errors"]))
    head = [question, "parameters", "nominal MFLOPs", "steps", "CPU s", *columns]
    rows = []
    for arm, held in values.items():
        cells = [shown(held["errors"][name]) if name in held["errors"] else "" for name in columns]
        size = [f"{held['parameters']:,}", f"{held['nominal_flops'] / 1e6:.2f}", shown(held["steps"])]
        rows.append([arm, *size, f"{held['cpu_seconds']:g}", *cells])
    return head, rows


def picture(values: dict) -> np.ndarray:
    """A chart of bars for pairs, one for depth, one above the other."""
    charts = []
    asked = [name for name in pairs.TASKS if name in values]
    if asked:
        groups = {name: values[name] for name in asked}
        charts.append(
            bars(
                Bars(
                    "error squared over variance: distance of points, of lines, nearest point (foot)",
                    PAIR_ARMS,
                    {
                        name: [held[arm]["errors"]["held out"]["mean"] for arm in PAIR_ARMS]
                        for name, held in groups.items()
                    },
                    logarithmic=True,
                )
            )
        )
    if "depth" in values:
        means = [values["depth"][arm]["errors"]["held out"]["mean"] for arm in DEPTH_ARMS]
        nearest = values["depth baselines"]["nearest point"]
        chart = Bars(
            "depth over rays: mean |log(depth/truth)|",
            [*DEPTH_ARMS, "nearest point"],
            {"held out": [*means, nearest]},
        )
        charts.append(bars(chart))
    return np.concatenate(charts)


if __name__ == "__main__":
    raise SystemExit(cli.run(main, parser()))
