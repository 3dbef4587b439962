"""Promise: a detector's boxes count once where they overlap, the median look decides, and overlays are told from drawings."""

from __future__ import annotations

import numpy as np
import pytest

from curation.gates.text_detector import Detected, TextOverlay, summarise, tell_overlay
from curation.models.batches import NotFinite
from curation.models.detector import detect_all

PICTURE = np.zeros((100, 200, 3), np.uint8)


def quad(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)


def test_overlapping_boxes_count_once_and_the_median_look_decides() -> None:
    """Two boxes of 40 x 20 that share half: about 60 x 20 of 200 x 100 pixels is 6 %; one look of three has much more."""
    two = [quad(0, 0, 39, 19), quad(20, 0, 59, 19)]
    found = summarise([two, two, [quad(0, 0, 199, 99)]], [PICTURE] * 3)
    assert isinstance(found, Detected)
    assert found.area.share == pytest.approx(0.06) and found.area.lines == 2 and found.area.frames == 3
    assert found.boxes[0][0] == (0.0, 0.0, 0.195, 0.19)


def test_broken_look_breaks_the_clip_and_no_look_is_no_text() -> None:
    assert isinstance(summarise([[], NotFinite("x")], [PICTURE] * 2), NotFinite)
    nothing = summarise([], [])
    assert isinstance(nothing, Detected) and nothing.area.share == 0.0


SUBTITLE, SIGN = (0.25, 0.875, 0.75, 1.0), (0.0, 0.0, 0.25, 0.25)      # 1/16 of the picture each
ELSEWHERE = (0.5, 0.0, 0.75, 0.25)


@pytest.mark.parametrize(("looks", "camera", "expected"), [
    (((SUBTITLE, SIGN), (SUBTITLE, ELSEWHERE), (SUBTITLE,)), 0.1, TextOverlay(0.0625, 0.0, 0.0625)),   # the camera moves
    (((SUBTITLE,), (SUBTITLE,), (SUBTITLE,)), 0.0, TextOverlay(0.0, 0.0625, 0.0)),                    # nobody can tell
    (((SIGN,), (ELSEWHERE,), ()), 0.1, TextOverlay(0.0, 0.0, 0.0625)),
    (((SIGN,),), 0.1, TextOverlay(0.0, 0.0, 0.0625)),                                                 # one look proves nothing
    ((), 0.1, TextOverlay(0.0, 0.0, 0.0)),
])
def test_text_that_stays_while_the_camera_moves_lies_over_the_picture(looks: tuple, camera: float, expected: TextOverlay) -> None:
    assert tell_overlay(looks, camera) == expected


def test_pictures_of_several_sizes_come_back_in_their_order() -> None:
    class Sizes:
        def detect(self, pictures: list) -> list:
            assert len({picture.shape for picture in pictures}) == 1
            return [[quad(0, 0, picture.shape[1], picture.shape[0])] for picture in pictures]

    pictures = [np.zeros((10, width, 3), np.uint8) for width in (8, 9, 8, 7)]
    assert [found[0].max() for found in detect_all(Sizes(), pictures)] == [10, 10, 10, 10]
    assert [found[0][1, 0] for found in detect_all(Sizes(), pictures)] == [8, 9, 8, 7]
