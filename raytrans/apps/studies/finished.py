"""Measurements of a study that are finished, a line each, so that a study that was stopped goes on where it was."""

from collections.abc import Callable
from pathlib import Path

from raytrans.apps import cli
from raytrans.export.files import append_json_line, read_json_lines


class Finished:
    """Values by what they are, in a file of JSON lines; each is made once."""

    def __init__(self, file: Path):
        self.file = file
        self.values = {tuple(row["key"]): row["value"] for row in read_json_lines(file)} if file.exists() else {}

    def get(self, key: tuple, make: Callable[[], dict]) -> dict:
        """The value of a key of texts and numbers; made, written and told where it is not there yet."""
        if key not in self.values:
            self.values[key] = make()
            append_json_line(self.file, {"key": key, "value": self.values[key]})
            cli.say(f"finished: {', '.join(map(str, key))}")
        return self.values[key]
