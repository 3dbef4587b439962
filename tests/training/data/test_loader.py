"""Promise: the same samples, byte for byte, for any ranks, micro-batch, workers and restart; damage changes that nowhere."""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import signal
import threading
import time
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
import torch
from small_shards import changed, make_clip, make_job, write_data_set

from pipeline.errors import UserError
from pipeline.shards import Sample
from training.config import SketchSource, TaskName, TrainJob
from training.data import stream as streams
from training.data.batch import Batch
from training.data.clip_table import DamageReport
from training.data.loader import heldout_batches, open_training_clips, training_batches
from training.data.loader_speed import measure_loader
from training.data.sketches import draw_lines

CLIPS = [make_clip(index, sketches=True) for index in range(7)]


def decoding_processes() -> list[psutil.Process]:
    """Of the loader alone: other tests of the same session may have children, too."""
    return [child for child in psutil.Process().children() if child.name() == "pt_data_worker"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data_set(tmp_path_factory.mktemp("shards"), CLIPS, [make_clip(index, sketches=True) for index in range(20, 25)])


def samples(batch: Batch) -> dict[int, tuple[object, ...]]:
    """All there is to a sample, by its number."""
    def digest(tensor: torch.Tensor | None, row: int) -> str:
        return "" if tensor is None else hashlib.sha256(tensor[row].contiguous().numpy().tobytes()).hexdigest()

    return {int(number): (batch.keys[row], digest(batch.video, row), int(batch.fps[row]), batch.captions[row],
                          bool(batch.has_image[row]), digest(batch.sketches, row), digest(batch.guided, row), batch.windows[row])
            for row, number in enumerate(batch.numbers)}


def take(job: TrainJob, *, steps: int, world: int = 1, first_step: int = 0) -> dict[int, tuple[object, ...]]:
    """The samples of `steps` optimiser steps over all ranks."""
    found: dict[int, tuple[object, ...]] = {}
    accumulate = job.task.global_batch // (world * job.engine.micro_batch)
    for rank in range(world):
        stream = training_batches(job, rank, world, first_step)
        for batch in islice(stream, steps * accumulate):
            new = samples(batch)
            assert not found.keys() & new.keys() and len(new) == job.engine.micro_batch
            found.update(new)
        stream.close()
    assert sorted(found) == list(range(first_step * job.task.global_batch, (first_step + steps) * job.task.global_batch))
    return found


def test_batch_has_the_shapes_and_ranges_of_the_contract(shards: Path, tmp_path: Path) -> None:
    batch = next(training_batches(make_job(shards, tmp_path, task=TaskName.SKETCH), 0, 1, 0))
    assert batch.video.shape == (2, 3, 4, 64, 64) and batch.video.dtype == torch.float32
    assert batch.sketches is not None and batch.sketches.shape == (2, 1, 4, 64, 64) and batch.sketches.dtype == torch.float32
    assert batch.guided is not None and batch.guided.shape == (2, 4) and batch.guided.dtype == torch.bool
    assert batch.fps.dtype == batch.numbers.dtype == torch.int64 and batch.has_image.dtype == torch.bool
    assert batch.weight.tolist() == [1.0, 1.0] and batch.to("cpu").keys == batch.keys
    assert set(batch.sketches.unique().tolist()) <= {0.0, 1.0}


def test_pixels_are_those_of_the_frames_in_signed_range(shards: Path, tmp_path: Path) -> None:
    batch = next(training_batches(make_job(shards, tmp_path, global_batch=8, micro_batch=8), 0, 1, 0))
    for row, window in enumerate(batch.windows):
        index = int(batch.keys[row][-2:])
        frames = [int(frame) for frame in window.split()[2].split(",")]
        levels = np.array([50 + (10 * index + 5 * frame) % 200 for frame in frames])
        dark, light = (0, -1) if "mirrored" not in window else (-1, 0)
        found = batch.video[row, 0, :, 32].numpy()                # a line across the picture, [t, W]
        assert found[:, light] == pytest.approx(levels / 127.5 - 1, abs=3 / 127.5)        # the colour conversion rounds
        assert found[:, dark] == pytest.approx((levels - 20) / 127.5 - 1, abs=3 / 127.5)
    assert len({window.endswith("mirrored") for window in batch.windows}) == 2


@pytest.mark.parametrize(("world", "micro_batch", "num_workers"), [(1, 8, 0), (2, 2, 0), (4, 1, 0), (4, 2, 1), (1, 4, 2)])
def test_global_batches_are_the_same_for_any_ranks_and_workers(shards: Path, tmp_path: Path, world: int, micro_batch: int,
                                                               num_workers: int) -> None:
    expected = take(make_job(shards, tmp_path, task=TaskName.SKETCH), steps=2)
    job = make_job(shards, tmp_path, task=TaskName.SKETCH, micro_batch=micro_batch, num_workers=num_workers)
    assert take(job, steps=2, world=world) == expected
    assert take(make_job(shards, tmp_path, task=TaskName.SKETCH, seed=6), steps=2) != expected


def test_restart_goes_on_where_any_step_would_have(shards: Path, tmp_path: Path) -> None:
    job = make_job(shards, tmp_path)
    whole = take(job, steps=4)
    for first_step in (1, 3):
        rest = take(job, steps=4 - first_step, first_step=first_step)
        assert rest == {number: sample for number, sample in whole.items() if number >= 8 * first_step}


def test_loading_does_not_move_the_global_generator(shards: Path, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    stream = training_batches(make_job(shards, tmp_path, num_workers=1), 0, 1, 0)
    next(stream)
    stream.close()
    assert torch.equal(torch.get_rng_state(), before)


def test_each_bucket_fills_whole_global_batches_of_its_size(tmp_path: Path) -> None:
    clips = [make_clip(index, width=96 if index < 4 else 64) for index in range(8)]
    job = make_job(write_data_set(tmp_path / "shards", clips), tmp_path, size="192x128", buckets=["64x64x3"], global_batch=4)
    found: dict[int, set[torch.Size]] = {}
    keys: dict[torch.Size, set[str]] = {}
    for rank in range(2):
        for batch in islice(training_batches(job, rank, 2, 0), 6):
            found.setdefault(int(batch.numbers[0]) // 4, set()).add(batch.video.shape[1:])
            keys.setdefault(batch.video.shape[1:], set()).update(batch.keys)
    assert all(len(shapes) == 1 for shapes in found.values())
    assert keys == {torch.Size((3, 4, 128, 192)): {f"clip-{index:02d}" for index in range(4)},
                    torch.Size((3, 3, 64, 64)): {f"clip-{index:02d}" for index in range(4, 8)}}


def damaged_clips() -> list[Sample]:
    """Clip 2's film ends early, clip 4's drawings too, clip 5's film is nothing, clip 6 has none."""
    clips = list(CLIPS)
    clips[2] = changed(clips[2], {"mp4": clips[2].files["mp4"][: len(clips[2].files["mp4"]) // 2]})
    clips[4] = changed(clips[4], {"sketch.npz": clips[4].files["sketch.npz"][:-50]})
    clips[5] = changed(clips[5], {"mp4": b"no film"})
    clips[6] = changed(clips[6], {"mp4": None})
    return clips


def test_damaged_samples_are_named_once_and_replaced_alike_everywhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_data_set(tmp_path / "shards", damaged_clips())
    job = make_job(folder, tmp_path, task=TaskName.SKETCH)
    stream = training_batches(job, 0, 1, 0)
    expected = {number: sample for batch in islice(stream, 8) for number, sample in samples(batch).items()}
    assert {sample[0] for sample in expected.values()} == {"clip-00", "clip-01", "clip-03"}
    assert stream.report.damages[0].key == "clip-06"      # seen in the index, before the first
    assert sorted(damage.key for damage in stream.report.damages) == ["clip-02", "clip-04", "clip-05", "clip-06"]
    assert all(damage.number in expected for damage in stream.report.damages[1:])
    lines = [record.getMessage() for record in caplog.records if "damaged_sample" in record.getMessage()]
    assert len(lines) == 4 and any("clip-04" in line and "sketch.npz" in line for line in lines)
    for world, num_workers in ((2, 0), (4, 1)):
        assert take(make_job(folder, tmp_path, task=TaskName.SKETCH, num_workers=num_workers), steps=2, world=world) == expected


def test_whole_clips_take_the_samples_they_would_have_taken_without_the_damaged(tmp_path: Path) -> None:
    whole = take(make_job(write_data_set(tmp_path / "a", CLIPS), tmp_path), steps=2)
    clips = [changed(clip, {"mp4": b"no film"}) if clip.key == "clip-02" else clip for clip in CLIPS]
    found = take(make_job(write_data_set(tmp_path / "b", clips), tmp_path), steps=2)
    assert any(sample[0] == "clip-02" for sample in whole.values())
    assert {number: sample for number, sample in whole.items() if sample[0] != "clip-02"}.items() <= found.items()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_nothing_but_damaged_clips_stops_with_the_first_reason(tmp_path: Path, num_workers: int) -> None:
    folder = write_data_set(tmp_path / "shards", [changed(clip, {"mp4": b"no film"}) for clip in CLIPS])
    stream = training_batches(make_job(folder, tmp_path, num_workers=num_workers), 0, 1, 0)
    with pytest.raises(UserError, match="no clip can be decoded for sample 0: 7 in a row are damaged; the first, clip-"):
        next(stream)
    stream.close()


def test_shard_that_shrinks_while_it_is_read_stops_the_run(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path / "shards", CLIPS)
    stream = training_batches(make_job(folder, tmp_path), 0, 1, 0)
    for tar in folder.glob("*.tar"):
        tar.write_bytes(b"")
    with pytest.raises(UserError, match="before a sample did"):      # no damage: another rank may have read it
        next(stream)


def test_clips_too_short_are_left_out_and_counted_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clips = [make_clip(0), make_clip(1, num_frames=3), make_clip(2, num_frames=3), make_clip(3)]
    job = make_job(write_data_set(tmp_path / "shards", clips), tmp_path)
    found = {sample[0] for rank in range(2) for batch in islice(training_batches(job, rank, 2, 0), 4)
             for sample in samples(batch).values()}
    assert found == {"clip-00", "clip-03"}
    lines = [record.getMessage() for record in caplog.records if "clips_left_out" in record.getMessage()]
    assert len(lines) == 1 and "reason=too_short clips=2 of=4 first=clip-01" in lines[0]


def test_shards_that_cannot_be_trained_on_say_why(tmp_path: Path, shards: Path) -> None:
    with pytest.raises(UserError, match="shards is not given"):
        training_batches(make_job(None, tmp_path), 0, 1, 0)
    with pytest.raises(UserError, match="none of 7 has 16 frames at a stride of 1"):
        training_batches(make_job(shards, tmp_path, num_frames=16), 0, 1, 0)
    only_heldout = write_data_set(tmp_path / "eval", [], [make_clip(0)])
    with pytest.raises(UserError, match="no clips to train on"):
        training_batches(make_job(only_heldout, tmp_path), 0, 1, 0)
    plain = write_data_set(tmp_path / "plain", [make_clip(0)])
    with pytest.raises(UserError, match="hold no sketches"):
        training_batches(make_job(plain, tmp_path, task=TaskName.SKETCH), 0, 1, 0)
    with pytest.raises(UserError, match="no held-out clips"):
        heldout_batches(make_job(plain, tmp_path), 0, 1)


def test_sketches_of_the_sample_belong_to_their_frames_and_follow_mirroring(shards: Path, tmp_path: Path) -> None:
    job = make_job(shards, tmp_path, task=TaskName.SKETCH, size="192x128", micro_batch=8)
    batch = next(training_batches(job, 0, 1, 0))
    assert batch.sketches is not None and batch.guided is not None
    for row, window in enumerate(batch.windows):
        for place, frame in enumerate(int(frame) for frame in window.split()[2].split(",")):
            drawn = batch.sketches[row, 0, place]
            if not batch.guided[row, place]:
                assert not drawn.any()
                continue
            # The line of frame f lies at 4 f of 96, so at 8 f of 192.
            column = 191 - 8 * frame - 0.5 if window.endswith("mirrored") else 8 * frame + 0.5
            assert (drawn.mean(0) * torch.arange(192)).sum() / drawn.mean(0).sum() == pytest.approx(column, abs=1)
    assert 0 < batch.guided.sum() < batch.guided.numel()


@pytest.mark.parametrize("source", list(SketchSource))
def test_zero_gate_trains_with_drawings_on_all_frames(shards: Path, tmp_path: Path, source: SketchSource) -> None:
    job = make_job(shards, tmp_path, task=TaskName.SKETCH, zero_gate=True, sketch_source=source, size="192x128")
    batch = next(training_batches(job, 0, 1, 0))
    assert batch.guided is not None and batch.guided.all()
    assert batch.sketches is not None and batch.sketches.amax(dim=(1, 3, 4)).min() > 0.5


def test_other_tasks_read_no_drawings(shards: Path, tmp_path: Path) -> None:
    clips = open_training_clips(make_job(shards, tmp_path), DamageReport())
    assert "sketch.npz" not in clips.recipe.members
    batch = next(training_batches(make_job(shards, tmp_path), 0, 1, 0))
    assert batch.sketches is None and batch.guided is None


def test_dropped_captions_are_empty(shards: Path, tmp_path: Path) -> None:
    batches = list(islice(training_batches(make_job(shards, tmp_path, condition_drop=0.25), 0, 1, 0), 20))
    captions = [caption for batch in batches for caption in batch.captions]
    keys = [key for batch in batches for key in batch.keys]
    assert all(caption in ("", f"clip {int(key[-2:])}") for caption, key in zip(captions, keys, strict=True))
    # Half have no text: 20 of 40, standard deviation 3.2.
    assert 5 < captions.count("") < 35
    assert 5 < sum(int(batch.has_image.sum()) for batch in batches) < 35


@pytest.mark.parametrize(("world", "micro_batch"), [(1, 1), (1, 4), (2, 2), (4, 1)])
def test_held_out_clips_are_the_same_on_any_ranks_with_as_many_batches_each(shards: Path, tmp_path: Path, world: int,
                                                                            micro_batch: int) -> None:
    reference = {number: sample for batch in heldout_batches(make_job(shards, tmp_path, micro_batch=1), 0, 1)
                 for number, sample in samples(batch).items()}
    job = make_job(shards, tmp_path, micro_batch=micro_batch, seed=77)
    rounds = [heldout_batches(job, rank, world) for rank in range(world)]
    assert {len(batches) for batches in rounds} == {len(list(batches)) for batches in rounds} == {-(-5 // (world * micro_batch))}
    weights: dict[int, float] = {}
    for batches in rounds:
        for batch in batches:
            for number, sample in samples(batch).items():
                assert sample == reference[number]
            for number, weight in zip(batch.numbers.tolist(), batch.weight.tolist(), strict=True):
                weights[number] = weights.get(number, 0.0) + weight
    assert weights == dict.fromkeys(range(5), 1.0)
    assert {sample[0] for sample in reference.values()} == {f"clip-{index}" for index in range(20, 25)}


def test_few_or_damaged_held_out_clips_are_said_and_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clips = [make_clip(20), changed(make_clip(21), {"mp4": b"no film"})]
    batches = heldout_batches(make_job(write_data_set(tmp_path / "shards", [], clips), tmp_path, micro_batch=1), 0, 1)
    assert [batch.keys for batch in batches] == [("clip-20",), ("clip-20",)]
    assert [damage.key for damage in batches.report.damages] == ["clip-21"]
    assert "wanted=5 found=2" in caplog.text


def test_workers_leave_signals_to_the_rank(shards: Path, tmp_path: Path) -> None:
    stream = training_batches(make_job(shards, tmp_path, num_workers=2), 0, 1, 0)
    next(stream)
    workers = decoding_processes()
    assert len(workers) == 2
    for name in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        for worker in workers:
            os.kill(worker.pid, name)
    time.sleep(0.1)
    assert [len(next(stream).keys) for _ in range(12)] == [2] * 12
    stream.close()
    assert not psutil.wait_procs(workers, timeout=20)[1]


def test_killed_worker_is_explained_where_its_batch_is_waited_for(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                                 ) -> None:
    monkeypatch.setattr(streams, "POLL_S", 1)
    stream = training_batches(make_job(shards, tmp_path, num_workers=1), 0, 1, 0)
    next(stream)
    os.kill(decoding_processes()[0].pid, signal.SIGKILL)
    time.sleep(0.2)                                         # its end is told to the rank here, which is not the place to fail
    with pytest.raises(UserError, match=r"Lower data\.num_workers"):
        for _ in range(100):
            next(stream)
    stream.close()


@pytest.mark.slow
def test_slow_worker_is_waited_for_and_one_that_hangs_is_ended(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                               ) -> None:
    monkeypatch.setattr(streams, "POLL_S", 1)
    expected = take(make_job(shards, tmp_path), steps=3)
    stream = training_batches(make_job(shards, tmp_path, num_workers=1), 0, 1, 0)
    found = samples(next(stream))
    worker = decoding_processes()[0]
    worker.suspend()
    threading.Timer(3.5, worker.resume).start()
    for _ in range(11):
        found.update(samples(next(stream)))
    assert found == expected                                # polling in between lost and repeated nothing
    monkeypatch.setattr(streams, "SILENCE_S", 2)
    worker.suspend()
    with pytest.raises(UserError, match="died or hangs: DataLoader timed out"):
        for _ in range(100):
            next(stream)
    stream.close()
    assert not psutil.wait_procs([worker], timeout=20)[1]


def test_workers_start_after_the_rank_itself_drew_sketches(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SILENCE_S", 20)
    cv2.setNumThreads(4)                                    # a pool that a forked process does not have
    options = {"task": TaskName.SKETCH, "sketch_source": SketchSource.OPENCV}
    expected = take(make_job(shards, tmp_path, **options), steps=1)
    draw_lines(np.random.default_rng(0).integers(0, 256, (480, 640), np.uint8))
    cv2.setNumThreads(4)
    draw_lines(np.random.default_rng(0).integers(0, 256, (480, 640), np.uint8))
    assert take(make_job(shards, tmp_path, num_workers=2, **options), steps=1) == expected


def test_clips_travel_to_other_processes(shards: Path, tmp_path: Path) -> None:
    clips = open_training_clips(make_job(shards, tmp_path), DamageReport())
    one, two = clips[3], pickle.loads(pickle.dumps(clips))[3]
    assert not isinstance(one, UserError) and not isinstance(two, UserError)
    assert one.window == two.window and np.array_equal(one.pictures_u8, two.pictures_u8)


def test_shards_at_an_address_give_the_same_samples(shards: Path, tmp_path: Path) -> None:
    expected = take(make_job(shards, tmp_path), steps=1)
    assert take(make_job(f"file://{shards}", tmp_path, num_workers=1), steps=1) == expected


def test_speed_of_the_loader_is_measured(shards: Path, tmp_path: Path) -> None:
    speed = measure_loader(make_job(shards, tmp_path, num_workers=1), 0.3)
    assert speed.clips >= 2 and speed.wall_s >= 0.3 and speed.cpu_s > 0
    assert speed.clips_per_s == speed.clips / speed.wall_s and speed.clips_per_core_s == speed.clips / speed.cpu_s
