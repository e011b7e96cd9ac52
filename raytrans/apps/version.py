"""What `raytrans --version` says: which code runs, on what."""

import os
import subprocess
from argparse import ArgumentParser, Namespace
from pathlib import Path

import torch

import raytrans
from raytrans.apps import cli


def parser() -> ArgumentParser:
    """Command line of `raytrans --version`."""
    return ArgumentParser(description="Print the versions of what numbers depend on, the device, and the commit.")


def main(_: Namespace) -> int:
    """Print the facts, a line each; the exit status."""
    for name, value in facts().items():
        cli.say(f"{name} {value}")
    return 0


def facts() -> dict[str, str]:
    """Versions, the device found, and the commit where this is a git checkout."""
    found = torch.cuda.is_available()
    device = f"cuda ({torch.cuda.get_device_name()})" if found else "cpu"
    commit = checkout_commit(Path(raytrans.__file__).parents[1])
    return {**cli.versions(), "device": device, **({"commit": commit} if commit else {})}


def checkout_commit(folder: Path) -> str | None:
    """Commit of the git checkout whose root is `folder`; None for any other folder, below such a root too.

    An environment may lie within the checkout of another project, whose commit would say nothing.
    """
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(folder), "rev-parse", "--show-toplevel", "HEAD"]
    try:
        done = subprocess.run(command, env=surroundings, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    root, _, commit = done.stdout.strip().rpartition("\n")
    return commit if done.returncode == 0 and Path(root).resolve() == folder.resolve() else None
