"""Sweeps: one curation for each combination of values, one after the other, each in a folder of its own."""

from __future__ import annotations

import itertools
import re
import signal
import subprocess
from collections import Counter
from types import FrameType

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from curation.config import CurateJob
from pipeline import config
from pipeline.errors import EXIT_OK, UserError
from pipeline.hashing import content_key

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def jobs(overrides: list[str]) -> list[CurateJob]:
    """Returns the checked jobs of a sweep; UserError if one is wrong or two would write into the same folder.

    Where `out` is not given, a job's folder is named by its preset and the key of its configuration, so the same
    command finds the same folders again. Where `store` is not given, all share one: they differ in few artifacts.
    """
    found = [config.load(texts) for texts in expand(overrides)]
    folder = config.sweep_folder(overrides)
    has_out = any(text.startswith("out=") for text in overrides)
    for job in found:
        if not has_out:
            job.out = str(folder / f"{job.experiment or 'curate'}-{content_key(job=job)[:8]}")
        job.store = job.store or str(folder / "artifacts")
    out, times = Counter(job.out for job in found).most_common(1)[0]
    if times > 1:
        raise UserError(f"out={out} is shared by {times} jobs", "each needs its own", "Leave out=... away, or sweep it")
    return found


def expand(overrides: list[str]) -> list[list[str]]:
    """Returns the overrides of every job: the product of all values, the last option varying fastest."""
    return [list(texts) for texts in itertools.product(*map(_alternatives, config.parse_overrides(overrides)))]


def run(commands: list[list[str]]) -> int:
    """Runs commands one after the other and returns the first exit code that is not 0.

    A failed command does not keep the others from running; a signal is passed on and ends the sweep. Commands run in
    process groups of their own, so that a terminal's Ctrl-C reaches each once.
    """
    received: list[int] = []
    running: list[subprocess.Popen[bytes]] = []

    def forward(number: int, frame: FrameType | None) -> None:
        received.append(number)
        for process in running:
            process.send_signal(number)

    previous = {number: signal.signal(number, forward) for number in FORWARDED}
    code = EXIT_OK
    try:
        for index, command in enumerate(commands, start=1):
            print(f"job {index}/{len(commands)}: {command[-1]}", flush=True)
            process = subprocess.Popen(command, process_group=0)
            running[:] = [process]
            for number in received:  # came while the process was being started
                process.send_signal(number)
            returned = process.wait()
            code = code or (returned if returned >= 0 else 128 - returned)
            if received:
                break
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return code


def _alternatives(override: Override) -> list[str]:
    text = override.input_line or ""
    if not override.is_sweep_override():
        return [text]
    try:
        values = list(override.sweep_string_iterator())
    except HydraException as error:
        raise UserError(f"{text} cannot be swept", "values are listed", "Write a,b,c or range(start,stop)") from error
    name = override.get_key_element()
    if override.key_or_group in config.PATH_OPTIONS:
        values = [value if value[0] in "'\"" else re.sub(r"\\(.)", r"\1", value) for value in values]
    return [f"{name}={value}" for value in values]
