"""How far the drawing is: a bar on a terminal, a plain line now and then anywhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN_LINES = 5              # at most, for each bar that cannot be drawn; chosen here


@contextmanager
def progress(console: Console, label: str, total: int) -> Iterator[Callable[[], None]]:
    """Yields a function to call after each of `total` pieces of work."""
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(label, total=total)
            yield lambda: bar.advance(task)
        return
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        if done == total or done * PLAIN_LINES // total > (done - 1) * PLAIN_LINES // total:
            console.print(f"{label} {done}/{total}", highlight=False, soft_wrap=True)

    yield advance
