"""What a stage of the curation is: a plain picklable object that knows nothing of Ray."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Resources:
    """What one worker of a stage occupies."""

    cpus: float = 1.0                  # 0: it waits for disks and networks, and any worker may do it
    gpus: float = 0.0
    memory_gb: float = 0.5


class Stage(Protocol):
    """Turns rows of the type `takes` into lists of rows; rows of other types pass by untouched.

    `__init__` is cheap; models are built in `setup`, once per worker. `version` is raised by hand when results change.
    """

    name: str
    version: int
    takes: type[Any]
    batch_size: int
    resources: Resources

    def setup(self) -> None: ...

    def __call__(self, rows: list[Any]) -> list[list[Any]]:
        """One list of results per row, in order. May raise: the executor then retries row by row."""
        ...

    def failed(self, row: Any, error: str) -> Any:
        """The row that stands in the ledger for one that could not be processed."""
        ...
