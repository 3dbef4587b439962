"""The command `export`: hands its options to the process that may import torch."""

from __future__ import annotations

import os
import sys


def export(arguments: list[str]) -> int:
    """Replaces this process; see training/export.py."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "training.export", *arguments])  # noqa: S606 - as in curate
