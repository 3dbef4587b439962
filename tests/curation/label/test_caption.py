"""Promise: a measured caption states only what was measured, in one sentence, and is never empty."""

from __future__ import annotations

import numpy as np
import pytest

from curation.label.caption import facts


def plain(*bgr_columns: tuple[int, int, int]) -> np.ndarray:
    """A picture of equally wide columns of these BGR colours."""
    return np.concatenate([np.full((72, 120 // len(bgr_columns), 3), bgr, np.uint8) for bgr in bgr_columns], axis=1)


SKY, GRASS, NIGHT, WHITE = (235, 195, 135), (60, 160, 70), (40, 20, 15), (250, 250, 250)


def test_the_largest_colours_are_named_largest_first():
    caption = facts([plain(SKY, SKY, GRASS)])
    assert "sky blue and green" in caption


@pytest.mark.parametrize(("bgr", "name"), [
    ((30, 30, 210), "red"), ((200, 90, 45), "blue"), ((60, 220, 245), "yellow"), ((35, 140, 240), "orange"),
    ((40, 75, 120), "brown"), ((190, 160, 240), "pink"), ((155, 60, 125), "purple")])
def test_plain_colours_get_their_everyday_name(bgr: tuple[int, int, int], name: str):
    assert f"in {name}." in facts([plain(bgr)])


def test_grey_pictures_are_black_and_white_whatever_their_contrast():
    caption = facts([plain((20, 20, 20), (200, 200, 200), (120, 120, 120))])
    assert "black and white cartoon" in caption and "colour" not in caption


def test_a_small_coloured_part_makes_a_colour_cartoon():
    columns = [(120, 120, 120)] * 9 + [(30, 30, 210)]  # a tenth is red
    assert "colour cartoon" in facts([plain(*columns)])


def test_light_and_contrast_are_said_only_when_they_stand_out():
    assert "dark" in facts([plain(NIGHT)]).split("cartoon")[0]
    assert "bright" in facts([plain(WHITE, SKY)]).split("cartoon")[0]
    assert "high-contrast" in facts([plain(WHITE, (0, 0, 0))])
    # L* of greys 90 and 170 is 38 and 70: mean 54, spread 16, neither of which stands out.
    assert facts([plain((90, 90, 90), (170, 170, 170))]).startswith("A black and white")


@pytest.mark.parametrize(("pan_x", "pan_y", "words"), [
    (0.1, 0.0, "pans to the right"), (-0.1, 0.0, "pans to the left"), (0.0, 0.1, "pans down"), (0.0, -0.1, "pans up"),
    (-0.03, 0.0, "pans slowly to the left"), (0.5, 0.0, "pans fast to the right"),
    (0.1, -0.1, "pans up and to the right"), (0.001, 0.002, "is still")])
def test_the_camera_is_described_by_direction_and_pace(pan_x: float, pan_y: float, words: str):
    assert f"the camera {words}" in facts([], pan_x=pan_x, pan_y=pan_y, zoom=0.0)


def test_zoom_and_pan_are_both_said():
    assert "the camera pans to the left and zooms in" in facts([], pan_x=-0.1, pan_y=0.0, zoom=0.1)
    assert "the camera zooms fast out" in facts([], pan_x=0.0, pan_y=0.0, zoom=-0.3)


def test_what_is_unknown_is_not_mentioned():
    caption = facts([plain(SKY)])
    assert "camera" not in caption and "motion" not in caption and "drawn" not in caption
    assert "camera" not in facts([plain(SKY)], drawn_mean=0.1)


def test_drawn_motion_says_how_much_and_where():
    assert "large drawn motion over most of the picture" in facts([], drawn_mean=0.3, drawn_coverage=0.8)
    assert "small drawn motion in a part of the picture" in facts([], drawn_mean=0.02, drawn_coverage=0.1)
    assert "nothing drawn moves" in facts([], drawn_mean=0.0, drawn_coverage=0.0)


def test_cadence_is_said_in_words_and_unknown_words_are_left_out():
    assert facts([], cadence="twos") == "A cartoon, drawn on twos."
    assert facts([], cadence="mixed") == "A cartoon."


def test_a_caption_is_one_sentence_and_never_empty():
    for caption in (facts([]), facts([plain(SKY, GRASS, NIGHT)], pan_x=0.2, zoom=0.2, drawn_mean=0.1, cadence="ones")):
        assert caption and caption[0].isupper() and caption.count(".") == 1 and caption.endswith(".")
        assert caption.isascii()
