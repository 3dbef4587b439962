"""Promise: a clip goes to the size that cuts least of it away and is long enough; clips that are too short are left out."""

from __future__ import annotations

from pathlib import Path

from small_shards import make_job

from training.data.buckets import Bucket, parse_buckets, sort_clips
from training.data.clip_table import ClipFacts


def facts(key: str, *, frames: int = 20, drawings: int = 20, size: tuple[int, int] = (640, 400)) -> ClipFacts:
    return ClipFacts(key, frames, drawings, *size, False)


def sort(clips: list[ClipFacts], *, min_clips: int = 1, **data: object) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    settings = {"size": "512x320", "num_frames": 16, **data}
    found = sort_clips(clips, make_job(None, Path("out"), **settings).data, min_clips=min_clips)
    return dict(found.keys), found.too_short


def test_main_bucket_comes_first_and_frames_default_to_its_own() -> None:
    job = make_job(None, Path("out"), size="512x320", num_frames=16, buckets=["256x256", "512x320x8", "512x320"])
    assert parse_buckets(job.data) == (Bucket(512, 320, 16), Bucket(256, 256, 16), Bucket(512, 320, 8))


def test_clip_goes_to_the_nearest_shape_then_the_most_frames() -> None:
    clips = [facts("wide"), facts("square", size=(300, 300)), facts("short", frames=9, drawings=9), facts("unknown", size=(0, 0))]
    keys, too_short = sort(clips, buckets=["256x256", "512x320x8"])
    assert keys == {"512x320x16": ("wide", "unknown"), "256x256x16": ("square",), "512x320x8": ("short",)}
    assert too_short == ()


def test_clip_too_short_for_its_shape_goes_to_another_before_it_is_left_out() -> None:
    clips = [facts("a"), facts("b", frames=9, size=(300, 300)), facts("c", frames=7)]
    keys, too_short = sort(clips, buckets=["256x256", "512x320x8"])
    assert keys == {"512x320x16": ("a",), "512x320x8": ("b",)} and too_short == ("c",)


def test_smallest_stride_and_distinct_drawings_decide_what_is_too_short() -> None:
    # 16 frames at a stride of 2 reach over 15 * 2 + 1 = 31.
    clips = [facts("31", frames=31, drawings=15), facts("30", frames=30, drawings=16)]
    assert sort(clips, stride_min=2)[1] == ("30",)
    assert sort(clips, drawings=True)[1] == ("31",)


def test_bucket_smaller_than_a_batch_gives_its_clips_to_the_next_best() -> None:
    clips = [*(facts(f"w{index}") for index in range(4)), facts("square", size=(300, 300))]
    assert sort(clips, buckets=["256x256"], min_clips=2)[0] == {"512x320x16": ("w0", "w1", "w2", "w3", "square")}
    assert sort(clips[3:], buckets=["256x256"], min_clips=8)[0] == {"512x320x16": ("w3", "square")}
