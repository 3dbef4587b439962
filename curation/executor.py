"""Runs a chain of stages: in a plain loop, or as streaming Ray Data actor pools. Both give the same rows.

Neighbouring light stages share one pool of actors: a worker takes one row through all of them, so that no core waits for
another stage. A stage with a GPU, or with a model that fills the memory, has a pool of its own and batches that span sources.
"""

from __future__ import annotations

import errno
import logging
import os
import pickle
import sys
import time
from collections import defaultdict
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curation.config import ExecutorName, RayConfig
from curation.stage import Resources, Stage
from pipeline.errors import UserError, disk_is_full

if TYPE_CHECKING:
    import pyarrow as pa

LIGHT_GB = 1.0              # stages of no more memory share workers; a model of more has workers of its own
MODEL_MEMORY_SHARE = 0.5    # of the memory, for the workers of one model where there is no GPU
HEADROOM_CPUS = 0.05        # left to Ray's own tasks, which wait for ever when actors take everything


@dataclass(frozen=True, slots=True)
class Timing:
    """What one worker spent on one batch of one stage; travels among the rows."""

    stage: str
    num_rows: int
    wall_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class DiskFull:
    """Stands among the rows when a worker found no space left: no row is at fault, the run must stop."""

    message: str


class Executor:
    """Runs chains; use as a context manager, so that Ray is started once and always stopped."""

    def __init__(self, name: ExecutorName, workers: int, ray: RayConfig) -> None:
        self.name, self.ray = name, ray
        self.workers = workers or len(os.sched_getaffinity(0))
        self._started = False
        self._results: Generator[Any] | None = None      # of the chain under way

    def __enter__(self) -> Executor:
        if self.name is ExecutorName.RAY:
            _start_ray(self.ray, self.workers)
            self._started = True
        return self

    def __exit__(self, *exc: object) -> None:
        if self._results is not None:
            self._results.close()        # a run given up halfway is ended while Ray still answers
        if self._started:
            import ray

            ray.shutdown()

    def run(self, stages: Sequence[Stage], rows: Sequence[Any]) -> Iterator[Any]:
        """Yields resulting rows and Timings as they come, in no promised order; OSError when the disk is full."""
        if not rows:
            return
        if self.name is ExecutorName.INLINE:
            self._results = _run_inline(stages, rows)
        elif self.ray.address == "local" and all(stage.resources.cpus == 0 for stage in stages):
            self._results = _run_threads(stages, rows, self.workers)
        else:
            self._results = _run_ray(stages, rows, self.workers)
        for row in self._results:
            if isinstance(row, DiskFull):
                raise OSError(errno.ENOSPC, row.message)
            yield row


def _run_inline(stages: Sequence[Stage], rows: Sequence[Any]) -> Generator[Any]:
    worker = _Worker(list(stages))
    size = stages[0].batch_size
    for start in range(0, len(rows), size):
        yield from worker.run(list(rows[start : start + size]))


def _run_threads(stages: Sequence[Stage], rows: Sequence[Any], workers: int) -> Generator[Any]:
    """For stages that only read and hash: on one machine threads do it as fast, without starting processes."""
    worker = _Worker(list(stages))
    with ThreadPoolExecutor(workers) as pool:
        for results in pool.map(worker.run, ([row] for row in rows)):
            yield from results


