"""Promise: a triplet sample is a function of (seed, n), and its coarse flows stay in step with its frames, however it is cut."""

import io
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from drawn_triplets import draw_triplet, png, triplet_sample, write_drawn, write_triplets

from pipeline.config import TRAIN, load
from pipeline.errors import UserError
from training.config import FlowSource
from training.data.loader import heldout_batches, training_batches
from training.data.triplets import TripletRecipe, View, draw_view, read_flows, resized_flows, seen

MOVES = np.array([6.0, -4.0], np.float32)       # of the whole picture from first to last frame


def make_job(shards, out, *overrides):
    return load(["experiment=tiny_animeinterp", f"shards={shards}", f"out={out}", "device=cpu", "tracker=disabled",
                 "engine.micro_batch=2", *overrides], TRAIN)


def take(job, *, steps, world=1, first_step=0):
    found = {}
    for rank in range(world):
        stream = training_batches(job, rank, world, first_step)
        for batch in islice(stream, steps * job.task.global_batch // (world * job.engine.micro_batch)):
            for row, number in enumerate(batch.numbers.tolist()):
                flows = None if batch.flows is None else batch.flows[row].numpy().tobytes()
                found[number] = (batch.keys[row], batch.video[row].numpy().tobytes(), flows, batch.windows[row])
        stream.close()
    return found


def moving_pattern(width=96, height=80):
    """Three frames cut out of one smooth random picture, and the true flows between the outer ones."""
    chance = np.random.default_rng(3)
    large = chance.integers(0, 256, (height + 40, width + 40, 3), np.uint8)
    corners = [(20, 20), (17, 22), (14, 24)]         # x, y: the content moves the other way
    frames = np.stack([large[y:y + height, x:x + width] for x, y in corners])
    flow = np.broadcast_to(MOVES[:, None, None], (2, height, width))
    return frames, np.stack([flow, -flow]).copy()


def assert_flow_fits(frames, flows):
    """Each flow finds the same colours in the other outer frame, wherever it stays inside."""
    _, height, width = frames.shape[:3]
    y, x = np.mgrid[:height, :width]
    for here, there, flow in ((frames[0], frames[2], flows[0]), (frames[2], frames[0], flows[1])):
        to_x, to_y = x + flow[0].astype(int), y + flow[1].astype(int)
        inside = (to_x >= 0) & (to_x < width) & (to_y >= 0) & (to_y < height)
        assert inside.mean() > 0.5
        assert np.array_equal(here[inside], there[to_y[inside], to_x[inside]])


@pytest.mark.parametrize("flips", [(False, False, False), (True, False, False), (False, True, False), (False, False, True),
                                   (True, True, True)], ids=str)
@pytest.mark.parametrize("shift", [(0, 0), (4, -6), (-8, 2)], ids=str)
def test_flows_follow_crop_shift_mirroring_and_reversal(flips, shift):
    frames, flows = moving_pattern()
    view = View((16, 12), shift, (48, 40), *flips)
    cut, cut_flows = seen(frames, flows, view)
    assert cut.shape == (3, 40, 48, 3) and cut_flows.shape == (2, 2, 40, 48) and cut_flows.dtype == np.float32
    assert_flow_fits(cut, cut_flows)
    wanders = np.array([-1 if flips[0] else 1, -1 if flips[1] else 1]) * (MOVES - shift)
    assert np.allclose(cut_flows[0, :, 0, 0], -wanders if flips[2] else wanders)


def test_middle_frame_wanders_half_the_way():
    frames, _ = moving_pattern()
    cut, _ = seen(frames, None, View((16, 12), (4, -6), (48, 40), False, False, False))
    assert np.array_equal(cut[1], frames[1][9:49, 18:66])


def test_views_stay_inside_are_even_and_depend_on_seed_and_number_only():
    recipe = TripletRecipe((128, 96), (64, 80), 30, 0.5, 0.5, 0.5, FlowSource.NONE, seed=7)
    views = [draw_view(recipe, number) for number in range(400)]
    assert views == [draw_view(recipe, number) for number in range(400)]
    assert views != [draw_view(TripletRecipe((128, 96), (64, 80), 30, 0.5, 0.5, 0.5, FlowSource.NONE, seed=8), number)
                     for number in range(400)]
    for view in views:
        for corner, shift, size, whole in zip(view.corner, view.shift, view.size, (128, 96), strict=True):
            assert shift % 2 == 0 and abs(shift) <= min(30, whole - size)
            assert 0 <= corner <= whole - size and 0 <= corner + shift <= whole - size
    for name in ("is_mirrored", "is_upside_down", "is_reversed"):
        assert 0.4 < np.mean([getattr(view, name) for view in views]) < 0.6
    assert {np.sign(view.shift[0]) for view in views} == {-1, 0, 1}


def test_resized_flow_keeps_its_meaning():
    flow = np.zeros((2, 2, 8, 16), np.float32)
    flow[:, 0], flow[:, 1] = 4.0, 2.0
    larger = resized_flows(flow, (32, 24))
    assert larger.shape == (2, 2, 24, 32) and (larger[:, 0] == 8.0).all() and (larger[:, 1] == 6.0).all()


def test_batch_holds_three_frames_in_signed_range(tmp_path):
    job = make_job(write_drawn(tmp_path / "shards"), tmp_path / "run", "data.flip=0", "data.triplets.reverse=0",
                   "data.size=128x96")
    batch = next(training_batches(job, 0, 1, 0))
    assert batch.video.shape == (2, 3, 3, 96, 128) and batch.flows is None
    frames = draw_triplet(int(batch.keys[0][-4:]))
    expected = torch.from_numpy(frames).permute(3, 0, 1, 2).float() / 127.5 - 1
    torch.testing.assert_close(batch.video[0], expected)


def test_frames_of_another_size_are_brought_to_the_one_asked_for(tmp_path):
    job = make_job(write_drawn(tmp_path / "shards", width=256, height=192), tmp_path / "run")
    assert next(iter(heldout_batches(job, 0, 1))).video.shape == (2, 3, 3, 96, 128)


@pytest.mark.parametrize(("world", "micro_batch", "num_workers"), [(2, 2, 0), (1, 4, 1)])
def test_samples_are_the_same_for_any_ranks_and_workers(tmp_path, world, micro_batch, num_workers):
    shards = write_drawn(tmp_path / "shards")
    expected = take(make_job(shards, tmp_path / "run"), steps=3)
    job = make_job(shards, tmp_path / "run", f"engine.micro_batch={micro_batch}", f"data.num_workers={num_workers}")
    assert take(job, steps=3, world=world) == expected
    rest = take(job, steps=2, world=world, first_step=1)
    assert rest == {number: sample for number, sample in expected.items() if number >= job.task.global_batch}
    assert len({window for *_, window in expected.values()}) == len(expected)


def test_heldout_triplets_are_whole_frames_and_the_same_in_every_round(tmp_path):
    shards = write_drawn(tmp_path / "shards", num_heldout=3)
    first, second = (list(heldout_batches(make_job(shards, tmp_path, f"seed={seed}"), 0, 1)) for seed in (1, 2))
    assert [batch.keys for batch in first] == [batch.keys for batch in second]
    assert all(torch.equal(a.video, b.video) for a, b in zip(first, second, strict=True))
    assert [batch.weight.tolist() for batch in first] == [[1.0, 1.0], [1.0, 0.0]]
    assert first[0].video.shape == (2, 3, 3, 96, 128)


def packed(**arrays):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def test_stored_flows_travel_with_their_triplet(tmp_path):
    frames, flows = moving_pattern(width=128, height=96)
    sample = triplet_sample("t-0", frames, flow__npz=packed(flow01=flows[0], flow10=flows[1]))
    shards = write_triplets(tmp_path / "shards", [sample])
    job = make_job(shards, tmp_path, "data.triplets.flows=shards", "data.triplets.crop_shift=8",
                   "data.triplets.vertical_flip=0.5")
    for batch in islice(training_batches(job, 0, 1, 0), 4):
        assert batch.flows.shape == (2, 2, 2, 64, 64) and batch.to("cpu").flows is not None
        for video, flow in zip(batch.video, batch.flows, strict=True):
            assert_flow_fits(video.permute(1, 2, 3, 0).numpy(), flow.numpy())


def test_computed_flows_are_those_of_the_matching_and_are_kept(tmp_path):
    shards = write_drawn(tmp_path / "shards", num_train=2, num_shapes=2)
    job = make_job(shards, tmp_path / "run", "data.triplets.flows=computed")
    assert take(job, steps=1) == take(job, steps=1)
    assert len(list((tmp_path / "run" / "cache").rglob("flows.npz"))) == 2
    assert next(training_batches(job, 0, 1, 0)).flows.abs().max() > 0


@pytest.mark.parametrize("damage", [
    {"1.png": b"no picture"}, {"1.png": png(draw_triplet(1)[1])[:900]}, {"json": b'{"schema": 2}'}, {"flow.npz": b"PK"},
    {"flow.npz": packed(flow01=np.zeros(3), flow10=np.zeros(3))}], ids=["no picture", "cut off", "schema", "no zip", "shape"])
def test_damaged_triplet_is_replaced_and_named(tmp_path, damage):
    flow = packed(flow01=np.zeros((2, 96, 128), np.float32), flow10=np.zeros((2, 96, 128), np.float32))
    samples = [triplet_sample(f"t-{index}", draw_triplet(index), flow__npz=flow) for index in range(4)]
    samples[2].files.update(damage)
    job = make_job(write_triplets(tmp_path / "shards", samples), tmp_path, "data.triplets.flows=shards")
    stream = training_batches(job, 0, 1, 0)
    keys = {key for batch in islice(stream, 4) for key in batch.keys}
    assert keys == {"t-0", "t-1", "t-3"}
    assert [found.key for found in stream.report.damages] == ["t-2"]


def test_shards_that_hold_no_triplets_or_no_flows_are_refused_at_once(tmp_path):
    shards = write_drawn(tmp_path / "shards", num_train=1, num_heldout=0)
    with pytest.raises(UserError, match="no triplets in its eval shards"):
        heldout_batches(make_job(shards, tmp_path), 0, 1)
    with pytest.raises(UserError, match=r"have no flow\.npz.*precompute"):
        training_batches(make_job(shards, tmp_path, "data.triplets.flows=shards"), 0, 1, 0)


def test_flow_file_of_another_shape_is_damage():
    with pytest.raises(ValueError, match="not of 2 x height x width"):
        read_flows(packed(flow01=np.zeros((3, 4, 4)), flow10=np.zeros((3, 4, 4))), (4, 4))
