"""The training loop, the same for every task: look, save, stop, step.

Whatever a task does, it resumes bit for bit: a step is a function of the weights, the optimiser's state and the step's
number, and all of them are in a checkpoint. Every rank goes through every line here, since most of them are collective.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pipeline.errors import EXIT_OK, EXIT_STOPPED, UserError
from pipeline.tracking import Tracker
from training.checkpoint import Checkpoint, Checkpoints, TrainState, frozen_digest, identity
from training.config import TrainJob
from training.data.batch import Batch
from training.data.loader import BatchStream
from training.ema import Ema
from training.engine import Engine, NonFiniteGradient
from training.monitor import Monitor, open_logs
from training.preview import write_preview
from training.ranks import Ranks
from training.seeds import torch_generator
from training.stop import StopRequest
from training.tasks.task import StepReport, Task


class NonFiniteError(UserError):
    """The loss or a gradient is NaN or infinite. Exit code 2: the same command would end at the same samples."""


@dataclass(frozen=True, slots=True)
class Outcome:
    state: str                     # done or paused
    step: int
    samples_seen: int
    checkpoint: Path | None        # to go on from
    best: Path | None              # of the lowest held-out loss

    @property
    def exit_code(self) -> int:
        return EXIT_OK if self.state == "done" else EXIT_STOPPED


def train(job: TrainJob, task: Task, engines: Mapping[str, Engine], batches_from: Callable[[int], Iterator[Batch]],
          heldout: Callable[[], Iterable[Batch]], run_dir: Path, ranks: Ranks, *, tracker: Tracker | None = None,
          inputs: Mapping[str, str] | None = None) -> Outcome:
    """Trains from the newest checkpoint in `run_dir`, or from the start, until done or asked to stop.

    `batches_from(step)` yields this rank's micro-batches from that optimiser step on; `heldout()` as many batches on each
    rank. `inputs`: digests of what is read (shards), by name. UserError for a run that does not fit, NonFiniteError.
    """
    open_logs(run_dir, ranks)
    monitor = Monitor(run_dir, job, ranks, tracker, flops_per_clip=task.flops_per_clip())
    with StopRequest(run_dir, watches_file=ranks.is_first) as stop:  # to the end: a late signal must not cut the record off
        try:
            outcome = _train(job, task, engines, batches_from, heldout, run_dir, ranks, monitor, stop, inputs or {})
        except BaseException as error:
            monitor.finish("failed", f"{error}" or type(error).__name__)
            raise
        monitor.finish(outcome.state)
    return outcome


def _train(job: TrainJob, task: Task, engines: Mapping[str, Engine], batches_from: Callable[[int], Iterator[Batch]],
           heldout: Callable[[], Iterable[Batch]], run_dir: Path, ranks: Ranks, monitor: Monitor, stop: StopRequest,
           inputs: Mapping[str, str]) -> Outcome:
    for name, trained in task.trained.items():
        monitor.table(trained.plan.table(f"engine {name}"))
        trained.plan.check(trained.expected)
        engines[name].module.train()
    averages = {name: Ema(engines[name], trained.optim.ema_decay) for name, trained in task.trained.items()
                if trained.optim.ema_decay}
    state = TrainState(task, engines, averages, ranks)
    base = frozen_digest(task, engines, ranks)
    checkpoints = Checkpoints(run_dir / "checkpoints", ranks, keep_last=job.run.keep_last, keep_every=job.run.keep_every,
                              identity=identity(job, inputs), base=base)

    resumed = checkpoints.latest()
    if resumed is not None:
        state.load(resumed.path)
        monitor.resumed(resumed.path, _path(checkpoints.best()))
    step = resumed.step if resumed is not None else 0
    score = resumed.score if resumed is not None else None
    saved, saved_s = resumed, time.monotonic()
    batches = batches_from(step)
    monitor.start(step)

    while True:
        is_last = step >= job.task.num_steps
        # A checkpoint without the score that its step should have was saved by a run that had no time to look.
        if score is None and (is_last or step % job.run.heldout_every == 0):
            with monitor.apart("heldout"):
                losses = evaluate(task, engines, heldout(), ranks, stop)
            if losses is not None:
                score = _score(losses)
                monitor.log_heldout(step, losses)
                if saved is not None and saved.step == step:
                    checkpoints.set_score(saved, score)
        if job.data.num_previews and (is_last or step % job.run.preview_every == 0) and (saved is None or saved.step < step):
            with monitor.apart("preview"):
                preview(job, task, engines, heldout(), run_dir, step, ranks, stop)

        is_late = ranks.is_first and 0 < job.run.save_minutes * 60 < time.monotonic() - saved_s
        is_stopping, is_late = ranks.any_of(stop.requested(), is_late)
        is_due = is_last or is_stopping or is_late or step % job.run.save_every == 0
        if is_due and step > (saved.step if saved is not None else 0):
            with monitor.apart("save"):
                saved = checkpoints.save(state, step, step * job.task.global_batch, score)
            monitor.log_saved(step, saved.path, _path(checkpoints.best()))
            saved_s = time.monotonic()
        if is_last or is_stopping:
            break

        with monitor.stepping():
            report = take_step(job, task, engines, averages, batches, step, ranks, monitor, saved)
        step, score = step + 1, None
        if step % job.run.log_every == 0 or step == job.task.num_steps:
            updated = {name: engines[name] for name in task.active(step - 1)}
            monitor.log_step(step, _means(report, ranks), {name: engine.learning_rate for name, engine in updated.items()},
                             {name: engine.grad_norm or 0.0 for name, engine in updated.items()})

    if isinstance(batches, BatchStream):
        batches.close()
    if is_last and frozen_digest(task, engines, ranks) != base:
        raise AssertionError("frozen weights changed while training")
    return Outcome("done" if is_last else "paused", step, step * job.task.global_batch, _path(saved), _path(checkpoints.best()))


def take_step(job: TrainJob, task: Task, engines: Mapping[str, Engine], averages: Mapping[str, Ema], batches: Iterator[Batch],
              step: int, ranks: Ranks, monitor: Monitor, saved: Checkpoint | None) -> list[StepReport]:
    """One optimiser step, counted from 0: its micro-batches, the check that all is finite, the updates, the averages."""
    active = task.active(step)
    reports: list[StepReport] = []
    seen: list[Batch] = []
    for micro in range(job.accumulate):
        with monitor.waiting():
            batch = next(batches).to(ranks.device)
        # Dropout draws from the global state; seeded here it is a function of the sample, as everything else.
        torch.manual_seed(torch_generator(job.seed, int(batch.numbers[0]), "layers").initial_seed())
        reports.append(task.backward(engines, batch, step))
        seen.append(batch)
        try:
            if micro == job.accumulate - 1:
                _stop_if_not_finite(step, seen, reports, ranks, saved)
            for name in active:
                engines[name].step()
        except NonFiniteGradient as error:  # of all ranks together, so all of them are here
            raise _non_finite(str(error), step, seen, reports, None, ranks, saved) from error
    for name in active:
        if name in averages:
            averages[name].update()
    idle = [name for name, engine in engines.items() if engine.is_idle()]
    assert len(idle) == len(engines), f"gradients were left in {set(engines) - set(idle)} at step {step}"
    return reports


@torch.no_grad()
def evaluate(task: Task, engines: Mapping[str, Engine], heldout: Iterable[Batch], ranks: Ranks,
             stop: StopRequest) -> dict[str, float] | None:
    """Returns the mean losses over the held-out clips of all ranks, or None where it was asked to stop."""
    sums: dict[str, float] = {}
    weight = 0.0
    with _evaluating(engines):
        for batch in heldout:
            if ranks.any_of(stop.requested())[0]:
                return None
            here = batch.to(ranks.device)
            weight += float(here.weight.sum())
            for name, loss in task.heldout(engines, here).items():
                # A sample of weight 0 only fills the batch; it may be anything, NaN included.
                counted = torch.where(here.weight > 0, loss.double() * here.weight, 0.0)
                sums[name] = sums.get(name, 0.0) + float(counted.sum())
    names = sorted(sums)
    *totals, total_weight = ranks.sum_of([*(sums[name] for name in names), weight])
    return {name: total / max(total_weight, 1e-9) for name, total in zip(names, totals, strict=True)}


@torch.no_grad()
def preview(job: TrainJob, task: Task, engines: Mapping[str, Engine], heldout: Iterable[Batch], run_dir: Path, step: int,
            ranks: Ranks, stop: StopRequest) -> None:
    """Writes videos of the first held-out clips of rank 0; the others take part, since ZeRO-3 needs all."""
    rows: list[Tensor] = []
    with _evaluating(engines):
        for batch in itertools.islice(heldout, math.ceil(job.data.num_previews / job.engine.micro_batch)):
            if ranks.any_of(stop.requested())[0]:
                return
            here = batch.to(ranks.device)
            rows.append(task.preview(engines, here, job.run.preview_ddim_steps)[here.weight > 0].float().cpu())
    if rows:
        pictures = torch.cat(rows)[:job.data.num_previews]
        ranks.on_first(lambda: write_preview(run_dir / "samples", step, pictures))


@contextmanager
def _evaluating(engines: Mapping[str, Engine]) -> Iterator[None]:
    for engine in engines.values():
        engine.module.eval()
    try:
        yield
    finally:
        for engine in engines.values():
            engine.module.train()


def _stop_if_not_finite(step: int, seen: Sequence[Batch], reports: Sequence[StepReport], ranks: Ranks,
                        saved: Checkpoint | None) -> None:
    """Before the update, on all ranks, if the loss of any sample on any rank is not finite."""
    bad = [~torch.isfinite(report.per_sample) for report in reports]
    for rows, report in zip(bad, reports, strict=True):
        if not rows.any() and not all(bool(torch.isfinite(value).all()) for value in report.values.values()):
            rows.fill_(True)  # another loss of the batch, which no sample has to itself
    if ranks.any_of(any(bool(rows.any()) for rows in bad))[0]:
        raise _non_finite("the loss is not finite", step, seen, reports, bad, ranks, saved)


def _non_finite(what: str, step: int, seen: Sequence[Batch], reports: Sequence[StepReport], bad: Sequence[Tensor] | None,
                ranks: Ranks, saved: Checkpoint | None) -> NonFiniteError:
    """Names the samples whose loss is bad, or all of the step where a gradient is, with their timesteps; collective."""
    mine = []
    for index, (batch, report) in enumerate(zip(seen, reports, strict=True)):
        for row, key in enumerate(batch.keys):
            if bad is None or bool(bad[index][row]):
                mine.append(key if report.timesteps is None else f"{key} (t={int(report.timesteps[row])})")
    samples = ", ".join(f"rank {rank}: {', '.join(keys)}" for rank, keys in enumerate(ranks.gather(mine)) if keys)
    last = f"the last good checkpoint is {saved.path}" if saved is not None else "no checkpoint was written yet"
    return NonFiniteError(f"{what} at step {step}, before its update", f"samples of {samples}; {last}",
                          "Look at these samples, or try a lower task.optim.learning_rate or engine.precision=fp32")


def _means(reports: Sequence[StepReport], ranks: Ranks) -> dict[str, float]:
    """Of the step's micro-batches on all ranks; collective."""
    names = sorted(reports[0].values)
    values = [float(sum(float(report.values[name]) for report in reports)) / len(reports) for name in names]
    return {name: total / ranks.world for name, total in zip(names, ranks.sum_of(values), strict=True)}


def _score(losses: Mapping[str, float]) -> float | None:
    score = losses.get("loss", sum(losses.values()) / max(len(losses), 1))
    return score if losses and math.isfinite(score) else None


def _path(checkpoint: Checkpoint | None) -> Path | None:
    return checkpoint.path if checkpoint is not None else None
