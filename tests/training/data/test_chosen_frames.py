"""Promise: a training sample is read from a shard frame by frame, and may take distinct drawings instead of raw frames."""

from __future__ import annotations

import io
import json
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.shards import Sample, ShardReader, write_shards
from training.data.clips import choose_frames, read_clip

HOLDS = (2, 3, 1, 2)                     # eight frames, four drawings
LEVELS = (40, 90, 140, 190)              # luma of each drawing


def film(levels: list[int], ticks: list[int]) -> bytes:
    """An mp4 of flat grey frames 64x48 shown at `ticks` of 1/24 s."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "1", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 24)
        for level, tick in zip(levels, ticks, strict=True):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8), format="rgb24")
            picture.pts, picture.time_base = tick, Fraction(1, 24)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def sample(**changes: object) -> Sample:
    levels = [level for level, hold in zip(LEVELS, HOLDS, strict=True) for _ in range(hold)]
    record = {"schema": 1, "fps": 24.0, "holds": HOLDS, "captions": [{"text": "A cat.", "model": "m"}], **changes}
    return Sample("clip-1", {"mp4": film(levels, [0, 1, 2, 3, 4, 6, 7, 8]), "txt": b"A dog.",
                             "json": json.dumps(record).encode()})


def choose(holds: tuple[int, ...], count: int, *, drawings: bool, strides: tuple[int, int] = (1, 1), seed: int = 0
           ) -> list[int]:
    generator = np.random.default_rng(seed)
    return choose_frames(sum(holds), holds, count, drawings=drawings, stride_range=strides, generator=generator).tolist()


def test_clip_of_a_shard_has_the_frames_times_and_holds_that_were_written(tmp_path: Path) -> None:
    write_shards([sample()], tmp_path, "train", max_bytes=10**6, max_samples=10)
    clip = read_clip(ShardReader(tmp_path)[0])
    assert (clip.key, clip.caption, clip.fps, clip.holds) == ("clip-1", "A dog.", 24.0, HOLDS)
    assert clip.frames.shape == (8, 48, 64, 3) and clip.frames.dtype == np.uint8
    expected = np.repeat(LEVELS, HOLDS)
    assert np.abs(clip.frames.mean(axis=(1, 2, 3)) - expected).max() < 3          # the colour conversion rounds
    assert clip.pts_s == pytest.approx(np.array([0, 1, 2, 3, 4, 6, 7, 8]) / 24, abs=1e-6)


def test_single_frames_are_those_of_the_whole_film_in_the_order_asked_for() -> None:
    clip = read_clip(sample())
    assert np.array_equal(clip.read(np.array([6, 0, 5, 0])), clip.frames[[6, 0, 5, 0]])
    with pytest.raises(IndexError, match="no frame 8"):
        clip.read(np.array([8]))


def test_caption_of_the_record_stands_in_where_there_is_no_text() -> None:
    files = {name: data for name, data in sample().files.items() if name != "txt"}
    assert read_clip(Sample("clip-1", files)).caption == "A cat."


def test_sample_that_is_no_clip_is_refused_in_one_sentence() -> None:
    with pytest.raises(UserError, match="no mp4"):
        read_clip(Sample("clip-1", {"json": b"{}"}))
    with pytest.raises(UserError, match="has schema 2"):
        read_clip(sample(schema=2))
    with pytest.raises(UserError, match="its film has 8 frames, its record 9"):
        _ = read_clip(sample(holds=(9,))).frames


def test_distinct_drawings_are_the_first_frames_of_their_holds() -> None:
    # Holds of 2, 3, 1 and 2 frames begin at frames 0, 2, 5 and 6.
    assert choose(HOLDS, 4, drawings=True) == [0, 2, 5, 6]
    assert choose(HOLDS, 2, drawings=True, strides=(3, 3)) == [0, 6]


def test_raw_frames_are_taken_at_one_stride() -> None:
    assert choose(HOLDS, 4, drawings=False, strides=(2, 2)) in ([0, 2, 4, 6], [1, 3, 5, 7])
    assert choose(HOLDS, 8, drawings=False) == list(range(8))


def test_stride_is_no_longer_than_the_clip_allows() -> None:
    # Three of eight frames reach over at most (8 - 1) // 2 = 3 frames each.
    strides = {chosen[1] - chosen[0] for seed in range(200)
               for chosen in [choose(HOLDS, 3, drawings=False, strides=(1, 9), seed=seed)]}
    assert strides == {1, 2, 3}


def test_every_start_is_drawn() -> None:
    starts = {choose(HOLDS, 2, drawings=False, strides=(4, 4), seed=seed)[0] for seed in range(200)}
    assert starts == {0, 1, 2, 3}        # the second frame is at most the eighth


def test_clip_without_enough_drawings_is_refused_though_it_has_the_frames() -> None:
    assert len(choose(HOLDS, 5, drawings=False)) == 5
    with pytest.raises(ValueError, match="4 distinct drawings has no 5"):
        choose(HOLDS, 5, drawings=True)
    with pytest.raises(ValueError, match="no 4 at a stride of 2"):
        choose(HOLDS, 4, drawings=True, strides=(2, 3))


def test_holds_that_do_not_fit_the_clip_and_empty_ranges_are_refused() -> None:
    generator = np.random.default_rng(0)
    with pytest.raises(ValueError, match="do not fit"):
        choose_frames(9, HOLDS, 2, drawings=True, stride_range=(1, 1), generator=generator)
    with pytest.raises(ValueError, match="ascending"):
        choose_frames(8, HOLDS, 2, drawings=True, stride_range=(3, 2), generator=generator)


@settings(deadline=None)          # another process may have the core
@given(holds=st.lists(st.integers(1, 6), min_size=4, max_size=40).map(tuple), count=st.integers(1, 4),
       high=st.integers(1, 9), drawings=st.booleans(), seed=st.integers(0, 2**32 - 1))
def test_chosen_frames_rise_inside_the_clip_and_follow_from_the_generator(
        holds: tuple[int, ...], count: int, high: int, drawings: bool, seed: int) -> None:
    chosen = choose(holds, count, drawings=drawings, strides=(1, high), seed=seed)
    assert len(chosen) == count and chosen[0] >= 0 and chosen[-1] < sum(holds)
    assert all(one < two for one, two in pairwise(chosen))
    assert chosen == choose(holds, count, drawings=drawings, strides=(1, high), seed=seed)
    if drawings:
        assert set(chosen) <= {int(first) for first in np.cumsum((0, *holds))[:-1]}
    assert len({two - one for one, two in pairwise(chosen)}) <= 1 or drawings
