"""The command `train`: checks a job, freezes it into its run's folder and starts its ranks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pipeline import config
from pipeline.arguments import changes_since_last, freeze, parse, shown
from pipeline.errors import EXIT_OK, UserError
from pipeline.launch import commands
from pipeline.launch.supervise import supervise
from pipeline.shards import MANIFEST_FILE
from training.config import NOT_IDENTITY, LauncherName, TrainJob


def train(arguments: list[str]) -> int:
    """Starts or continues one training, or shows what would be started."""
    options = parse(arguments, "train")
    if shown(options, config.TRAIN):
        return EXIT_OK
    if options.multirun:
        raise UserError("train takes no -m", "a training keeps a machine busy by itself", "Start one after the other")
    job = config.load(options.overrides, config.TRAIN)
    path = prepare_training(job)
    launch = commands.prepare(job, path.parent)
    if job.launch.dry_run:
        if job.launch.name is LauncherName.SLURM:
            print(Path(launch.command[-1]).read_text(encoding="utf-8"))
        print(launch)
        return EXIT_OK
    launch.check_installed()
    sys.stdout.flush()
    if job.launch.name is LauncherName.SLURM:
        return subprocess.run(launch.command, check=False).returncode
    if not launch.is_rank:
        return supervise(launch, path.parent)
    # Replaced, not waited for, as in curate: signals and the exit code are the rank's own.
    os.execve(launch.command[0], launch.command, {**os.environ, **launch.environment})  # noqa: S606


def prepare_training(job: TrainJob) -> Path:
    """Freezes the job into its run's folder and returns the file; UserError if it cannot work or is another training."""
    _check_shards(job.shards)
    changes = [change for change in changes_since_last(job, config.TRAIN) if not _is_free(change.partition(" ")[0])]
    if changes and any((Path(job.out) / "checkpoints").glob("step_*")):
        raise UserError(f"out={job.out} holds another training", f"changed: {', '.join(changes)}",
                        "Give the earlier settings to continue it, or another folder with out=...")
    return freeze(job)


def _check_shards(shards: str | None) -> None:
    """Refuses shards that are not there; what is far away is looked at by the ranks."""
    fix = "Give the output folder of a curation, e.g. shards=out/sample after make curate"
    if not shards:
        raise UserError("shards has no value", "a training learns from the shards of a curation", fix)
    if "://" in shards:
        return
    path = Path(shards)
    if not path.exists():
        raise UserError(f"shards={shards} does not exist", fix=fix)
    if path.is_dir() and not (path / MANIFEST_FILE).is_file() and not any(path.glob("*.index.json")):
        raise UserError(f"shards={shards} holds no shards", f"there is neither {MANIFEST_FILE} nor an indexed tar", fix)


def _is_free(name: str) -> bool:
    return any(name == free or name.startswith(f"{free}.") for free in NOT_IDENTITY)
