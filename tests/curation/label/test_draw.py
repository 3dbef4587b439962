"""Promise: sketches lie over the encoded frames, several extractors side by side, the same bytes each time."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn_films import acted

from curation.cartoonist.reels import h264, write_video
from curation.config import CurateJob
from curation.encode import CLIP_KIND
from curation.label.draw import FILE, KIND, DrawSketches, SketchJob, finish, waver
from curation.models.config import ModelsConfig
from pipeline.config import load
from pipeline.store import Store


def job(*options: str) -> CurateJob:
    return load(["models.sketch.extractors=[opencv]", "models.device=cpu", *options])


def lines() -> np.ndarray:
    """Two drawings, paper with a vertical line."""
    paper = np.full((2, 48, 64), 255, np.uint8)
    paper[:, :, 30:33] = 0
    return paper


def test_sketches_of_a_clip_have_its_frames_and_size(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with store.publish(CLIP_KIND, "abc") as folder:
        write_video(folder / "clip.mp4", acted(1, 6), 24, h264(16))
    stage = DrawSketches(str(store.root), job().models, {}, "opencv")
    stage.setup()
    [[drawn]] = stage([SketchJob("clip", "abc")])
    path = store.path(KIND, drawn.artifact_key) / FILE
    with np.load(path) as arrays:
        assert list(arrays) == ["sketch"] and arrays["sketch"].shape == (6, 108, 192) and arrays["sketch"].dtype == np.uint8
        assert 0.0 < (arrays["sketch"] < 128).mean() < 0.5
    before = path.read_bytes()
    store.remove(KIND, drawn.artifact_key)
    stage([SketchJob("clip", "abc")])
    assert path.read_bytes() == before
    assert {info.date_time for info in zipfile.ZipFile(path).infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_each_option_of_the_drawing_makes_another_artifact(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with store.publish(CLIP_KIND, "abc") as folder:
        write_video(folder / "clip.mp4", acted(1, 2), 24, h264(16))
    models: list[ModelsConfig] = [job(*options).models for options in
                                  ([], ["models.sketch.binarise=0.5"], ["models.sketch.jitter_px=2"])]
    keys = {DrawSketches(str(store.root), one, {}, "opencv")([SketchJob("clip", "abc")])[0][0].artifact_key for one in models}
    assert len(keys) == 3


def test_binarised_lines_are_black_or_white_at_the_given_share() -> None:
    grey = np.array([[[0, 126, 127, 128, 255]]], np.uint8)      # 0.5 of 255 is 127.5
    sketch = replace(job().models.sketch, binarise=0.5)
    assert finish(grey, sketch, "key").ravel().tolist() == [0, 0, 0, 255, 255]
    assert np.array_equal(finish(grey, job().models.sketch, "key"), grey)


def test_wavering_strokes_move_a_little_and_the_same_in_held_drawings() -> None:
    moved = waver(lines(), 3.0, "key")
    assert np.array_equal(moved[0], moved[1]) and not np.array_equal(moved, lines())
    assert np.array_equal(moved, waver(lines(), 3.0, "key")) and not np.array_equal(moved, waver(lines(), 3.0, "other"))
    columns = np.flatnonzero((moved[0] < 128).any(axis=0))
    assert columns.min() >= 30 - 3 - 1 and columns.max() <= 32 + 3 + 1


@pytest.mark.parametrize("option", ["models.sketch.extractors=[pencil]", "models.sketch.side_px=500",
                                    "models.sketch.binarise=2"])
def test_wrong_option_is_told(option: str) -> None:
    with pytest.raises(Exception, match=r"models\.sketch"):
        load([option])
