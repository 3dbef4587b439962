"""Promise: a training that is stopped or killed at any moment, and started again, ends in the same bits."""

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from rank_processes import join, run_ranks, start_ranks
from run_results import assert_same_run, status
from toy_task import Faults, make_job, run_toy, run_toys

from pipeline.errors import EXIT_STOPPED

QUICK = [(zero, 1 + zero % 2, kind) for zero, kind in ((1, "one"), (3, "one"), (0, "gan"), (2, "gan"), (3, "gan"))]
MATRIX = [(zero, accumulate, kind) for kind in ("one", "gan") for zero in range(4) for accumulate in (1, 2)]


def stop_and_go(folder, zero, accumulate, kind):
    """One uninterrupted training, and one that is asked to stop after its third step, on two ranks."""
    job = make_job(engine="deepspeed", zero=zero, world=2, accumulate=accumulate, num_steps=5)
    name = f"{kind}_{zero}_{accumulate}"
    cut = folder / f"cut_{name}"
    stop = Faults(stop_at=2 * job.task.global_batch, stop_file=str(cut / "STOP"))
    return [(kind, job, folder / f"whole_{name}", None, 0), (kind, job, cut, stop, EXIT_STOPPED), (kind, job, cut, None, 0)]


def check_stop_and_go(folder, combinations):
    runs = [run for combination in combinations for run in stop_and_go(folder, *combination)]
    assert run_ranks(2, run_toys, runs) == [0, 0]
    for zero, accumulate, kind in combinations:
        assert_same_run(folder / f"cut_{kind}_{zero}_{accumulate}", folder / f"whole_{kind}_{zero}_{accumulate}")


def test_resume_is_bit_exact(tmp_path):
    check_stop_and_go(tmp_path, QUICK)


@pytest.mark.slow
def test_resume_is_bit_exact_in_every_stage_with_and_without_accumulation(tmp_path):
    check_stop_and_go(tmp_path, MATRIX)


def _die(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)


def run_until(moment, kind, job, run_dir):
    """Trains and is killed at the second time that `moment` comes."""
    import training.checkpoint as checkpoint

    num_seen = 0
    original = getattr(checkpoint, moment)

    def counted(*arguments, **options):
        nonlocal num_seen
        num_seen += 1
        if num_seen == 2:
            if moment == "_sync_folder":     # the new one is there, the old ones are not deleted yet
                original(*arguments, **options)
            _die()
        return original(*arguments, **options)

    setattr(checkpoint, moment, counted)
    return run_toy(kind, job, run_dir)


def delete_half(path):
    """What _delete leaves when it is killed in the middle."""
    doomed = path.with_name(f".tmp-deleted-{path.name}")
    path.rename(doomed)
    (doomed / "weights.safetensors").unlink()
    _die()


