"""Fuzzing with atheris from the saved corpus, one target per surface, and one table of what came of it: `make fuzz`.

    python -m tests.fuzz.run --seconds 60 [--only transforms ply]

Inputs that break the contract are kept in DIR/faults, and exit status 1 says so. Move one into tests/fuzz/corpus, where
the suite reads it, when the reader is mended.
"""

import argparse
import importlib.util
import json
import logging
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
CORPUS = HERE / "corpus"
SURFACES = sorted(path.name for path in CORPUS.iterdir() if path.is_dir())
WALL, MEMORY = 60, 6000  # seconds of one input and MB of the process, where libFuzzer ends a target
MOST = 20  # different faults of a target
DONE = re.compile(r"Done (\d+) runs in (\d+) second")
COVERAGE = re.compile(r"cov: (\d+)")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], prog="fuzz")
    parser.add_argument("--seconds", type=int, default=60, metavar="S", help="of each target (default: 60)")
    parser.add_argument("--runs", type=int, default=-1, metavar="N", help="inputs of each target (default: no bound)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of libFuzzer (default: 1)")
    parser.add_argument("--only", nargs="+", choices=SURFACES, default=SURFACES, metavar="NAME", help="some targets")
    parser.add_argument("--out", type=Path, default=Path("out/fuzz"), metavar="DIR", help="default: out/fuzz")
    arguments = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        print(
            "fuzz: error: atheris is not here; it has wheels for Linux alone (pip install --editable '.[fuzz]')",
            file=sys.stderr,
        )
        return 2
    rows = [_target(name, arguments) for name in arguments.only]
    header = ("target", "inputs", "coverage at first", "at last", "seconds", "faults")
    widths = [max(len(str(row[i])) for row in (header, *rows)) for i in range(len(header))]
    for row in (header, *rows):
        print("  ".join(str(value).ljust(width) for value, width in zip(row, widths, strict=True)).rstrip())
    total = sum(row[-1] for row in rows)
    print(f"{sum(row[1] for row in rows)} inputs, {total} faults" + (f", kept in {arguments.out}" if total else ""))
    return 1 if total else 0


def _target(name: str, arguments: argparse.Namespace) -> tuple:
    """Run one target in a process of its own, which libFuzzer never returns from; its row of the table."""
    out = (arguments.out / name).resolve()
    shutil.rmtree(out, ignore_errors=True)
    for folder in ("corpus", "faults"):
        (out / folder).mkdir(parents=True)
    words = [
        sys.executable,
        "-m",
        "tests.fuzz.run",
        "--target",
        name,
        str(out),
        str(out / "corpus"),
        str(CORPUS / name),
    ]
    words += [f"-max_total_time={arguments.seconds}", f"-runs={arguments.runs}", f"-seed={arguments.seed}"]
    words += [f"-timeout={WALL}", f"-rss_limit_mb={MEMORY}", "-max_len=131072", f"-artifact_prefix={out / 'faults'}/"]
    start = time.monotonic()
    with open(out / "log.txt", "wb") as log:
        status = subprocess.run(words, stdout=log, stderr=subprocess.STDOUT, cwd=HERE.parents[1]).returncode
    text = (out / "log.txt").read_text(errors="replace")
    coverage, done = [int(value) for value in COVERAGE.findall(text)] or [0], DONE.findall(text)
    found = [path for path in (out / "faults").iterdir() if path.suffix != ".json"]
    ended = status != 0 and not found  # by a crash that left no input
    row = (name, int(done[-1][0]) if done else 0, coverage[0], coverage[-1], round(time.monotonic() - start))
    for file in sorted((out / "faults").glob("*.json")):
        print(f"{name}: {'; '.join(json.loads(file.read_text()))}")
    if status:
        print(f"{name}: ended with status {status}, see {out / 'log.txt'}")
    return *row, len(found) + ended


def fuzz(name: str, out: Path, words: list[str]) -> None:
    """The target itself: atheris counts what the readers and PIL's Python do with each input."""
    from random import Random

    import atheris

    with atheris.instrument_imports(include=["raytrans", "PIL"]):
        from tests.fuzz.contract import faults
        from tests.fuzz.mutations import mutate
        from tests.fuzz.surfaces import SURFACES as surfaces
        from tests.fuzz.surfaces import damage, prepared

    logging.disable(logging.CRITICAL)
    known: set[str] = set()
    with tempfile.TemporaryDirectory() as temporary:
        folder, files = prepared(name, Path(temporary))
        originals = {file: file.read_bytes() for file in files}

        def one(data: bytes) -> None:
            file = damage(files, data)
            found = faults(lambda: surfaces[name].read(folder, file), folder)
            file.write_bytes(originals[file])
            new = {re.sub(r"\d{3,}|/\S*/", "", one) for one in found} - known
            known.update(new)
            if new and len(known) <= MOST:
                place = out / "faults" / f"fault-{len(known)}"
                place.write_bytes(data)
                place.with_suffix(".json").write_text(json.dumps(found))

        def mutated(data: bytes, largest: int, seed: int) -> bytes:
            """Half by libFuzzer, which knows what is new, half by what breaks readers."""
            random = Random(seed)
            if not data or random.random() < 0.5:
                return atheris.Mutate(data, largest)
            return (data[:1] + mutate(random, data[1:]))[:largest]

        atheris.Setup([name, *words], one, custom_mutator=mutated)
        atheris.Fuzz()


def seeds() -> None:
    """Write the valid inputs of every surface into the corpus again."""
    from tests.fuzz.surfaces import SURFACES as surfaces
    from tests.fuzz.surfaces import prepared

    for name in surfaces:
        (CORPUS / name).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as temporary:
            for number, file in enumerate(prepared(name, Path(temporary))[1]):
                (CORPUS / name / f"valid-{file.name}").write_bytes(bytes([number]) + file.read_bytes())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--target"]:
        fuzz(sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
    elif sys.argv[1:] == ["--seeds"]:
        seeds()
    else:
        sys.exit(main())
