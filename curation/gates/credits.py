"""Credits gate: drops rolling credits, pages of credits and title cards: lettering on a board, not a scene with text in it.

Decided from what the text gate read and what the survey measured. A *board* is a picture with nothing but its lettering:
no edge anywhere else, or nearly black as in the rule of EISAI's data (arXiv 2111.12792, 80 % of the pixels). A roll moves
steadily upwards or downwards, a page has many lines and stays, a card has few. Lines at the foot of the picture alone are
subtitles and say nothing. A title over a moving drawing is no card; how much text it may have is the text gate's affair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from statistics import median

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.config import CreditsLimits
from curation.gates import motion, text_area
from curation.gates.motion import Motion, MotionKind
from curation.gates.text_area import LookBoxes, TextArea
from curation.ledger import Box, Clip, Verdict
from curation.stage import Resources

GATE = "credits"

# Chosen here on drawn films of seeds 0 to 2 and held against those of seeds 3, 11 and 12.
SUBTITLE_TOP = 0.72          # of the height: lines that begin below are subtitles
MIN_SHARE = 0.03             # of the picture under lines above that: a sign has less
MUCH_SHARE = 0.12            # of the picture; so much lettering is meant to be read, whatever lies behind it
MIN_PAGE_LINES, MIN_ROLL_LINES = 4, 3
EDGE_GREY = 14               # range of a 3x3 neighbourhood from which it is an edge, grey levels
BOARD_PLAIN = 0.88           # of the picture beside the lettering that is without edge; scenes have 0.5 to 0.75
BLACK_GREY, BLACK_SHARE = 16, 0.8            # EISAI: 80 % of the pixels nearly black in all channels
MARGIN = 0.02                # of the picture around lettering and at its rim, which does not count as background
ROLL_PER_S = 0.03            # shares of the diagonal a second
ROLL_STEADY = 0.8            # of the camera's path that leads straight up or down
STILL_SHARE, STILL_PER_S = 0.2, 0.02         # of the frames that bring drawn motion; the camera's path, diagonals a second


class CreditsKind(StrEnum):
    NONE = "none"
    TITLE_CARD = "title_card"
    ROLL = "credit_roll"
    PAGE = "credit_page"


@dataclass(frozen=True, slots=True)
class Credits:
    """What kind of lettering a clip shows, and how sure that is."""

    kind: CreditsKind
    confidence: float        # [0, 1]; 0 without kind
    plain: float             # share of the picture beside the lettering that is without edge, median; 0 where not measured
    dark: float              # share of the picture that is nearly black, median; 0 where not measured


NOTHING = Credits(CreditsKind.NONE, 0.0, 0.0, 0.0)


class MeasureCredits:
    """Stage: Clip -> Clip with the score `credits`, from its scores of motion and text; pictures only where there is text."""

    name = "credits"
    version = 1
    takes = Clip
    batch_size = 8
    resources = Resources(cpus=1.0, memory_gb=0.3)

    def __init__(self, store_root: str) -> None:
        self.store_root = store_root

    def setup(self) -> None:
        cv2.setNumThreads(1)

    def __call__(self, rows: list[Clip]) -> list[list[Clip]]:
        return [[self._measured(clip)] for clip in rows]

    def failed(self, row: Clip, error: str) -> Clip:
        return replace(row, verdict=Verdict.drop(GATE, f"could not be measured: {error}"))

    def _measured(self, clip: Clip) -> Clip:
        text, moves = clip.scores.get(text_area.GATE), clip.scores.get(motion.GATE)
        if not isinstance(text, TextArea) or not isinstance(moves, Motion):
            return clip                      # an earlier gate dropped it
        if not any(lettering(boxes) for boxes in clip.text_boxes):
            return clip.with_score(GATE, NOTHING)
        grounds = [background(picture, boxes, content)
                   for (picture, content), boxes in zip(self._looks(clip), clip.text_boxes, strict=True) if boxes]
        plain, dark = (float(median(column)) for column in zip(*grounds, strict=True))
        return clip.with_score(GATE, measure_credits(text, clip.text_boxes, moves, plain=plain, dark=dark))

    def _looks(self, clip: Clip) -> list[tuple[NDArray[np.uint8], Box]]:
        """The looks the text gate saw: BGR uint8 [h, w, 3] with their black bars, and where the picture lies in them."""
        from curation.survey import load_looks
        from pipeline.store import Store

        looks = load_looks(Store(Path(self.store_root)), clip.survey_key, clip.start_frame, clip.end_frame)
        return [(np.asarray(cv2.imdecode(np.frombuffer(look.jpeg, np.uint8), cv2.IMREAD_COLOR), np.uint8), look.content)
                for look in text_area.spread(looks)]


def measure_credits(text: TextArea, boxes: LookBoxes, moves: Motion, *, plain: float, dark: float) -> Credits:
    """The kind of a clip's lettering. `plain` and `dark`: medians of `background` over the looks that were read."""
    read = [lettering(look) for look in boxes if look is not None]
    shares = [sum((right - left) * (bottom - top) for left, top, right, bottom in lines) for lines in read]
    share, num_lines = (float(median(shares)), median(map(len, read))) if read else (0.0, 0)
    is_board = plain >= BOARD_PLAIN or dark >= BLACK_SHARE
    is_still = moves.kind is MotionKind.STATIC or (moves.drawn_share < STILL_SHARE and moves.camera_mean < STILL_PER_S)
    steady = abs(moves.pan_y) / max(moves.camera_mean, 1e-9)
    is_rolling = abs(moves.pan_y) >= ROLL_PER_S and steady >= ROLL_STEADY
    if num_lines < 1 or share < MIN_SHARE or not (is_board or share >= MUCH_SHARE):
        kind = CreditsKind.NONE
    elif is_rolling and num_lines >= MIN_ROLL_LINES:
        kind = CreditsKind.ROLL
    elif num_lines >= MIN_PAGE_LINES and (is_board or is_still):
        kind = CreditsKind.PAGE
    else:
        kind = CreditsKind.TITLE_CARD if is_board or is_still else CreditsKind.NONE
    if kind is CreditsKind.NONE:
        return Credits(kind, 0.0, plain, dark)
    evidence = (min(1.0, share / MUCH_SHARE), 1.0 if dark >= BLACK_SHARE else min(1.0, plain / BOARD_PLAIN),
                min(1.0, steady) if kind is CreditsKind.ROLL else 1.0 if is_still else 0.5)
    return Credits(kind, float(np.mean(evidence)), plain, dark)


