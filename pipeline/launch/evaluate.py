"""The command `evaluate`: checks a job, freezes it into its output folder and starts the process, or processes, that measure."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pipeline import config
from pipeline.arguments import freeze, parse, shown
from pipeline.errors import EXIT_OK, UserError

RANK_MODULE = "training.evaluation"


def evaluate(arguments: list[str]) -> int:
    """Starts one evaluation, or shows what would be started."""
    options = parse(arguments, "evaluate")
    if shown(options, config.EVALUATE):
        return EXIT_OK
    if options.multirun:
        raise UserError("evaluate takes no -m", "systems of one table are rows of one run",
                        "Give systems, folders or checkpoints")
    job = config.load(options.overrides, config.EVALUATE)
    if job.shards is None and job.triplets is None:
        raise UserError("there is nothing to measure on", "a table has one set of clips",
                        "Give shards=FOLDER of a curation, or triplets=FOLDER")
    command = command_for(job.ranks, freeze(job))
    sys.stdout.flush()
    os.execv(command[0], command)  # noqa: S606 - replaced, not waited for, as in curate


def command_for(ranks: int, frozen: Path) -> list[str]:
    """What measures a frozen job on this machine."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
    return [sys.executable, *launcher, "-m", RANK_MODULE, str(frozen)]
