"""Measurements of a run: always metrics.jsonl, and a copy to Weights & Biases where it is wanted and possible.

The copy never disturbs the run: whatever goes wrong with it is one line in the log, and nothing waits for a network
unless mode=online, and then for seconds. WANDB_MODE, if set, wins over the configuration.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from pipeline.records import Json

METRICS_FILE = "metrics.jsonl"
INIT_TIMEOUT_S = 20.0    # of mode=online; chosen here
FINISH_TIMEOUT_S = 60.0  # of mode=online: what is not sent by then is sent later by `wandb sync`; chosen here

logger = logging.getLogger(__name__)

Number = bool | int | float | str


class TrackerMode(StrEnum):
    OFFLINE = "offline"
    ONLINE = "online"
    DISABLED = "disabled"


@dataclass(kw_only=True, slots=True)
class TrackerConfig:
    """The schema of conf/tracker, part of every job."""

    mode: TrackerMode = MISSING
    project: str = MISSING
    group: str | None = MISSING


class Tracker:
    """Writes measurements into `folder`; `mode` is offline, online or disabled.

    With `run_id` a run that is continued is one run in W&B too; measurements are drawn over `step` where they have one.
    """

    def __init__(
        self, folder: Path, *, mode: str, project: str, group: str | None, job_type: str, config: Mapping[str, Json],
        name: str | None = None, run_id: str | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / METRICS_FILE).open("a", encoding="utf-8", buffering=1)  # a line at a time
        self._start_s = time.monotonic()
        self._run: Any = None
        self._warned: set[str] = set()
        self._name, self._run_id = name, run_id
        mode = os.environ.get("WANDB_MODE") or mode
        if mode == "disabled":
            logger.info("tracker=disabled: measurements go to %s only", folder / METRICS_FILE)
        else:
            online = mode not in ("offline", "dryrun")
            self._copy("init", lambda: self._init(folder, online, project, group, job_type, config))
            if online and self._run is None:  # kept for `wandb sync`
                self._copy("init offline", lambda: self._init(folder, False, project, group, job_type, config))

    def log(self, values: Mapping[str, Number]) -> None:
        """Records measurements of one moment, e.g. {"step": 100, "train/loss": 0.04}."""
        self._write({name: value for name, value in values.items()})
        self._copy("log", lambda: self._run.log(dict(values)))

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Number | None]]) -> None:
        self._write({"table": name, "columns": list(columns), "rows": [list(row) for row in rows]})

        def copy() -> None:
            import wandb

            table = wandb.Table(columns=list(columns), data=[list(row) for row in rows], allow_mixed_types=True)
            self._run.log({name: table})

        self._copy("table", copy)

    def log_histogram(self, name: str, values: Sequence[float]) -> None:
        """Records a distribution: every value in the file, the finite ones in W&B."""
        self._write({"histogram": name, "values": list(values)})
        finite = [value for value in values if math.isfinite(value)]
        if not finite:
            return

        def copy() -> None:
            import wandb

            self._run.log({name: wandb.Histogram(finite)})

        self._copy("histogram", copy)

    def log_video(self, name: str, path: Path, *, step: int) -> None:
        """Shows a film of the run's folder."""
        self._write({"step": step, "video": name, "path": path.name})

        def copy() -> None:
            import wandb

            self._run.log({name: wandb.Video(str(path), format="mp4"), "step": step})

        self._copy("video", copy)

    def log_artifact(self, name: str, kind: str, path: Path, *, metadata: Mapping[str, Json]) -> None:
        """Names a result by reference: where it lies and what is known of it; its bytes are not sent."""
        self._write({"artifact": name, "kind": kind, "metadata": dict(metadata)})

        def copy() -> None:
            import wandb

            artifact = wandb.Artifact(name, type=kind, metadata=dict(metadata))
            artifact.add_reference(path.resolve().as_uri(), checksum=False)
            self._run.log_artifact(artifact)

        self._copy("artifact", copy)

    def use_artifact(self, name: str, kind: str, reference: str, *, metadata: Mapping[str, Json]) -> None:
        """Names what the run reads, by reference. W&B links it online only; the file has it always."""
        self._write({"uses": name, "kind": kind, "metadata": dict(metadata)})

        def copy() -> None:
            import wandb

            if self._run.offline:
                return
            artifact = wandb.Artifact(name, type=kind, metadata=dict(metadata))
            artifact.add_reference(reference, checksum=False)
            self._run.use_artifact(artifact)

        self._copy("use of an artifact", copy)

    def finish(self) -> None:
        """Ends the run; may be called again."""
        self._copy("finish", lambda: self._run.finish())
        self._run = None
        self._file.close()

    def _write(self, record: dict[str, Any]) -> None:
        line = {"time_s": round(time.monotonic() - self._start_s, 3), **record}
        self._file.write(json.dumps(_finite(line), allow_nan=False) + "\n")

    def _copy(self, what: str, action: Callable[[], None]) -> None:
        """Does something with W&B; what fails is logged, once of each kind, and never ends the run."""
        if not what.startswith("init") and self._run is None:
            return
        try:
            action()
        except ImportError as error:
            logger.warning("no copy to W&B: %s is not installed", error.name)
        except Exception as error:
            if what not in self._warned:
                logger.warning("not copied to W&B: %s (%s: %s)", what, type(error).__name__, error)
            self._warned.add(what)

    def _init(
        self, folder: Path, online: bool, project: str, group: str | None, job_type: str, config: Mapping[str, Json]
    ) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # reports of its own crashes go out over the network
        import wandb

        settings = wandb.Settings(
            silent=True, quiet=True, show_errors=False, console="off", symlink=False, disable_git=True,
            save_code=False, x_disable_meta=True, x_disable_stats=True, x_disable_machine_info=True,
            init_timeout=INIT_TIMEOUT_S, login_timeout=INIT_TIMEOUT_S, finish_timeout=FINISH_TIMEOUT_S,
        )
        self._run = wandb.init(
            project=project, group=group, job_type=job_type, config=dict(config), dir=str(folder),
            mode="online" if online else "offline", reinit="create_new", settings=settings, name=self._name, id=self._run_id,
            resume="allow" if self._run_id else None,
        )
        if self._run_id:  # W&B's own counter must rise; after a continuation from an older checkpoint ours does not
            self._run.define_metric("*", step_metric="step")


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: they are written as words, never as another number."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value
