"""Promise: folders and annotations are those of ATD-12K, are read back as written, and never replace what others wrote."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from triplet_films import draw_disc

from curation.triplets.layout import Annotation, TripletFiles, read_frames, read_layout, write_layout
from curation.triplets.roi import Roi
from pipeline.errors import UserError

NOTE = Annotation((192, 108), Roi(10, 20, 60, 40), 2, ("rotation",), ())
PICTURES = [draw_disc(40 + 10 * index, 50) for index in range(3)]
PNGS = [cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes() for picture in PICTURES]
TRIPLETS = (TripletFiles("Other_v4_8_002959_s2", PNGS, NOTE), TripletFiles("Japan_v2_0_161238_s3", PNGS, None))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_layout(tmp_path, TRIPLETS)
    return tmp_path / "datasets"


def test_folders_and_files_have_the_names_of_atd_12k(root: Path) -> None:
    found = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()} - {"toonforge.json"}
    test, train = "Other_v4_8_002959_s2", "Japan_v2_0_161238_s3"
    assert found == {
        *(f"train_10k/{train}/frame{number}.jpg" for number in (1, 2, 3)),
        *(f"test_2k_540p/{test}/frame{number}.png" for number in (1, 2, 3)),
        *(f"test_2k_original/{test}/frame{number}.jpg" for number in (1, 2, 3)),
        f"test_2k_annotations/{test}/{test}.json"}


def test_annotation_holds_exactly_the_fields_of_atd_12k(root: Path) -> None:
    path = next((root / "test_2k_annotations").rglob("*.json"))
    assert json.loads(path.read_text()) == {
        "image_size": [192, 108], "motion_RoI": {"x": 10, "y": 20, "width": 60, "height": 40}, "level": 2,
        "general_motion_type": ["rotation"], "behavior": []}


def test_what_was_written_is_read_back(root: Path) -> None:
    (test,), (train,) = read_layout(root), read_layout(root, "train")
    assert (test.name, test.annotation) == ("Other_v4_8_002959_s2", NOTE)
    assert (train.name, train.annotation) == ("Japan_v2_0_161238_s3", None)
    assert [frame.shape for frame in read_frames(test)] == [(540, 960, 3)] * 3
    (original,) = read_layout(root, original=True)
    for triplet in (train, original):
        for found, drawn in zip(read_frames(triplet), PICTURES, strict=True):
            assert found.shape == drawn.shape
            assert np.abs(found.astype(float) - drawn).mean() < 3.0      # a JPEG; the wrong frame is above 5
            assert np.abs(found.astype(float) - draw_disc(90, 50)).mean() > 5.0


def test_official_annotations_are_read_with_text_for_tags_and_further_keys(root: Path) -> None:
    path = next((root / "test_2k_annotations").rglob("*.json"))
    path.write_text(json.dumps({"image_size": [1920, 1080], "motion_RoI": {"x": 1.0, "y": 2, "width": 3, "height": 4, "rx": 0},
                                "level": 0, "behavior": "walking", "general_motion_type": ["scaling", "rotation"], "more": {}}))
    (found,) = read_layout(root)
    assert found.annotation == Annotation((1920, 1080), Roi(1, 2, 3, 4), 0, ("scaling", "rotation"), ("walking",))


def test_frames_are_told_apart_by_the_order_of_their_names(root: Path) -> None:
    folder = root / "test_2k_540p" / "Other_v4_8_002959_s2"
    for old, new in (("frame3", "c"), ("frame1", "a"), ("frame2", "b")):
        (folder / f"{old}.png").rename(folder / f"{new}.png")
    (found,) = read_layout(root)
    assert [path.stem for path in found.frames] == ["a", "b", "c"]


@pytest.mark.parametrize(("break_it", "words"), [
    (lambda path: path.unlink(), "has no annotation"),
    (lambda path: path.write_text("{"), "is no annotation"),
    (lambda path: path.write_text('{"image_size": [1, 1], "level": 0}'), "motion_RoI is missing"),
    (lambda path: path.write_text('{"image_size": [1, 1], "level": 3, "motion_RoI": {"x":0,"y":0,"width":1,"height":1}}'),
     "level is 3"),
])
def test_a_damaged_annotation_is_told(root: Path, break_it: Callable[[Path], object], words: str) -> None:
    break_it(next((root / "test_2k_annotations").rglob("*.json")))
    with pytest.raises(UserError, match=words):
        read_layout(root)


def test_a_folder_without_triplets_or_with_two_frames_is_told(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder of triplets"):
        read_layout(tmp_path)
    next((root / "train_10k").rglob("frame2.jpg")).unlink()
    with pytest.raises(UserError, match="2 pictures, not 3"):
        read_layout(root, "train")


def test_writing_again_leaves_nothing_of_before_and_gives_the_same_bytes(root: Path, tmp_path: Path) -> None:
    write_layout(tmp_path, TRIPLETS[:1])
    assert read_layout(root, "train") == [] and len(read_layout(root)) == 1
    before = {path.name: path.read_bytes() for path in (root / "test_2k_original").rglob("*.jpg")}
    write_layout(tmp_path, TRIPLETS)
    assert before == {path.name: path.read_bytes() for path in (root / "test_2k_original").rglob("*.jpg")}


def test_a_data_set_of_others_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "mine.txt").write_text("dear")
    with pytest.raises(UserError, match="was not written by this command"):
        write_layout(tmp_path, TRIPLETS)
    assert (tmp_path / "datasets" / "mine.txt").read_text() == "dear"


def test_a_failure_halfway_leaves_what_was_there(root: Path, tmp_path: Path) -> None:
    def interrupted() -> Iterator[TripletFiles]:
        yield TRIPLETS[1]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_layout(tmp_path, interrupted())
    assert len(read_layout(root)) == 1 and not list(tmp_path.glob(".tmp-*"))
