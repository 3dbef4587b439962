"""Waits for a launcher that has the ranks, and asks the ranks to stop when this process is asked.

A launcher that gets a signal ends its ranks after 30 seconds (DeepSpeed's one after the other, or leaves them behind), and
returns 1 after a clean stop. So signals are kept from it: they become the file STOP, at which all ranks save and leave together,
and the exit code is made of the run's status record.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

from pipeline.errors import EXIT_OK, EXIT_STOPPED
from pipeline.launch.commands import Launch

STOP_FILE = "STOP"              # as training/stop.py reads it
STATUS_FILE = "status.json"     # as training/monitor.py writes it
LOOK_EVERY_S = 1.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


def supervise(launch: Launch, run_dir: Path) -> int:
    """Runs the launcher to its end and returns 0 for done, 75 for paused, otherwise what the launcher returned.

    A signal asks the ranks to save and leave; a second SIGINT ends them at once, which loses the steps since the last checkpoint.
    """
    asked: list[int] = []
    before = _written(run_dir)

    def ask(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    # What was ignored stays ignored: nohup.
    handled = {number: signal.signal(number, ask) for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN}
    # A session of its own, or Ctrl-C in a terminal would reach the launcher, too.
    launcher = subprocess.Popen(launch.command, env={**os.environ, **launch.environment}, start_new_session=True)
    try:
        code = _wait(launcher, run_dir, asked)
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)
    # The record of an earlier part says nothing of this one.
    state = _state(run_dir) if _written(run_dir) != before else None
    return {"done": EXIT_OK, "paused": EXIT_STOPPED}.get(state or "", code if code >= 0 else 128 - code)


def _wait(launcher: subprocess.Popen[bytes], run_dir: Path, asked: list[int]) -> int:
    told = 0
    while True:
        try:
            return launcher.wait(LOOK_EVERY_S)
        except subprocess.TimeoutExpired:
            if not asked:
                continue
        # Again and again: ranks that are only starting take a STOP file for an old one and remove it.
        (run_dir / STOP_FILE).touch()
        if told == 0:
            print(f"{signal.Signals(asked[0]).name}: the ranks save at their next step and leave; Ctrl-C again ends them at once",
                  file=sys.stderr, flush=True)
        told = len(asked)
        if asked.count(signal.SIGINT) > 1:
            _end(launcher)


def _end(launcher: subprocess.Popen[bytes]) -> None:
    """Kills the launcher and all ranks; torchrun puts each into a session of its own, so a group is not enough."""
    import psutil

    try:
        process = psutil.Process(launcher.pid)
        doomed = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in doomed:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def _written(run_dir: Path) -> tuple[int, int] | None:
    """What tells one writing of the status record from another: it appears by rename."""
    try:
        found = (run_dir / STATUS_FILE).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


def _state(run_dir: Path) -> str | None:
    try:
        record = json.loads((run_dir / STATUS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return str(record.get("state")) if isinstance(record, dict) else None
