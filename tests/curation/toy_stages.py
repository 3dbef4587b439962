"""Stages small enough to see through, in a module of their own so that the workers of Ray can import them."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, replace
from pathlib import Path

from curation.stage import Resources


@dataclass(frozen=True, slots=True)
class Number:
    """A row that stages change."""

    value: int
    trace: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Remark:
    """A row of a type that no stage takes."""

    text: str


class Plain:
    """Takes numbers one at a time; what is common to all toy stages."""

    version = 1
    takes = Number
    batch_size = 1
    name = "plain"

    def __init__(self, *, cpus: float = 1.0) -> None:
        self.resources = Resources(cpus=cpus, memory_gb=0.1)
        self.is_set_up = False

    def setup(self) -> None:
        self.is_set_up = True

    def __call__(self, rows: list[Number]) -> list[list[Number | Remark]]:
        assert self.is_set_up and 0 < len(rows) <= self.batch_size
        return [self.results(row) for row in rows]

    def results(self, row: Number) -> list[Number | Remark]:
        return [replace(row, trace=(*row.trace, self.name))]

    def failed(self, row: Number, error: str) -> Number:
        return replace(row, trace=(*row.trace, f"{self.name} failed: {error}"))


class Split(Plain):
    """A number becomes itself, the next one and a remark; 0 becomes nothing."""

    name = "split"

    def results(self, row: Number) -> list[Number | Remark]:
        if row.value == 0:
            return []
        return [*super().results(row), Number(row.value + 1, ("next",)), Remark(f"{row.value} was split")]


class Fussy(Plain):
    """Takes batches, and a multiple of 7 spoils the whole batch it is in."""

    name = "fussy"
    batch_size = 4

    def results(self, row: Number) -> list[Number | Remark]:
        if row.value % 7 == 0:
            raise ValueError(f"{row.value} is a multiple of 7")
        return super().results(row)


class OnFullDisk(Plain):
    """Finds no space left at the number 5."""

    name = "writer"

    def results(self, row: Number) -> list[Number | Remark]:
        if row.value == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().results(row)


class KilledOnce(Plain):
    """Its worker is killed at the number 3, the first time; `mark` remembers that."""

    name = "killed"

    def __init__(self, mark: str) -> None:
        super().__init__()
        self.mark = mark

    def results(self, row: Number) -> list[Number | Remark]:
        if row.value == 3 and not Path(self.mark).exists():
            Path(self.mark).touch()
            os.kill(os.getpid(), 9)
        return super().results(row)
