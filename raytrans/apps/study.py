"""Train the arms of a study alike and compare them, scene by scene."""

from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path

from raytrans.apps import cli, pages
from raytrans.apps.evaluate import PROTOCOLS
from raytrans.apps.progress import Progress
from raytrans.apps.studies import runs, tables
from raytrans.apps.studies.arms import STUDIES, Study
from raytrans.apps.studies.scores import Evaluation, held_out_views, read_scores, score
from raytrans.training.checkpoint import load

CONFIG = Path("configs/study.toml")
STUDY_PROTOCOLS = ("I/I", "I/SE3", "I/roll", "I/target-roll", "I/3")


def parser() -> ArgumentParser:
    """Command line of `tools/study.py`."""
    out = ArgumentParser(
        prog="study",
        description="Train every arm of a study with the same budget, measure all on the same held-out views, print "
        "their means and their differences from the first arm, paired by scene and seed. Ctrl-C any time: the same "
        "command goes on. Each model is a run folder DIR/ARM/SEED with its scores beside the weights.",
    )
    out.add_argument("study", choices=tuple(STUDIES), help="which arms; see raytrans/apps/studies/arms.py")
    out.add_argument("--out", type=cli.output_folder, required=True, metavar="DIR", help="folder of the runs")
    text = f"base configuration (default: {CONFIG})"
    out.add_argument("--config", type=Path, default=CONFIG, metavar="FILE", help=text)
    out.add_argument("--arms", nargs="+", metavar="ARM", help="some of the arms (default: all)")
    out.add_argument("--seeds", nargs="+", type=cli.seed, default=[0, 1, 2], metavar="N", help="default: 0 1 2")
    budget = out.add_mutually_exclusive_group()
    text = f"CPU minutes for each model, turned into steps by a measurement (default: {runs.MINUTES:g})"
    budget.add_argument("--minutes", type=cli.positive_float, metavar="M", help=text)
    budget.add_argument("--steps", type=cli.positive_int, metavar="N", help="the same number of steps for all instead")
    out.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    add_evaluation_arguments(out)
    out.add_argument("--table", action="store_true", help="only make the tables, of the scores that are there")
    text = "also put the tables into this page, between the lines <!-- STUDY --> and <!-- /STUDY -->"
    out.add_argument("--write", type=Path, metavar="FILE.md", help=text)
    cli.add_json_argument(out)
    return out


def add_evaluation_arguments(out: ArgumentParser) -> None:
    """What the models are measured on."""
    text = f"{cli.SCENE}; its held-out views are measured"
    out.add_argument("--scenes", nargs="+", type=Path, default=[], metavar="SCENE", help=text)
    text = "scenes of each generated test set, one view of each (default: 8)"
    out.add_argument("--generated", type=int, choices=range(17), default=8, metavar="N", help=text)
    out.add_argument("--views", type=cli.positive_int, default=2, metavar="N", help="views of a capture (default: 2)")
    out.add_argument("--sources", type=cli.positive_int, default=6, metavar="N", help="default: 6")
    text = "long side of captures in pixels (default: 64)"
    out.add_argument("--max-size", type=cli.positive_int, default=64, metavar="P", help=text)
    out.add_argument(
        "--protocol",
        nargs="+",
        choices=PROTOCOLS,
        default=STUDY_PROTOCOLS,
        metavar="|".join(PROTOCOLS),
        help=f"see evaluate (default: {' '.join(STUDY_PROTOCOLS)})",
    )


def main(arguments: Namespace) -> int:
    """Run a study as the command line says; the exit status."""
    study = STUDIES[arguments.study]
    names = arguments.arms or list(study.arms)
    if unknown := [name for name in names if name not in study.arms]:
        raise ValueError(f"--arms: expected some of {', '.join(study.arms)}, got {unknown[0]!r}")
    if arguments.minutes and arguments.device == "cuda":
        raise ValueError("--minutes: expected --steps with --device cuda, where CPU time does not measure the work")
    if not (arguments.table or arguments.config.is_file()):
        hint = "; the default needs a clone of the repository as working folder" if arguments.config == CONFIG else ""
        raise ValueError(f"--config: no such file {arguments.config}{hint}")
    if arguments.write is not None:
        pages.sections(arguments.write, arguments.study)
    if not arguments.table:
        run_study(study, names, arguments)
    arms = [arm for name in names if (arm := runs.read_arm(arguments.out / name)) is not None]
    folders = {(arm.name, seed): arguments.out / arm.name / str(seed) for arm in arms for seed in arguments.seeds}
    scores = {key: rows for key, folder in folders.items() if (rows := read_scores(folder))}
    seconds = {key: runs.spent_seconds(folders[key]) for key in scores}
    compared = tables.comparisons(scores, names, study.reference)
    found = {
        "Training": training_table(arms, seconds),
        "Mean PSNR in dB": tables.mean_table(scores, names, "psnr", 2),
        "Mean SSIM": tables.mean_table(scores, names, "ssim", 3),
        f"PSNR minus that of '{study.reference}' in dB, paired": tables.comparison_table(compared),
    }
    for title, table in found.items():
        cli.say(f"\n{title}\n{cli.table(*table)}")
    if arguments.write is not None:
        content = "\n\n".join(f"{title}:\n\n{pages.markdown(*table)}" for title, table in found.items())
        pages.write_section(arguments.write, arguments.study, content)
    values = {"study": arguments.study, "arms": [vars(arm) | {"budget": vars(arm.budget)} for arm in arms]}
    values |= {"comparisons": [asdict(one) for one in compared], "versions": cli.versions()}
    cli.write_report(arguments.json, values)
    return 0


def run_study(study: Study, names: list[str], arguments: Namespace) -> None:
    """Train and measure whatever is not there yet, one seed of all arms after the other."""
    wanted = Evaluation(
        arguments.generated,
        tuple(arguments.scenes),
        arguments.views,
        arguments.sources,
        arguments.max_size,
        tuple(arguments.protocol),
    )
    views = list(held_out_views(wanted))
    budget = None
    if arguments.minutes or arguments.steps:
        budget = runs.Budget(arguments.minutes, arguments.steps)
    arms = []
    for name in names:
        arms.append(runs.planned_arm(arguments.out / name, arguments.config, study.arms[name], budget))
        cli.say(f"{name}: {arms[-1].parameters:,} parameters, {arms[-1].steps} steps")
    runs.check_equal(study, arms)
    models = {(arm, seed): arguments.out / arm.name / str(seed) for seed in arguments.seeds for arm in arms}
    steps = len(arguments.seeds) * sum(arm.steps for arm in arms)
    done = sum(runs.steps_done(folder) for folder in models.values())
    with Progress("training", steps, "steps", done) as tell:
        for (arm, seed), folder in models.items():
            try:
                runs.trained(folder, arm.config(arguments.config, seed), arguments.device, tell)
            except FloatingPointError as error:
                cli.warn([f"{arm.name}, seed {seed}: {error}"])
                continue
            score(folder, load(folder, arguments.device), views, wanted)
            cli.say(f"{arm.name}, seed {seed}: {runs.spent_seconds(folder):.0f} CPU-seconds of training")


def training_table(arms: list[runs.Arm], seconds: dict[tuple[str, int], float]) -> tables.Table:
    """What the training of each arm took."""
    rows = []
    for arm in arms:
        own = [value for (name, _), value in seconds.items() if name == arm.name]
        mean = f"{sum(own) / len(own):.0f}" if own else "-"
        rows.append((arm.name, f"{arm.parameters:,}", str(arm.steps), mean, str(len(own))))
    return ("arm", "parameters", "steps", "CPU-seconds a model", "models"), rows
