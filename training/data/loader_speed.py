"""How many clips a second the loader decodes, on its own, without a model that takes them."""

from __future__ import annotations

import time
from dataclasses import dataclass

import psutil

from training.config import TrainJob
from training.data.loader import training_batches


@dataclass(frozen=True, slots=True)
class LoaderSpeed:
    """Measured after the first micro-batch, so that starting processes and reading indexes do not count.

    What the workers had ready by then does: measure for much longer than they take to fill their places.
    """

    clips: int
    wall_s: float
    cpu_s: float                 # of the rank and its workers together
    num_workers: int

    @property
    def clips_per_s(self) -> float:
        return self.clips / max(self.wall_s, 1e-9)

    @property
    def clips_per_core_s(self) -> float:
        """Clips for each second of one core's work: what other load on the machine does not change much."""
        return self.clips / max(self.cpu_s, 1e-9)


def measure_loader(job: TrainJob, seconds: float) -> LoaderSpeed:
    """Takes micro-batches of the job as one rank for about `seconds`; UserError as training_batches."""
    batches = training_batches(job, 0, 1, 0)
    try:
        next(batches)
        cpu_before, start = _cpu_s(), time.perf_counter()
        clips = 0
        while time.perf_counter() - start < seconds or not clips:
            clips += len(next(batches).keys)
        return LoaderSpeed(clips, time.perf_counter() - start, _cpu_s() - cpu_before, job.data.num_workers)
    finally:
        batches.close()


def _cpu_s() -> float:
    this = psutil.Process()
    times = [process.cpu_times() for process in (this, *this.children(recursive=True))]
    return sum(found.user + found.system for found in times)