class _Worker:
    """Takes rows through a few stages, one after another; a failing row becomes the stage's `failed` row."""

    def __init__(self, stages: list[Stage]) -> None:
        self.stages = stages
        for stage in stages:
            stage.setup()

    def run(self, rows: list[Any]) -> list[Any]:
        for stage in self.stages:
            rows = self._apply(stage, rows)
        return rows

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The same for Ray Data: rows travel pickled in one binary column. Only our own workers write that column."""
        return _pack(self.run([pickle.loads(value) for value in batch["row"].to_pylist()]))  # noqa: S301

    @staticmethod
    def _apply(stage: Stage, rows: list[Any]) -> list[Any]:
        taken = [row for row in rows if isinstance(row, stage.takes)]
        if not taken:
            return rows
        wall, cpu = time.perf_counter(), time.process_time()
        results: list[list[Any]] = []
        for start in range(0, len(taken), stage.batch_size):
            results += _robust(stage, taken[start : start + stage.batch_size])
        timing = Timing(stage.name, len(taken), time.perf_counter() - wall, time.process_time() - cpu)
        remaining = iter(results)
        out: list[Any] = []
        for row in rows:
            out += next(remaining) if isinstance(row, stage.takes) else [row]
        return [*out, timing]


def _robust(stage: Stage, batch: list[Any]) -> list[list[Any]]:
    try:
        return stage(batch)
    except Exception as error:
        if disk_is_full(error):
            return [[DiskFull(str(error))], *([] for _ in batch[1:])]
        if len(batch) == 1:
            return [[stage.failed(batch[0], f"{type(error).__name__}: {error}")]]
    return [result for row in batch for result in _robust(stage, [row])]


def _run_ray(stages: Sequence[Stage], rows: Sequence[Any], workers: int) -> Generator[Any]:
    import ray

    total = ray.cluster_resources()
    num_gpus, cpus = total.get("GPU", 0.0), total.get("CPU", 1.0)
    groups = _fuse(stages)
    pools = [pool_size(group[0].resources, len(rows), workers, num_gpus, total.get("memory", 0.0) / 2**30) for group in groups]
    share = max(0.01, (cpus - HEADROOM_CPUS) / sum(pools))
    dataset: ray.data.Dataset = ray.data.from_items([{"row": pickle.dumps(row)} for row in rows], override_num_blocks=len(rows))
    for group, size in zip(groups, pools, strict=True):
        needs = {"num_cpus": min(share, max(0.01, *(stage.resources.cpus for stage in group)))}
        if group[0].resources.gpus and num_gpus:
            needs["num_gpus"] = group[0].resources.gpus
        dataset = dataset.map_batches(_Worker, fn_constructor_args=(group,), concurrency=size, batch_format="pyarrow",
                                      batch_size=group[0].batch_size, **needs)
    block: Any
    for block in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for value in block["row"].to_pylist():
            yield pickle.loads(value)  # noqa: S301 - written by our own workers


def pool_size(needs: Resources, num_rows: int, workers: int, num_gpus: float, memory_gb: float) -> int:
    """How many workers a stage gets: as many as the GPUs hold, or without GPU the memory, and never more than rows."""
    if needs.gpus and num_gpus:
        return max(1, min(int(num_gpus / needs.gpus + 1e-6), num_rows))
    if needs.memory_gb > LIGHT_GB:
        return max(1, min(workers, num_rows, int(MODEL_MEMORY_SHARE * memory_gb / needs.memory_gb)))
    return min(workers, num_rows)


def _fuse(stages: Sequence[Stage]) -> list[list[Stage]]:
    groups: list[list[Stage]] = []
    for stage in stages:
        if groups and _is_light(stage) and _is_light(groups[-1][0]):
            groups[-1].append(stage)
        else:
            groups.append([stage])
    return groups


def _is_light(stage: Stage) -> bool:
    return not stage.resources.gpus and stage.resources.memory_gb <= LIGHT_GB


def _pack(rows: list[Any]) -> pa.Table:
    import pyarrow as pa

    return pa.table({"row": pa.array([pickle.dumps(row) for row in rows], pa.large_binary())})


def _start_ray(config: RayConfig, workers: int) -> None:
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")      # it warns of what Ray Data itself does
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    try:
        import ray
    except ImportError as error:
        raise UserError("curation.executor=ray needs Ray, which is not installed", str(error),
                        "Run make setup, or use curation.executor=inline") from error
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        if config.address == "local":
            with _quiet_stderr():
                ray.init(address="local", num_cpus=workers, include_dashboard=False, _temp_dir=config.temp_dir,
                         object_store_memory=config.object_store_mb * 2**20, **quiet)
        else:
            with _quiet_stderr():
                ray.init(address=config.address, **quiet)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        raise UserError(f"ray.address={config.address} cannot be used", str(error).splitlines()[0],
                        "Start a cluster with ray start --head, or use ray.address=local") from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.verbose_progress = False
    for name in ("ray", "ray.data", "ray.data._internal"):
        logging.getLogger(name).setLevel(logging.ERROR)


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Ray's C++ side announces its log level on file descriptor 2; what goes wrong comes as an exception all the same."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def add_up(timings: Sequence[Timing]) -> dict[str, dict[str, float]]:
    """Rows, wall seconds and CPU-seconds per stage, over all workers."""
    total: dict[str, dict[str, float]] = defaultdict(lambda: {"rows": 0, "wall_s": 0.0, "cpu_s": 0.0})
    for timing in timings:
        entry = total[timing.stage]
        entry["rows"] += timing.num_rows
        entry["wall_s"] += timing.wall_s
        entry["cpu_s"] += timing.cpu_s
    return dict(total)
