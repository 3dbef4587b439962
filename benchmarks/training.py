"""`python -m benchmarks.training [name=value ...]`: where the time of a training step goes, plain torch beside DeepSpeed.

    make bench-train
    make bench-train PRESET=paper_rectify DATA=out/films ARGS="model.weights=embedded:random steps=20"
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch

from pipeline.config import TRAIN, load
from pipeline.errors import EXIT_OK, EXIT_USER, UserError
from pipeline.records import write_json
from training.config import EngineName, TrainJob
from training.data.loader import training_batches
from training.data.loader_speed import LoaderSpeed, measure_loader
from training.engine import Engine, build_engines
from training.job import build_task
from training.monitor import peak_flops
from training.ranks import Ranks
from training.tasks.conditions import Encoders
from training.tasks.task import Task

SCHEMA = 1
WARM_UP = 2                                  # steps that do not count
LOADER_SECONDS = 5.0
ENGINES = ("plain", "zero1")
PARTS = ("data", "encode", "forward", "backward", "optimiser", "other")
ENCODING = ("latents", "references", "captions", "image_tokens")        # of Encoders


@dataclass
class Watch:
    """Seconds of the parts of one step; a part inside another counts for itself alone."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    _open: list[float] = field(default_factory=list)       # what parts inside the ones under way took

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        self._open.append(0.0)
        began = self._now()
        try:
            yield
        finally:
            took = self._now() - began
            self.seconds[name] += took - self._open.pop()
            if self._open:
                self._open[-1] += took

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            with self.part(name):
                return function(*arguments, **options)
        return call

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


@dataclass(frozen=True, slots=True)
class EngineSpeed:
    engine: str
    step_s: float                            # median
    parts_s: Mapping[str, float]             # medians
    clips_per_s: float
    utilisation: float | None                # MFU; None where the device's peak is not known
    peak_memory_gb: float


class Watched:
    """An engine whose calls are timed."""

    def __init__(self, engine: Engine, watch: Watch) -> None:
        self._engine = engine
        self.backward = watch.timed("backward", engine.backward)
        self.step = watch.timed("optimiser", engine.step)
        self._call = watch.timed("forward", engine.__call__)

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


def measure(job: TrainJob, run_dir: Path, steps: int) -> EngineSpeed:
    """Trains `steps` steps after a warm-up; everything a rank does but logging, saving and evaluating."""
    ranks = Ranks.start(job.device, needs_group=job.engine.name is EngineName.DEEPSPEED)
    batches = None
    try:
        task = build_task(job, ranks.device)
        watch = Watch(device=ranks.device)
        built = build_engines(task, job, ranks, run_dir)
        engines: dict[str, Any] = {name: Watched(engine, watch) for name, engine in built.items()}
        batches = training_batches(job, 0, 1, 0)
        found: list[dict[str, float]] = []
        with _timed_encoders(watch):
            for step in range(WARM_UP + steps):
                watch.seconds = dict.fromkeys(PARTS, 0.0)
                with watch.part("other"):
                    _take_step(job, task, engines, batches, step, ranks, watch)
                if step >= WARM_UP:
                    found.append(watch.seconds)
        step_s = median(sum(each.values()) for each in found)
        clips_per_s = job.task.global_batch / step_s
        peak = peak_flops(ranks.device)
        memory = torch.cuda.max_memory_allocated(ranks.device) / 1e9 if ranks.device.type == "cuda" else 0.0
        label = "plain" if job.engine.name is EngineName.PLAIN else f"zero{job.engine.zero}"
        return EngineSpeed(label, step_s, {part: median(each[part] for each in found) for part in PARTS}, clips_per_s,
                           task.flops_per_clip() * clips_per_s / peak if peak else None, memory)
    finally:
        if batches is not None:
            batches.close()
        ranks.stop()


def _take_step(job: TrainJob, task: Task, engines: Mapping[str, Any], batches: Iterator[Any], step: int, ranks: Ranks,
               watch: Watch) -> None:
    for _ in range(job.accumulate):
        with watch.part("data"):
            batch = next(batches).to(ranks.device)
        task.backward(engines, batch, step)
        for name in task.active(step):
            engines[name].step()


@contextmanager
def _timed_encoders(watch: Watch) -> Iterator[None]:
    patches = [patch.object(Encoders, name, watch.timed("encode", getattr(Encoders, name))) for name in ENCODING]
    for each in patches:
        each.start()
    try:
        yield
    finally:
        for each in patches:
            each.stop()


def table(loader: LoaderSpeed, speeds: list[EngineSpeed]) -> str:
    """What is printed."""
    lines = [f"loader  {loader.clips_per_s:.2f} clips/s  {loader.clips_per_core_s:.2f} clips per core-second  "
             f"{loader.num_workers} workers", "",
             "engine  " + "  ".join(f"{part:>9}" for part in PARTS) + "     step s   clips/s   wait  mfu   peak GB"]
    for speed in speeds:
        shares = "  ".join(f"{speed.parts_s[part]:8.3f}s" for part in PARTS)
        mfu = f"{speed.utilisation:.0%}" if speed.utilisation is not None else "-"
        memory = f"{speed.peak_memory_gb:.1f}" if speed.peak_memory_gb else "-"
        lines.append(f"{speed.engine:<6}  {shares}  {speed.step_s:9.3f}  {speed.clips_per_s:8.2f}  "
                     f"{speed.parts_s['data'] / speed.step_s:5.0%}  {mfu:<4}  {memory}")
    return "\n".join(lines)


def run(arguments: list[str]) -> None:
    own = dict(text.split("=", 1) for text in arguments if text.startswith(("steps=", "report=")))
    overrides = [text for text in arguments if not text.startswith(("steps=", "report="))]
    if not own.get("steps", "10").isdecimal() or int(own.get("steps", "10")) < 1:
        raise UserError(f"steps={own['steps']} is no number of steps", fix="Write steps=10")
    with tempfile.TemporaryDirectory(prefix="bench-") as desk:
        common = [*overrides, f"out={desk}", "tracker=disabled"]
        loader = measure_loader(load(common, TRAIN), LOADER_SECONDS)
        speeds = []
        for engine in ENGINES:
            job = load([*common, f"engine={engine}"], TRAIN)
            job.engine.precision = load(common, TRAIN).engine.precision      # the same for both
            speeds.append(measure(job, Path(desk), int(own.get("steps", "10"))))
    print(table(loader, speeds))
    report = Path(own.get("report", "out/bench_train.json"))
    write_json(report, {
        "schema": SCHEMA, "device": str(torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"),
        "cores": os.cpu_count() or 0, "overrides": overrides,
        "loader": {"clips_per_s": loader.clips_per_s, "clips_per_core_s": loader.clips_per_core_s, "workers": loader.num_workers},
        "engines": [asdict(speed) for speed in speeds]}, indent=1)
    print(f"numbers: {report}")


def main(arguments: list[str]) -> int:
    try:
        run(arguments)
    except UserError as error:
        print(f"toonforge: error: {error}", file=sys.stderr)
        return EXIT_USER
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
