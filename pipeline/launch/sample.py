"""The command `sample`: checks a job, freezes it into its output folder and starts the process, or processes, that draw."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pipeline import config
from pipeline.arguments import freeze, parse, shown
from pipeline.errors import EXIT_OK, UserError

RANK_MODULE = "training.sampling"


def sample(arguments: list[str]) -> int:
    """Starts one sampling, or shows what would be started."""
    options = parse(arguments, "sample")
    if shown(options, config.SAMPLE):
        return EXIT_OK
    if options.multirun:
        raise UserError("sample takes no -m", "a list of films is one command", "Write them as JSON lines: jobs=FILE")
    job = config.load(options.overrides, config.SAMPLE)
    if job.first is None and job.keys is None and job.jobs is None:
        raise UserError("there is no key frame", "a film lies between two pictures",
                        "Give first=a.png last=b.png, or keys=FOLDER, or jobs=FILE")
    command = command_for(job.ranks, freeze(job))
    sys.stdout.flush()
    os.execv(command[0], command)  # noqa: S606 - replaced, not waited for, as in curate


def command_for(ranks: int, frozen: Path) -> list[str]:
    """What draws the films of a frozen job on this machine."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
    return [sys.executable, *launcher, "-m", RANK_MODULE, str(frozen)]
