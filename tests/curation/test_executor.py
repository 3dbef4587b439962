"""Promise: a chain gives the same rows inline, in threads and in Ray, and no row stops or disappears from another's fault."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from toy_stages import Fussy, KilledOnce, Number, OnFullDisk, Plain, Remark, Split

from curation.config import ExecutorName, RayConfig
from curation.executor import Executor, Timing, add_up, pool_size
from curation.stage import Resources, Stage
from pipeline.errors import UserError

RAY = RayConfig(address="local", object_store_mb=80, temp_dir=None)
ROWS = [*(Number(value) for value in (3, 6, 0, 10, 20)), Remark("passes by")]


@pytest.fixture(scope="module")
def ray_executor() -> Iterator[Executor]:
    """One Ray for the module; its workers must find the toy stages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=":")
        with Executor(ExecutorName.RAY, 2, RAY) as executor:
            yield executor


def run(kind: str, stages: list[type[Plain]], rows: Sequence[Any], request: pytest.FixtureRequest) -> list[Any]:
    """All results of a chain run "inline", in "threads" or by "ray"; threads are for stages that need no core."""
    if kind == "ray":
        executor = request.getfixturevalue("ray_executor")
    else:
        executor = Executor(ExecutorName.INLINE if kind == "inline" else ExecutorName.RAY, 2, RAY)
    chain: list[Stage] = [stage(cpus=0.0 if kind == "threads" else 1.0) for stage in stages]
    return list(executor.run(chain, rows))


def without_timings(results: Sequence[Any]) -> list[Any]:
    return sorted((row for row in results if not isinstance(row, Timing)), key=repr)


@pytest.mark.parametrize("kind", ["inline", "threads", "ray"])
def test_every_way_of_running_gives_the_rows_of_a_plain_loop(kind: str, request: pytest.FixtureRequest) -> None:
    """Worked out by hand: split, then what fussy refuses without its neighbours in the batch, then plain."""
    expected: list[Number | Remark] = [Remark("passes by")]
    for value in (3, 6, 10, 20):
        expected.append(Remark(f"{value} was split"))
        for number, trace in ((value, "split"), (value + 1, "next")):
            step = f"fussy failed: ValueError: {number} is a multiple of 7" if number % 7 == 0 else "fussy"
            expected.append(Number(number, (trace, step, "plain")))
    results = run(kind, [Split, Fussy, Plain], ROWS, request)
    assert without_timings(results) == sorted(expected, key=repr)
    timings = add_up([row for row in results if isinstance(row, Timing)])
    assert {stage: row["rows"] for stage, row in timings.items()} == {"split": 5, "fussy": 8, "plain": 8}
    assert all(row["wall_s"] >= 0 and row["cpu_s"] >= 0 for row in timings.values())


@pytest.mark.parametrize("kind", ["inline", "threads", pytest.param("ray", marks=pytest.mark.slow)])
def test_full_disk_stops_the_run_and_blames_no_row(kind: str, request: pytest.FixtureRequest) -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        run(kind, [OnFullDisk], [Number(value) for value in range(8)], request)
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize("kind", ["inline", "threads", "ray"])
def test_nothing_to_do_is_done_at_once(kind: str, request: pytest.FixtureRequest) -> None:
    assert run(kind, [Plain], [], request) == []


def test_rows_come_while_later_ones_are_still_to_be_done() -> None:
    running = Executor(ExecutorName.INLINE, 1, RAY).run([OnFullDisk()], [Number(1), Number(5)])
    assert next(running) == Number(1, ("writer",))


def test_run_that_is_given_up_ends_with_the_executor() -> None:
    """Left to the garbage collector, what Ray still runs would be closed after Ray, with a page of complaints."""
    with Executor(ExecutorName.INLINE, 1, RAY) as executor:
        running = executor.run([Plain()], [Number(1), Number(2)])
        next(running)
    assert list(running) == []


def test_missing_ray_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)            # as if it were not installed
    with pytest.raises(UserError, match=r"curation.executor=ray needs Ray, which is not installed: .*curation.executor=inline"):
        Executor(ExecutorName.RAY, 1, RAY).__enter__()


@pytest.mark.slow
def test_killed_worker_is_replaced_and_its_row_is_done_again(ray_executor: Executor, tmp_path: Path) -> None:
    rows = [Number(value) for value in range(6)]
    results = without_timings(list(ray_executor.run([KilledOnce(str(tmp_path / "killed"))], rows)))
    assert (tmp_path / "killed").exists()
    assert results == [Number(value, ("killed",)) for value in range(6)]


@pytest.mark.parametrize(("needs", "num_gpus", "memory_gb", "expected"), [
    (Resources(memory_gb=0.5), 0, 8, 4),                         # a light stage: every worker
    (Resources(memory_gb=0.5), 8, 8, 4),
    (Resources(gpus=0.25, memory_gb=16), 2, 8, 8),               # a quarter of a GPU each, on two GPUs
    (Resources(gpus=0.25, memory_gb=16), 0, 64, 2),              # no GPU: two fit into half of the memory
    (Resources(gpus=0.25, memory_gb=16), 0, 8, 1),               # one is tried in any case
])
def test_workers_of_a_model_are_as_many_as_gpus_or_memory_hold(needs: Resources, num_gpus: float, memory_gb: float, expected: int
                                                              ) -> None:
    assert pool_size(needs, 100, 4, num_gpus, memory_gb) == expected
    assert pool_size(needs, 1, 4, num_gpus, memory_gb) == 1
