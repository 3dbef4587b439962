"""The command `triplets`: checks a job, freezes it into its output folder and starts the process that builds the triplets."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pipeline import config
from pipeline.arguments import changes_since_last, freeze, parse, shown
from pipeline.errors import EXIT_OK, UserError

MODULE = "curation.triplets"
LEDGER = "clips.parquet"          # where it is, a curation is


def triplets(arguments: list[str]) -> int:
    """Starts the building of one set of triplets, or shows its job."""
    options = parse(arguments, "triplets")
    if shown(options, config.TRIPLETS):
        return EXIT_OK
    if options.multirun:
        raise UserError("triplets takes no -m", "measures are shared in one folder", "Start one after the other")
    job = config.load(options.overrides, config.TRIPLETS)
    if job.shards is None:
        raise UserError("shards has no value", "triplets are made of a finished curation", "Give its folder: shards=out/films")
    out = Path(job.out)
    if out.resolve() == Path(job.shards).resolve() or (out / LEDGER).exists():      # its config.yaml would be lost first
        raise UserError(f"out={job.out} holds a curation", "its shards would be replaced", "Choose another folder with out=...")
    changes = changes_since_last(job, config.TRIPLETS)
    if changes:
        print(f"changed since the last run in {job.out}: {', '.join(changes)}")
    command = [sys.executable, "-m", MODULE, str(freeze(job))]
    sys.stdout.flush()
    os.execv(command[0], command)  # noqa: S606 - replaced, not waited for, as in curate
