"""Promise: what is evaluated follows from the clips' bytes and records alone, and given frames are never to be made."""

import json

import numpy as np
import pytest
import torch
from evaluation_sets import clip, moving_square, png, write_atd12k, write_heldout
from PIL import Image

from pipeline.errors import UserError
from pipeline.shards import Manifest, Sample, write_manifest, write_shards
from training.evaluation.samples import EvalSample, HeldoutRecipe, list_heldout, read_heldout
from training.evaluation.triplets import list_triplets, read_triplets, region_of_motion


def test_heldout_clip_shows_its_middle_with_both_ends_given(tmp_path):
    shards = write_heldout(tmp_path, samples=[clip(0, num_frames=14)])
    (sample,) = read_heldout(shards, HeldoutRecipe(10, "64x64"))
    assert sample.truth.shape == (10, 3, 64, 64) and sample.given == (0, 9) and sample.spans == [(0, 9)]
    drawn = torch.from_numpy(moving_square(14, speed=1)).permute(0, 3, 1, 2) / 255
    assert (sample.truth - drawn[2:12]).abs().mean() < 0.01 < (sample.truth - drawn[:10]).abs().mean()
    assert (sample.title, sample.caption, sample.fps) == ("film 0", "a square", 24)
    assert sample.strata == {"title": "film 0", "cadence": "twos", "motion": "drawn"}


def test_stride_is_as_large_as_the_clip_allows_and_can_count_drawings():
    from training.data.clips import Clip

    held = Clip("c", "", 24.0, (2,) * 10, b"")
    assert HeldoutRecipe(4, "own", stride=5).window(held).tolist() == [2, 7, 12, 17]
    assert HeldoutRecipe(4, "own", stride=9).window(held).tolist() == [0, 6, 12, 18]
    assert HeldoutRecipe(4, "own", stride=2, drawings=True).window(held).tolist() == [2, 6, 10, 14]
    assert HeldoutRecipe(11, "own", drawings=True).window(held) is None


def test_identity_changes_with_bytes_frames_and_size_only(tmp_path):
    def identity(folder, sample, *recipe):
        return list_heldout(write_heldout(tmp_path / folder, samples=[sample]), HeldoutRecipe(*recipe))[0][0].identity

    base = identity("a", clip(0), 10, "64x64")
    assert identity("b", clip(0, title="renamed"), 10, "64x64") == base
    others = [identity("c", clip(1), 10, "64x64"), identity("d", clip(0), 9, "64x64"), identity("e", clip(0), 10, "32x32")]
    assert len({base, *others}) == 4


def test_first_clips_are_the_same_however_many_are_asked_for(tmp_path):
    shards = write_heldout(tmp_path, num_clips=5)
    recipe = HeldoutRecipe(10, "64x64")
    all_keys = [entry.key for entry in list_heldout(shards, recipe)[0]]
    assert [entry.key for entry in list_heldout(shards, recipe, num_clips=2)[0]] == all_keys[:2] and len(all_keys) == 5


def test_atd12k_folder_and_its_pictures_folder_are_the_same_triplets(tmp_path):
    root = write_atd12k(tmp_path / "atd")
    for place in (root, root / "test_2k_540p"):
        west, east = read_triplets(place, size="own")
        assert (west.key, west.title, west.fps) == ("Disney_v4_8_002_s1", "Disney_v4", 24)
        assert (east.strata["difficulty"], east.strata["region"], east.strata["spacing"], east.fps) == ("easy", "east", "2", 12)
        assert west.given == (0, 2) and west.truth.shape == (3, 3, 54, 96)
        assert west.roi == (5, 15, 40, 30)              # annotated at twice the size
        assert np.array_equal((west.truth[1] * 255).byte().permute(1, 2, 0), np.asarray(
            Image.open(root / "test_2k_540p" / west.key / "frame2.png")))


def test_triplet_shards_are_read_with_their_records(tmp_path):
    frames = moving_square(3, speed=6)
    record = {"schema": 1, "title": "film", "spacing": 2, "difficulty": "hard", "roi": [4, 8, 30, 30], "motion": {"mean": 3.0}}
    sample = Sample("t-1", {**{f"{place}.png": png(frame) for place, frame in enumerate(frames)},
                            "json": json.dumps(record).encode()})
    write_manifest(tmp_path, Manifest("key", write_shards([sample], tmp_path, "eval", max_bytes=10**8, max_samples=10)))
    (entry,) = list_triplets(tmp_path, size="own")
    found = entry.load()
    assert entry.amounts == {"motion_amount": 3.0} and found.strata["difficulty"] == "hard" and found.roi == (4, 8, 30, 30)
    assert torch.equal(found.truth, torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255)


def test_clips_given_as_triplets_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"is no triplet: it has no 0\.png"):
        list_triplets(write_heldout(tmp_path), size="own")


@pytest.mark.parametrize(("box", "annotated", "picture", "wanted"), [
    ({"x": 101, "y": 50, "width": 201, "height": 99}, (1920, 1080), (960, 540), (50, 25, 100, 49)),
    ({"x": 900, "y": 500, "width": 500, "height": 500}, None, (960, 540), (900, 500, 60, 40)),
    ({"x": 0, "y": 0, "width": 10, "height": 10}, (1000, 1000), (960, 540), None),
    (None, (1920, 1080), (960, 540), None),
])
def test_region_is_rounded_down_clipped_and_absent_where_pictures_were_cut(box, annotated, picture, wanted):
    assert region_of_motion(box, annotated, picture) == wanted


@pytest.mark.parametrize("given", [(), (0,), (0, 1), (1, 2), (2, 0), (0, 0, 2)])
def test_given_frames_reach_from_the_first_to_the_last(given):
    with pytest.raises(ValueError, match="do not ascend"):
        EvalSample("k", "", "", 8, torch.zeros(3, 3, 4, 4), given)
