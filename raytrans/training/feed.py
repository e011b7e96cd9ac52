"""What training takes its samples from: how long it waits for them, and which scenes are left out."""

import logging
import time
from collections.abc import Iterator

import torch

from raytrans.training.samples import Sample, SampleStream

log = logging.getLogger(__name__)


class Carried(torch.utils.data.Dataset):
    """A stream for loaders with workers: a ValueError is an item, since raised in a worker it would be a traceback."""

    def __init__(self, stream: SampleStream):
        self.stream = stream

    def __len__(self) -> int:
        return len(self.stream)

    def __getitem__(self, step: int) -> Sample | ValueError:
        try:
            return self.stream[step]
        except ValueError as error:
            return error


class Feed:
    """Numbered samples of a loader; how long they are waited for, and which captured scenes are left out.

    Every captured scene that cannot be read is logged once, here, wherever it was read. Raises a ValueError among the
    samples.
    """

    def __init__(self, samples: Iterator[tuple[int, Sample | ValueError]]):
        self.samples, self.waited, self.skipped = samples, 0.0, {}

    def __iter__(self) -> "Feed":
        return self

    def __next__(self) -> tuple[int, Sample]:
        begin = time.monotonic()
        number, sample = next(self.samples)
        self.waited += time.monotonic() - begin
        if isinstance(sample, ValueError):
            raise sample
        for scene, reason in sample.skipped:
            if scene not in self.skipped:
                log.warning("a scene is left out: %s", reason)
            self.skipped[scene] = reason
        return number, sample

    def facts(self) -> dict[str, float]:
        """What there is to log: seconds waited since this was asked last, and scenes left out so far, if any."""
        waited, self.waited = self.waited, 0.0
        return {"waited": waited} | ({"skipped": float(len(self.skipped))} if self.skipped else {})
