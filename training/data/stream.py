"""The processes that decode: micro-batches in order, and a plain sentence where a process dies or hangs."""

from __future__ import annotations

import multiprocessing
import multiprocessing.process
import signal
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from pipeline.errors import UserError
from training.data.batch import Batch
from training.data.clip_dataset import Item
from training.data.clip_table import DamageReport
from training.data.collate import DecodedBatch, collect
from training.data.order import Order, rank_numbers

POLL_S = 5                   # how often a rank that waits looks whether its workers live; chosen here
SILENCE_S = 900              # a worker that gives nothing for so long hangs; chosen here
PREFETCHED = 2               # micro-batches a worker has ready; chosen here


class Samples(Protocol):
    """What a stream reads: sample n of an order without end, the same whenever it is asked for."""

    @property
    def order(self) -> Order: ...

    def __getitem__(self, number: int) -> Item | UserError: ...


class BatchStream(Iterator[Batch]):
    """Micro-batches without end; `close` ends the processes. `report` holds the damaged clips this rank met."""

    def __init__(self, clips: Samples, *, rank: int, world: int, micro_batch: int, first_step: int, num_workers: int,
                 report: DamageReport) -> None:
        self.report = report
        # One core a worker. Set before the fork: a worker that sets it waits for ever for the threads its parent had.
        cv2.setNumThreads(1)
        loader = DataLoader(
            _Lists(clips), batch_size=None, sampler=_Numbers(clips.order.global_batch, rank, world, micro_batch, first_step),
            num_workers=num_workers, persistent_workers=num_workers > 0, worker_init_fn=_start_worker,
            prefetch_factor=PREFETCHED if num_workers else None, collate_fn=_unchanged,
            timeout=POLL_S if num_workers else 0,
            generator=torch.Generator())          # otherwise its workers' seed comes out of the global one
        others, handler = set(multiprocessing.active_children()), signal.getsignal(signal.SIGCHLD)
        self._running: list[Iterator[DecodedBatch | UserError]] = [iter(loader)]
        if threading.current_thread() is threading.main_thread() and handler is not None:
            # Torch's handler would raise wherever the rank is; the death of a worker is to be told where it is waited for.
            signal.signal(signal.SIGCHLD, handler)
        workers = [process for process in multiprocessing.active_children() if process not in others]
        self._end = weakref.finalize(self, _end_workers, self._running, workers)

    def __next__(self) -> Batch:
        if not self._running:
            raise StopIteration
        found = self._wait()
        if isinstance(found, UserError):
            raise found
        self.report.add(found.damages)
        return found.batch()

    def _wait(self) -> DecodedBatch | UserError:
        """The next of the workers' batches; a UserError where they die, or give nothing for SILENCE_S."""
        start = time.monotonic()
        while True:
            try:
                return next(self._running[0])
            except RuntimeError as error:
                if not str(error).startswith("DataLoader"):
                    raise
                if str(error).startswith("DataLoader timed out") and time.monotonic() - start < SILENCE_S:
                    continue
                return UserError("a process that decodes clips died or hangs", str(error).splitlines()[0],
                                 "Lower data.num_workers, or give the job more memory (containers: also shared memory)")

    def close(self) -> None:
        """Ends the processes; safe to call twice, and done at the end of the program."""
        self._end()


@dataclass(frozen=True, slots=True)
class _Lists(Dataset[DecodedBatch | UserError]):
    """Maps the sample numbers of a micro-batch to its items, in the worker."""

    clips: Samples

    def __getitem__(self, numbers: Sequence[int]) -> DecodedBatch | UserError:
        items: list[Item | UserError] = []
        for number in numbers:
            items.append(self.clips[number])
            if isinstance(items[-1], UserError):
                break
        return collect(items)


@dataclass(frozen=True, slots=True)
class _Numbers(Iterable[list[int]]):
    """The sample numbers of each micro-batch of a rank, from a step on without end."""

    global_batch: int
    rank: int
    world: int
    micro_batch: int
    first_step: int

    def __iter__(self) -> Iterator[list[int]]:
        step = self.first_step
        while True:
            yield from rank_numbers(step, global_batch=self.global_batch, rank=self.rank, world=self.world,
                                    micro_batch=self.micro_batch)
            step += 1


def _end_workers(running: list[Iterator[DecodedBatch | UserError]], workers: Sequence[multiprocessing.process.BaseProcess]
                 ) -> None:
    running.clear()                    # asks them to end and waits a few seconds
    for worker in workers:
        if worker.is_alive():
            worker.kill()              # they ignore SIGTERM, for which Python would wait without end


def _unchanged(found: object) -> object:
    return found


def _start_worker(worker: int) -> None:
    """Leaves signals to the rank: a worker that dies of the SIGTERM sent to a whole group would take the last save with it."""
    for name in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        signal.signal(name, signal.SIG_IGN)
    torch.set_num_threads(1)
