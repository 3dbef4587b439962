"""Being asked to stop: SIGTERM, SIGUSR1, SIGINT, SIGHUP and a file named STOP in the run's folder mean the same.

A signal only raises a flag. The loop looks at it between steps and asks the other ranks, so nobody leaves alone.
"""

from __future__ import annotations

import logging
import signal
from pathlib import Path
from types import FrameType, TracebackType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)
STOP_FILE = "STOP"

logger = logging.getLogger(__name__)


class StopRequest:
    """Watches for signals while it is entered; main thread only."""

    def __init__(self, run_dir: Path, *, watches_file: bool) -> None:
        """`watches_file`: one rank looks at the file, or a shared file system would be asked by all of them at every step.

        A STOP file from before is taken away: it was for the run that it has stopped.
        """
        self._file = run_dir / STOP_FILE if watches_file else None
        self._signal: int | None = None
        self._before: dict[signal.Signals, object] = {}
        if self._file is not None and self._file.exists():
            logger.info("%s of an earlier run is removed", STOP_FILE)
            self._file.unlink()

    def __enter__(self) -> StopRequest:
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup: a terminal that closes is to change nothing
                self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def requested(self) -> bool:
        """True once this rank was asked to stop; other ranks may not know yet."""
        return self._signal is not None or (self._file is not None and self._file.exists())

    def _take(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._signal == signal.SIGINT:
            raise KeyboardInterrupt  # asked twice: now, without saving
        self._signal = number
