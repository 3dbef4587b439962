"""The command `study`: starts the process that builds the preference study's page or analyses its answers."""

from __future__ import annotations

import os
import sys

COMMAND = [sys.executable, "-m", "training.study"]


def study(arguments: list[str]) -> int:
    """Replaces this process: the driver imports schemas of the trainings only, and the study's own process checks its options."""
    sys.stdout.flush()
    os.execv(COMMAND[0], [*COMMAND, *arguments])  # noqa: S606 - replaced, not waited for, as in curate
