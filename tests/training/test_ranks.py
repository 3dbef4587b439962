"""Promise: ranks agree on what they do, on errors above all, and half an environment is refused in words."""

import pytest
import torch
from rank_processes import run_ranks

from pipeline.errors import UserError
from training.ranks import Ranks


def agree_on_everything():
    ranks = Ranks.start("cpu")
    assert ranks.any_of(ranks.rank == 1, False) == (True, False)
    assert ranks.sum_of([1.0, float(ranks.rank)]) == [2.0, 1.0]
    assert ranks.gather(ranks.rank) == [0, 1]
    assert ranks.on_first(lambda: ranks.rank) == 0

    def fail():
        raise UserError("the disk is full")

    with pytest.raises(UserError, match="the disk is full"):
        ranks.on_first(fail)                        # happens on rank 0
    with pytest.raises(OSError, match="of rank 1"):
        ranks.agree(OSError("of rank 1") if ranks.rank == 1 else None)
    ranks.agree(None)
    ranks.barrier()
    ranks.stop()
    return 0


def test_two_ranks_agree():
    assert run_ranks(2, agree_on_everything) == [0, 0]


def test_one_process_needs_no_group(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    ranks = Ranks.start("cpu")
    assert (ranks.rank, ranks.world, ranks.is_first) == (0, 1, True)
    assert not torch.distributed.is_initialized()
    assert ranks.any_of(True, False) == (True, False)
    assert ranks.gather("x") == ["x"]


def test_half_an_environment_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="WORLD_SIZE=2 is set, but RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT is not"):
        Ranks.start("cpu")


def test_absent_device_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UserError, match=r"device=cuda needs GPU 0: this host shows 0"):
        Ranks.start("cuda")
    with pytest.raises(UserError, match="device=tpu is unknown"):
        Ranks.start("tpu")