def lettering(boxes: Sequence[Box] | None) -> list[Box]:
    """The lines of a look that are not at its foot."""
    return [box for box in boxes or () if box[1] < SUBTITLE_TOP]


def background(bgr: NDArray[np.uint8], boxes: Sequence[Box], content: Box = (0.0, 0.0, 1.0, 1.0)) -> tuple[float, float]:
    """(plain, dark): shares of a look [h, w, 3] beside its lettering without edge, and nearly black anywhere.

    `boxes` and `content`, the picture inside its black bars, are shares of the look.
    """
    height, width = bgr.shape[:2]

    def window(box: Box, margin: float) -> tuple[slice, slice]:
        left, top, right, bottom = box
        return (slice(max(0, round((top - margin) * height)), max(0, round((bottom + margin) * height))),
                slice(max(0, round((left - margin) * width)), max(0, round((right + margin) * width))))

    counts = np.zeros((height, width), bool)
    counts[window(content, -MARGIN)] = True
    inside = counts.copy()
    for box in boxes:
        counts[window(box, MARGIN)] = False
    luma = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
    steps = cv2.morphologyEx(luma, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    plain = float((steps[counts] < EDGE_GREY).mean(dtype=np.float64)) if counts.any() else 1.0
    dark = float((bgr[inside].max(axis=1) < BLACK_GREY).mean(dtype=np.float64)) if inside.any() else 0.0
    return plain, dark


def decide(score: Credits, limits: CreditsLimits) -> Verdict:
    """Keeps clips that are no credits and no title card, or not more surely than `limits.max`."""
    if score.kind is not CreditsKind.NONE and score.confidence > limits.max:
        what = score.kind.value.replace("_", " ")
        return Verdict.drop(GATE, f"is a {what}, confidence {score.confidence:.2f} > {limits.max:.2f}")
    return Verdict.kept(GATE)
