"""Promise: lettering on a board is told from a scene with text in it, and credits that roll from pages and title cards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from ledger_rows import make_clip, make_store

from curation.config import CreditsLimits
from curation.gates.credits import (
    NOTHING,
    Credits,
    CreditsKind,
    MeasureCredits,
    background,
    decide,
    lettering,
    measure_credits,
)
from curation.gates.motion import Motion, MotionKind
from curation.gates.text_area import TextArea
from curation.ledger import Box, Verdict

LIMITS = CreditsLimits(enabled=True, max=0.6)
STILL = Motion(MotionKind.STATIC, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
DRAWN = Motion(MotionKind.DRAWN, 0.05, 0.04, 0.02, 0.1, 0.5, 0.0, 0.0, 0.0, 0.0)
ROLLS = replace(STILL, kind=MotionKind.PAN, camera_mean=0.25, pan_y=0.25)


def lines(count: int, *, top: float = 0.1, height: float = 0.06, width: float = 0.5) -> tuple[Box, ...]:
    """Centred lines below each other, 1.5 line heights apart."""
    return tuple((0.5 - width / 2, top + 1.5 * height * row, 0.5 + width / 2, top + 1.5 * height * row + height)
                 for row in range(count))


def measured(look: tuple[Box, ...], moves: Motion = STILL, *, plain: float = 1.0, dark: float = 0.0) -> Credits:
    """The score of a clip that shows the same lines in all three looks."""
    share = sum((right - left) * (bottom - top) for left, top, right, bottom in look)
    return measure_credits(TextArea(share, 3, 0, len(look)), (look,) * 3, moves, plain=plain, dark=dark)


def test_lines_that_move_steadily_upwards_are_a_roll_and_those_that_stay_a_page() -> None:
    assert measured(lines(6), ROLLS).kind is CreditsKind.ROLL
    assert measured(lines(6), replace(ROLLS, pan_y=-0.25)).kind is CreditsKind.ROLL
    assert measured(lines(6), STILL).kind is CreditsKind.PAGE
    assert measured(lines(2), STILL).kind is CreditsKind.TITLE_CARD


def test_camera_that_goes_sideways_or_back_and_forth_is_no_roll() -> None:
    sideways = replace(ROLLS, pan_x=0.25, pan_y=0.0)
    shaken = replace(ROLLS, pan_y=0.05)                # 5 % of its path of 25 % lead anywhere
    assert CreditsKind.ROLL not in (measured(lines(6), sideways).kind, measured(lines(6), shaken).kind)


def test_title_over_a_moving_drawing_is_no_card() -> None:
    # Cartoons are plain in about two thirds of the picture.
    assert measured(lines(2, height=0.15), DRAWN, plain=0.66) == Credits(CreditsKind.NONE, 0.0, 0.66, 0.0)
    assert measured(lines(2, height=0.15), STILL, plain=0.66).kind is CreditsKind.TITLE_CARD


def test_board_makes_a_card_even_where_its_letters_move() -> None:
    assert measured(lines(2), DRAWN, plain=0.98).kind is CreditsKind.TITLE_CARD
    assert measured(lines(2), DRAWN, plain=0.3, dark=0.85).kind is CreditsKind.TITLE_CARD     # EISAI: 80 % nearly black


def test_subtitles_and_small_signs_are_no_credits_on_any_ground() -> None:
    assert measured(lines(2, top=0.8)).kind is CreditsKind.NONE
    assert measured(lines(1, height=0.04)).kind is CreditsKind.NONE                           # 2 % of the picture
    assert lettering(lines(1) + lines(2, top=0.8)) == list(lines(1))


def test_single_look_with_text_does_not_decide() -> None:
    shown = ((), lines(3), ())
    assert measure_credits(TextArea(0.0, 3, 1, 0), shown, STILL, plain=1.0, dark=0.0).kind is CreditsKind.NONE
    unread = (None, lines(3), lines(3))                # a look that the text gate did not need does not count as empty
    assert measure_credits(TextArea(0.1, 3, 1, 3), unread, STILL, plain=1.0, dark=0.0).kind is CreditsKind.TITLE_CARD


def test_more_evidence_is_more_confidence() -> None:
    sure = measured(lines(6), STILL, plain=1.0).confidence
    assert sure == pytest.approx(1.0)                  # 18 % of the picture is text, nothing else is there or moves
    assert measured(lines(6), DRAWN, plain=0.95).confidence < sure
    assert measured(lines(2, height=0.04), STILL, plain=1.0).confidence < sure
    assert measured(lines(6), STILL, plain=0.6).confidence < sure


def test_decision_on_both_sides_of_the_limit() -> None:
    at_limit = Credits(CreditsKind.ROLL, 0.6, 1.0, 0.0)
    assert decide(at_limit, LIMITS) == Verdict.kept("credits")
    assert decide(replace(at_limit, confidence=0.61), LIMITS).reason == "credits: is a credit roll, confidence 0.61 > 0.60"
    assert decide(replace(NOTHING, plain=1.0, dark=1.0), LIMITS).keep


def test_edges_count_beside_the_lettering_only() -> None:
    board = np.full((144, 256, 3), 90, np.uint8)
    cv2.putText(board, "THE END", (50, 80), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (250, 250, 250), 2)
    text = (0.18, 0.35, 0.8, 0.6)
    assert background(board, [text]) == (1.0, 0.0)
    assert background(board, [])[0] < 0.97
    cv2.circle(board, (30, 120), 12, (0, 0, 0), 2)
    assert 0.9 < background(board, [text])[0] < 1.0


def test_black_bars_are_no_board() -> None:
    # A lit picture of 60 % of the height between black bars: its border is no edge, and its black is none.
    look = np.zeros((200, 320, 3), np.uint8)
    look[40:160] = 120
    assert background(look, [], (0.0, 0.2, 1.0, 0.8)) == (1.0, 0.0)
    assert background(look, [])[1] == pytest.approx((192 - 120) / 192)      # a rim of 4 of the 200 rows never counts


def test_stage_opens_no_picture_where_there_is_no_text_and_passes_by_what_was_not_measured() -> None:
    stage = MeasureCredits("nowhere")                  # reading a look would fail
    [[bare]] = stage([replace(make_clip(), text_boxes=((), None, lines(2, top=0.8)))])
    assert bare.scores["credits"] == NOTHING
    dropped = make_clip(dropped_by="motion")
    scores = {name: score for name, score in dropped.scores.items() if name not in ("text_area", "credits")}
    assert stage([replace(dropped, scores=scores)])[0][0].scores == scores


def test_stage_looks_at_the_ground_of_the_looks_that_were_read(tmp_path: Path) -> None:
    store = make_store(tmp_path, ["film.mkv"], [0, 10, 20])      # plain grey pictures
    clip = replace(make_clip(), text_boxes=(lines(6), None, lines(6)))
    clip = replace(clip.with_score("text_area", TextArea(0.18, 3, 1, 6)), verdict=None)
    [[found]] = MeasureCredits(str(store.root))([clip.with_score("motion", STILL)])
    assert found.scores["credits"] == Credits(CreditsKind.PAGE, 1.0, 1.0, 0.0)


def test_measurement_that_fails_drops_the_clip_with_the_reason() -> None:
    failed = MeasureCredits("nowhere").failed(make_clip(), "survey is gone")
    assert failed.verdict == Verdict.drop("credits", "could not be measured: survey is gone")
