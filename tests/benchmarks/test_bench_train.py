"""Promise: the benchmark of trainings counts every second of a step once, and changes nothing that it measures."""

import sys
import time
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from tiny_tasks import build_tiny, make_clips, tiny_job

from benchmarks import training as bench
from training.engine import build_engines
from training.ranks import Ranks


def test_part_inside_another_counts_for_itself_alone():
    watch = bench.Watch()
    with watch.part("forward"):
        time.sleep(0.02)
        with watch.part("encode"):
            time.sleep(0.05)
    assert watch.seconds["encode"] == pytest.approx(0.05, abs=0.015)
    assert watch.seconds["forward"] == pytest.approx(0.02, abs=0.015)


def test_watched_step_comes_to_the_same_and_every_part_is_seen():
    def losses(watch):
        task = build_tiny(tiny_job("rectify"))
        engines = build_engines(task, task.job, Ranks(0, 1, 0, torch.device("cpu")), Path())
        if watch is not None:
            engines = {name: bench.Watched(engine, watch) for name, engine in engines.items()}
        torch.manual_seed(0)
        found = [task.backward(engines, make_clips([step, step + 5]), step).values["loss"] for step in range(2)]
        return found

    watch = bench.Watch()
    with bench._timed_encoders(watch):
        watched = losses(watch)
    assert watched == losses(None)
    assert all(watch.seconds[part] > 0 for part in ("encode", "forward", "backward"))


def test_wrong_number_of_steps_is_one_sentence(capsys):
    assert bench.main(["steps=none"]) == 2
    assert capsys.readouterr().err == "toonforge: error: steps=none is no number of steps. Write steps=10\n"
