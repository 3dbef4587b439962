"""Promise: each of the three trainings, stopped at any step and started again, ends in the same bits."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from rank_processes import run_ranks
from run_results import assert_same_run
from tiny_tasks import KINDS, tiny_job
from toy_task import Faults, run_toys

from pipeline.errors import EXIT_STOPPED

MATRIX = [(zero, accumulate) for zero in range(4) for accumulate in (1, 2)]


def stop_and_go(folder, kind, job, name):
    """One uninterrupted training, and one that is asked to stop after its third step."""
    cut = folder / f"cut_{name}"
    stop = Faults(stop_at=2 * job.task.global_batch, stop_file=str(cut / "STOP"))
    return [(kind, job, folder / f"whole_{name}", None, 0), (kind, job, cut, stop, EXIT_STOPPED), (kind, job, cut, None, 0)]


@pytest.mark.parametrize("kind", KINDS)
def test_resume_is_bit_exact_in_plain_torch(tmp_path, kind):
    job = tiny_job(kind, num_steps=4)
    assert run_ranks(1, run_toys, stop_and_go(tmp_path, kind, job, kind)) == [0]
    assert_same_run(tmp_path / f"cut_{kind}", tmp_path / f"whole_{kind}")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_resume_is_bit_exact_in_every_stage_on_two_ranks(tmp_path, kind):
    runs = []
    for zero, accumulate in MATRIX:
        job = tiny_job(kind, world=2, accumulate=accumulate, micro_batch=1, engine=f"zero{zero}", num_steps=4)
        runs += stop_and_go(tmp_path, kind, job, f"{zero}_{accumulate}")
    assert run_ranks(2, run_toys, runs, timeout_s=900) == [0, 0]
    for zero, accumulate in MATRIX:
        assert_same_run(tmp_path / f"cut_{zero}_{accumulate}", tmp_path / f"whole_{zero}_{accumulate}")
