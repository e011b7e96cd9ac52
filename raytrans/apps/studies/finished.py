"""Measurements of a study that are finished, a line each, so that a study that was stopped goes on where it was."""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from raytrans.apps import cli
from raytrans.export.files import append_json_line, read_json_lines

FIELDS = {"key", "settings", "value", "cpu_seconds"}


def sizes_of(files: Iterable[Path]) -> dict[str, int]:
    """Bytes of files by name: the data that measurements were made with, as a part of their settings."""
    return {file.name: file.stat().st_size for file in files}


class Finished:
    """Values by what they are, in a file of JSON lines; each is made once. Several processes may share the file.

    Lines that were made with other `settings` stay where they are and count as not there. `cpu_seconds` is what making
    all of the others took, in whatever process. Raises ValueError for lines of another kind.
    """

    def __init__(self, file: Path, settings: Mapping[str, object] | None = None):
        rows = read_json_lines(file) if file.exists() else []
        for number, row in enumerate(rows, 1):
            if set(row) != FIELDS:
                raise ValueError(f"{file}: line {number}: expected {', '.join(sorted(FIELDS))}, got {', '.join(row)}")
            key, spent = row["key"], row["cpu_seconds"]
            if not (isinstance(key, list) and all(isinstance(k, str | int | float) for k in key)):
                raise ValueError(f"{file}: line {number}: expected a key of texts and numbers, got {key}")
            if not (isinstance(row["value"], dict) and isinstance(spent, int | float)):
                raise ValueError(f"{file}: line {number}: expected a table of values and CPU seconds, got others")
        # as the file has them: tuples are lists there
        self.file, self.settings = file, json.loads(json.dumps(settings or {}))
        rows = [row for row in rows if row["settings"] == self.settings]
        self.values = {tuple(row["key"]): row["value"] for row in rows}
        self.cpu_seconds = sum(row["cpu_seconds"] for row in rows)

    def get(self, key: tuple, make: Callable[[], dict]) -> dict:
        """The value of a key of texts and numbers; made, written and told where it is not there yet."""
        if key not in self.values:
            start = time.process_time()
            self.values[key] = make()
            spent = time.process_time() - start
            row = {"key": key, "settings": self.settings, "value": self.values[key], "cpu_seconds": spent}
            append_json_line(self.file, row)
            self.cpu_seconds += spent
            cli.say(f"finished: {', '.join(map(str, key))}")
        return self.values[key]
