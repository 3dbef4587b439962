"""What functions cost: wall time, CPU time and peak memory, taken by wrapping them from outside.

Production code carries no clocks: `Meter.watching` puts a wrapper in the place of a method or module function and takes it
away again. What is called at every frame pays about two microseconds for it.
"""

from __future__ import annotations

import inspect
import statistics
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

Place = tuple[Any, str]                # a class or module, and the name of a function in it

_END = object()


@dataclass(slots=True)
class Usage:
    """What all calls of one thing took together."""

    calls: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_rss_mb: float = 0.0           # of the process during the calls; 0 where not measured


@dataclass(frozen=True, slots=True)
class Spread:
    """A number over the repeats."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


class Meter:
    """Adds up usages by name. `clock`: CPU-seconds so far, of the process or, cheaper, of the thread."""

    def __init__(self, clock: Callable[[], float] = time.process_time, *, with_memory: bool = False) -> None:
        self.usages: dict[str, Usage] = {}
        self._clock, self._with_memory = clock, with_memory
        self._peaks: list[float] = []          # of the measurements under way, outermost first

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Adds what happens inside to `name`; may be nested."""
        usage = self.usages.setdefault(name, Usage())
        if self._with_memory:
            self._open_peak()
        wall, cpu = time.perf_counter(), self._clock()
        try:
            yield
        finally:
            usage.cpu_s += self._clock() - cpu
            usage.wall_s += time.perf_counter() - wall
            usage.calls += 1
            if self._with_memory:
                usage.peak_rss_mb = max(usage.peak_rss_mb, self._close_peak())

    @contextmanager
    def watching(self, places: Mapping[str, Sequence[Place]]) -> Iterator[None]:
        """Measures every call of these functions; of generators, every step. AttributeError where one does not exist."""
        with ExitStack() as stack:
            for name, functions in places.items():
                for owner, attribute in functions:
                    wrapped = self._wrapped(name, getattr(owner, attribute))
                    stack.enter_context(mock.patch.object(owner, attribute, wrapped))
            yield

    def _wrapped(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        if not self._with_memory and not inspect.isgeneratorfunction(function):
            return self._counted(name, function)

        def call(*args: Any, **kwargs: Any) -> Any:
            with self.measure(name):
                return function(*args, **kwargs)

        def steps(*args: Any, **kwargs: Any) -> Generator[Any, None, None]:
            generator = function(*args, **kwargs)
            advance = self._counted(name, lambda: next(generator, _END))
            while (item := advance()) is not _END:
                yield item

        return steps if inspect.isgeneratorfunction(function) else call

    def _counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Without the memory and without a context manager, for what is called at every frame."""
        usage, clock, now = self.usages.setdefault(name, Usage()), self._clock, time.perf_counter

        def call(*args: Any, **kwargs: Any) -> Any:
            wall, cpu = now(), clock()
            try:
                return function(*args, **kwargs)
            finally:
                usage.cpu_s += clock() - cpu
                usage.wall_s += now() - wall
                usage.calls += 1

        return call

    def _open_peak(self) -> None:
        if self._peaks:
            self._peaks[-1] = max(self._peaks[-1], peak_rss_mb())
        reset_peak()
        self._peaks.append(0.0)

    def _close_peak(self) -> float:
        peak = max(self._peaks.pop(), peak_rss_mb())
        if self._peaks:
            self._peaks[-1] = max(self._peaks[-1], peak)
        return peak


def peak_rss_mb() -> float:
    """Largest resident memory of this process since `reset_peak`, in MB of 10^6 bytes; 0 where Linux does not say."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) * 1024 / 1e6 for line in status.splitlines() if line.startswith("VmHWM:")), 0.0)


def reset_peak() -> None:
    """Starts the peak anew; where that is not allowed, peaks are those since the process began."""
    try:
        Path("/proc/self/clear_refs").write_text("5")      # proc(5): resets the high water mark
    except OSError:
        return