def run_until_half_deleted(kind, job, run_dir):
    import training.checkpoint as checkpoint

    checkpoint._delete = delete_half
    return run_toy(kind, job, run_dir)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The uninterrupted training of the tests below."""
    folder = tmp_path_factory.mktemp("whole")
    assert run_ranks(1, run_toy, "gan", make_job(save_every=1), folder) == [0]
    return folder


@pytest.mark.parametrize("moment", ["save_file", "write_json", "_sync_folder", "_delete"])
def test_kill_while_saving_changes_nothing(whole, tmp_path, moment):
    job = make_job(save_every=1)
    if moment == "_delete":
        assert run_ranks(1, run_until_half_deleted, "gan", job, tmp_path) == [-signal.SIGKILL]
    else:
        assert run_ranks(1, run_until, moment, "gan", job, tmp_path) == [-signal.SIGKILL]
    assert status(tmp_path)["state"] == "running"      # nobody was left to say otherwise
    assert run_ranks(1, run_toy, "gan", job, tmp_path) == [0]
    assert_same_run(tmp_path, whole)
    assert len(list((tmp_path / "checkpoints").iterdir())) <= 3, "rubbish of the killed run is left"


def kill_at_random(run_dir, kind, job, *, world, seed, num_kills, kill_one=False):
    """Starts the training over and over and kills it a random time after its loop began; returns how often it was in time."""
    chance = random.Random(seed)
    print(f"seed {seed}")
    num_killed = 0
    for _ in range(num_kills):
        processes = start_ranks(world, run_toy, kind, job, run_dir, Faults(micro_s=0.03))
        while processes[0].is_alive() and not has_begun(run_dir, processes[0].pid):
            time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 0.8))
        is_in_time = processes[0].is_alive()
        num_killed += is_in_time
        for process in processes[-1:] if kill_one else processes:
            process.kill()
        codes = join(processes, timeout_s=60)
        if kill_one and is_in_time and status(run_dir)["state"] != "done":
            assert codes[0] not in (0, None), "a rank went on, or waits for ever, without the other"
    return num_killed


def has_begun(run_dir, pid):
    return (run_dir / "status.json").exists() and status(run_dir)["pid"] == pid


def test_kills_at_random_moments_change_nothing(whole, tmp_path):
    job = make_job(save_every=1)
    assert kill_at_random(tmp_path, "gan", job, world=1, seed=3, num_kills=3)
    assert run_ranks(1, run_toy, "gan", job, tmp_path) == [0]
    assert_same_run(tmp_path, whole)


@pytest.mark.slow
@pytest.mark.parametrize(("zero", "kind", "kill_one"), [(1, "one", False), (2, "gan", True), (3, "one", True), (3, "gan", False)])
def test_kills_of_two_ranks_at_random_moments_change_nothing(tmp_path, zero, kind, kill_one):
    job = make_job(engine="deepspeed", zero=zero, world=2, accumulate=2, save_every=1, num_steps=8)
    assert run_ranks(2, run_toy, kind, job, tmp_path / "whole") == [0, 0]
    assert kill_at_random(tmp_path / "cut", kind, job, world=2, seed=zero, num_kills=5, kill_one=kill_one)
    assert run_ranks(2, run_toy, kind, job, tmp_path / "cut") == [0, 0]
    assert_same_run(tmp_path / "cut", tmp_path / "whole")


def wait_for_step(run_dir, step, timeout_s=120.0):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if (run_dir / "status.json").exists() and status(run_dir)["step"] >= step:
            return
        time.sleep(0.02)
    raise AssertionError(f"step {step} did not come")


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGUSR1, marks=pytest.mark.slow),
                                    pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_signal_to_one_of_two_ranks_pauses_both(tmp_path, number):
    job = make_job(engine="deepspeed", zero=2, world=2, num_steps=1000, heldout_every=1000, save_every=1000)
    processes = start_ranks(2, run_toy, "one", job, tmp_path, Faults(micro_s=0.02))
    wait_for_step(tmp_path, 2)
    os.kill(processes[1].pid, number)     # not the rank that writes the status
    assert join(processes) == [EXIT_STOPPED, EXIT_STOPPED]
    found = status(tmp_path)
    assert found["state"] == "paused"
    assert found["checkpoint"] == f"checkpoints/step_{found['step']:08d}"
    assert (tmp_path / found["checkpoint"] / "manifest.json").is_file()


def test_another_number_of_ranks_is_refused_with_two_ways_out(tmp_path):
    job = make_job(engine="deepspeed", zero=2, world=2, num_steps=2)
    assert run_ranks(2, run_toy, "one", job, tmp_path) == [0, 0]
    assert run_ranks(1, run_toy, "one", make_job(engine="deepspeed", zero=2, accumulate=2, num_steps=4), tmp_path) == [2]
    message = (tmp_path / "error_0.txt").read_text()
    assert "was written by 2 ranks; this job has 1" in message
    assert "Resume with 2 ranks" in message
    assert "checkpoints/step_00000002/weights.safetensors" in message


def test_bad_sample_of_one_rank_stops_both_before_the_update(tmp_path):
    job = make_job(engine="deepspeed", zero=2, world=2, num_steps=4, save_every=1)
    assert run_ranks(2, run_toy, "one", job, tmp_path, Faults(bad_sample=11)) == [2, 2]   # rank 1 has 10 and 11 at step 2
    for rank in (0, 1):
        message = (tmp_path / f"error_{rank}.txt").read_text()
        assert "the loss is not finite at step 2" in message
        assert "rank 1: clip0011 (t=1); the last good checkpoint is" in message
        assert "step_00000002" in message
    assert status(tmp_path)["state"] == "failed"
    assert not (tmp_path / "checkpoints" / "step_00000003").exists()
