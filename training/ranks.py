"""The processes of one training: who I am, on which device, and the few things that all of them must agree on.

A single process needs no process group; every method then answers for itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

from pipeline.errors import UserError

# The others wait this long while one rank writes a checkpoint or hashes weights; chosen here.
PATIENCE = timedelta(minutes=30)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ranks:
    rank: int
    world: int
    local_rank: int
    device: torch.device

    @classmethod
    def start(cls, device: str = "auto", *, needs_group: bool = False) -> Ranks:
        """Joins the other ranks as the environment (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT) says.

        `device`: auto, cpu or cuda. `needs_group`: make a process group even for one process, as DeepSpeed wants it.
        UserError for a device that is absent and for half an environment.
        """
        world = int(os.environ.get("WORLD_SIZE", "1"))
        absent = [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
        if world > 1 and absent:
            raise UserError(f"WORLD_SIZE={world} is set, but {', '.join(absent)} is not", "a launcher sets all of them",
                            "Start with launch=torchrun, or unset WORLD_SIZE")
        rank, local_rank = (int(os.environ.get(name, "0")) if world > 1 else 0 for name in ("RANK", "LOCAL_RANK"))
        ranks = cls(rank, world, local_rank, _device(device, local_rank))
        if (world > 1 or needs_group) and not dist.is_initialized():
            backend = "nccl" if ranks.device.type == "cuda" else "gloo"
            if world > 1:
                dist.init_process_group(backend, timeout=PATIENCE)
            else:  # no port to find free: the group lives in this process
                dist.init_process_group(backend, timeout=PATIENCE, store=dist.HashStore(), rank=0, world_size=1)
        return ranks

    @staticmethod
    def stop() -> None:
        """Leaves the group; may be called again."""
        if dist.is_initialized():
            dist.destroy_process_group()

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def barrier(self) -> None:
        if self.world > 1:
            self.any_of(False)  # a reduction waits as well, and NCCL's own barrier guesses devices

    def any_of(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag, whether any rank raised it; the same answer on every rank."""
        if self.world == 1:
            return flags
        raised = torch.tensor(flags, dtype=torch.int32, device=self.device)
        dist.all_reduce(raised, op=dist.ReduceOp.MAX)
        return tuple(bool(flag) for flag in raised.tolist())

    def sum_of(self, values: Sequence[float]) -> list[float]:
        """Sums over the ranks, in float64; every rank gives as many values."""
        if self.world == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return total.tolist()

    def gather(self, value: T) -> list[T]:
        """The values of all ranks in their order, on every rank; small things only, they are pickled."""
        if self.world == 1:
            return [value]
        gathered: list[T | None] = [None] * self.world
        dist.all_gather_object(gathered, value)
        return gathered  # type: ignore[return-value]

    def on_first(self, action: Callable[[], T]) -> T:
        """What `action` returns on rank 0, on every rank; what it raises there is raised on every rank."""
        if self.world == 1:
            return action()
        box: list[tuple[T | None, Exception | None]] = [(None, None)]
        if self.is_first:
            try:
                box = [(action(), None)]
            except Exception as error:
                box = [(None, error)]
        dist.broadcast_object_list(box, src=0)
        result, error_of_first = box[0]
        if error_of_first is not None:
            raise error_of_first
        return result  # type: ignore[return-value]

    def agree(self, error: Exception | None) -> None:
        """Raises on every rank if any rank met an error: its own where it has one, otherwise the first other's."""
        for found in [error, *self.gather(error)]:
            if found is not None:
                raise found


def _device(wanted: str, local_rank: int) -> torch.device:
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cpu":
        return torch.device("cpu")
    if wanted != "cuda":
        raise UserError(f"device={wanted} is unknown", fix="Use auto, cpu or cuda")
    if local_rank >= torch.cuda.device_count():
        raise UserError(f"device=cuda needs GPU {local_rank}", f"this host shows {torch.cuda.device_count()} of them",
                        "Use device=cpu, or launch.ranks_per_node of at most that number")
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)
