"""What is seen of a training while it runs: one line in fixed columns, metrics.jsonl, status.json and a log for each rank.

Only the first rank prints, measures and writes; the others keep their log. Nothing here changes a result.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch

from pipeline.records import Json, write_json
from pipeline.tracking import Tracker
from training.config import Precision, TrainJob
from training.ranks import Ranks

STATUS_FILE = "status.json"
STATUS_SCHEMA = 1
# Dense bf16 products with fp32 sums, in FLOP/s, as the vendor's data sheets give them. The first whose words are all in the
# device's name counts.
PEAK_FLOPS: Mapping[str, float] = {
    "H200": 989e12, "H100 PCIe": 756e12, "H100": 989e12, "H800": 989e12, "A100": 312e12, "A800": 312e12, "RTX 4090": 165e12,
}
_HANDLERS = ("toonforge-log", "toonforge-console")

logger = logging.getLogger(__name__)


def open_logs(run_dir: Path, ranks: Ranks) -> None:
    """Sends what is logged to logs/rank_NN.log, and on rank 0 to the console, too; may be called again."""
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if handler.name in _HANDLERS]:
        root.removeHandler(handler)
        handler.close()
    (run_dir / "logs").mkdir(parents=True, exist_ok=True)
    file: logging.Handler = logging.FileHandler(run_dir / "logs" / f"rank_{ranks.rank:02d}.log", encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    chosen = [file]
    if ranks.is_first:
        console = logging.StreamHandler(sys.stdout)
        console.setFormatter(logging.Formatter("%(message)s"))
        chosen.append(console)
    for handler, name in zip(chosen, _HANDLERS, strict=False):
        handler.set_name(name)
        root.addHandler(handler)
    for name in ("training", "pipeline"):
        logging.getLogger(name).setLevel(logging.INFO)


class Monitor:
    """Measures and tells. Speeds are of the steps since the last line, without evaluation, samples and saving."""

    def __init__(self, run_dir: Path, job: TrainJob, ranks: Ranks, tracker: Tracker | None, *, flops_per_clip: float) -> None:
        self._run_dir, self._job, self._ranks, self._tracker = run_dir, job, ranks, tracker
        self._flops_per_clip = flops_per_clip
        self._peak_flops = peak_flops(ranks.device) if job.engine.precision is Precision.BF16 else None
        self._status: dict[str, Json] = {
            "schema": STATUS_SCHEMA, "state": "running", "step": 0, "num_steps": job.task.num_steps, "samples_seen": 0,
            "ranks": ranks.world, "pid": os.getpid(), "losses": {}, "heldout": {}, "clips_per_s": None, "eta_s": None,
            "checkpoint": None, "best": None, "error": None}
        self._step_s = self._wait_s = 0.0    # since the last line
        self._apart_s: dict[str, float] = {}
        self._num_steps = 0
        self._began_s, self._first_step = time.monotonic(), 0

    def start(self, step: int) -> None:
        """The loop begins at `step`; time before does not count."""
        self._began_s, self._first_step = time.monotonic(), step
        self._note(step)

    @contextmanager
    def stepping(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._step_s += time.perf_counter() - began
        self._num_steps += 1

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """For data, within a step."""
        began = time.perf_counter()
        yield
        self._wait_s += time.perf_counter() - began

    @contextmanager
    def apart(self, what: str) -> Iterator[None]:
        """Time beside the steps: "heldout", "preview", "save"."""
        began = time.perf_counter()
        yield
        self._apart_s[what] = self._apart_s.get(what, 0.0) + time.perf_counter() - began

    def log_step(self, step: int, losses: Mapping[str, float], rates: Mapping[str, float], norms: Mapping[str, float]) -> None:
        """Prints and records the state after `step` updates; losses are those of the last one, over all ranks.

        `rates`, `norms`: learning rate and gradient norm of the engines that were updated, by name; the first is shown.
        """
        clips_per_s = self._num_steps * self._job.task.global_batch / max(self._step_s, 1e-9)
        utilisation = self._utilisation(clips_per_s)
        wait_share = self._wait_s / max(self._step_s, 1e-9)
        done = step - self._first_step
        eta_s = (time.monotonic() - self._began_s) / max(done, 1) * (self._job.task.num_steps - step)
        memory_gb = _peak_memory_gb(self._ranks.device)
        columns = [f"step {step}/{self._job.task.num_steps}", f"loss {_main(losses):.4f}",
                   f"lr {next(iter(rates.values()), 0.0):.1e}", f"grad {next(iter(norms.values()), 0.0):.2f}",
                   f"clips/s {clips_per_s:.2f}"]
        columns += [f"mfu {utilisation:.0%}"] if utilisation is not None else []
        columns += [f"wait {wait_share:.0%}", f"mem {memory_gb:.1f} GB", f"eta {duration(eta_s)}"]
        self._say("  ".join(columns))
        self._track(step, {
            **{f"train/{name}": value for name, value in losses.items()},
            **{f"train/lr_{name}": value for name, value in rates.items()},
            **{f"train/grad_norm_{name}": value for name, value in norms.items()},
            "perf/clips_per_s": clips_per_s, "perf/clips_per_s_rank": clips_per_s / self._ranks.world,
            **({"perf/mfu": utilisation} if utilisation is not None else {}), "perf/data_wait": wait_share,
            **{f"perf/{what}_s": seconds for what, seconds in self._apart_s.items()}, "sys/peak_mem_gb": memory_gb})
        self._note(step, losses=_finite(losses), clips_per_s=round(clips_per_s, 4), eta_s=round(eta_s))
        self._step_s = self._wait_s = 0.0
        self._num_steps, self._apart_s = 0, {}

    def log_heldout(self, step: int, losses: Mapping[str, float]) -> None:
        self._say(f"held-out at step {step}  " + "  ".join(f"{name} {value:.4f}" for name, value in losses.items()))
        self._track(step, {f"heldout/{name}": value for name, value in losses.items()})
        self._note(step, heldout=_finite(losses))

    def log_saved(self, step: int, checkpoint: Path, best: Path | None) -> None:
        self._say(f"event=saved checkpoint={checkpoint.name} best={best.name if best else 'none'}")
        self._note(step, checkpoint=self._relative(checkpoint), best=self._relative(best))

    def resumed(self, checkpoint: Path, best: Path | None) -> None:
        self._say(f"event=resumed checkpoint={checkpoint.name}")
        self._status |= {"checkpoint": self._relative(checkpoint), "best": self._relative(best)}

    def finish(self, state: str, error: str | None = None) -> None:
        """`state`: done, paused or failed."""
        self._say(f"event={state} step={self._status['step']}")
        self._status |= {"state": state, "eta_s": 0 if state == "done" else self._status["eta_s"], "error": error}
        self._write_status()

    def table(self, text: str) -> None:
        self._say(text)

    def _utilisation(self, clips_per_s: float) -> float | None:
        if self._peak_flops is None or not self._flops_per_clip:
            return None
        return self._flops_per_clip * clips_per_s / self._ranks.world / self._peak_flops

    def _relative(self, path: Path | None) -> str | None:
        return str(path.relative_to(self._run_dir)) if path is not None else None

    def _say(self, line: str) -> None:
        if self._ranks.is_first:
            logger.info(line)

    def _track(self, step: int, values: Mapping[str, float]) -> None:
        if self._tracker is not None and self._ranks.is_first:
            self._tracker.log({"step": step, "samples_seen": step * self._job.task.global_batch, **values})

    def _note(self, step: int, **fields: Json) -> None:
        self._status |= {"step": step, "samples_seen": step * self._job.task.global_batch, **fields}
        self._write_status()

    def _write_status(self) -> None:
        if self._ranks.is_first:
            write_json(self._run_dir / STATUS_FILE, self._status, indent=2)


def peak_flops(device: torch.device) -> float | None:
    """bf16 FLOP/s of a GPU whose data sheet we know, otherwise None."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for known, peak in PEAK_FLOPS.items() if all(word in name for word in known.split())), None)


def duration(seconds: float) -> str:
    """E.g. 21h04m, 3m20s."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 60}m{whole % 60:02d}s"


def _main(losses: Mapping[str, float]) -> float:
    return losses.get("loss", next(iter(losses.values()), math.nan))


def _finite(losses: Mapping[str, float]) -> dict[str, Json]:
    """Records hold finite numbers only; a held-out loss may be none."""
    return {name: value if math.isfinite(value) else str(value) for name, value in losses.items()}


def _peak_memory_gb(device: torch.device) -> float:
    """Of the GPU since the start; on a CPU what the process holds now."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return psutil.Process().memory_info().rss / 1e9
