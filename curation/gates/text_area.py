"""Text gate: drops clips in which titles, credits, subtitles or signs cover much of the picture.

Measured on up to three of the survey's looks (first, middle, last): the share of the picture under the outlines of
recognised lines, as a union, and the median over the looks, because a single false reading must not decide. Reading a
look costs about 50 ms, so a cheap look at its strokes (0.6 ms) goes first, and a third look is read only when two do
not settle the median.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.config import TextAreaLimits
from curation.ledger import Box, Clip, Verdict
from curation.models.rapidocr import TextBox, TextReader
from curation.stage import Resources
from pipeline.hashing import content_key
from pipeline.records import read_json, write_json
from pipeline.store import Store

GATE = "text_area"

KIND, SCORE_FILE, SCORE_SCHEMA = "text", "text.json", 1     # artifact: readings are the dearest score
NUM_LOOKS = 3

# The cheap look. Chosen here on 305 text-free looks of real cartoons and 645 letterings that can be read (8 fonts, 12
# to 100 pixels, subtitles, credits, titles): passes 98 of 100 letterings, turns away 6 of 10 text-free looks.
STROKE_PX = 9                   # strokes and the gaps between them are narrower than this, at one of the scales
STROKE_LEVELS = 32              # and differ from their surroundings by more
SCALES = 3                      # whole, half and quarter size: letters of about 8 to 100 pixels in a look of 512
CELL_PX = 4                     # strokes are counted in cells of this side
LINE_CELLS = 2                  # height of the window in which they are counted
NEED = {20: 0.165, 8: 0.30}     # width of the window in cells: share of it that must be thin bright and, as much, dark
REACH_CELLS = 4                 # a line of text has a row without strokes within this distance above and below

JpegReader = Callable[[Clip], list[bytes]]
LookBoxes = tuple[tuple[Box, ...] | None, ...]     # lines of text of each look; None where the median did not need it
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class TextArea:
    """How much of a clip's picture is text."""

    share: float         # of the picture, union of the lines, median over the looks, [0, 1]
    frames: int          # looks that went into the median
    skipped: int         # of them: looks without letter-like strokes, or not needed to settle the median; not read
    lines: int = 0       # of text, median over the looks


class MeasureTextArea:
    """Stage: Clip -> Clip with the score `text_area`; a clip that an earlier gate dropped passes by."""

    name = "text_area"
    version = 3
    takes = Clip
    batch_size = 8
    resources = Resources(cpus=1.0, memory_gb=0.6)

    def __init__(self, store_root: str, *, measure_all: bool = False, read_jpegs: JpegReader | None = None) -> None:
        """`read_jpegs` gives a clip's looks in order; None reads them from the survey in the store."""
        self.store_root, self.measure_all = store_root, measure_all
        self.read_jpegs = read_jpegs or self._jpegs_of_survey
        self._reader: TextReader | None = None

    def setup(self) -> None:
        cv2.setNumThreads(1)

    def __call__(self, rows: list[Clip]) -> list[list[Clip]]:
        return [[self._measured(clip)] for clip in rows]

    def failed(self, row: Clip, error: str) -> Clip:
        return replace(row, verdict=Verdict.drop(GATE, f"could not be measured: {error}"))

    def _measured(self, clip: Clip) -> Clip:
        if clip.verdict is not None and not self.measure_all:
            return clip
        store = Store(Path(self.store_root))
        key = content_key(version=self.version, survey=clip.survey_key, frames=(clip.start_frame, clip.end_frame))
        if store.has(KIND, key):
            score, boxes = _load(store.path(KIND, key) / SCORE_FILE)
        else:
            score, boxes = read_looks(spread(self.read_jpegs(clip)), self._read)
            if score.skipped < score.frames:            # the cheap look alone is cheaper than a file
                with store.publish(KIND, key) as folder:
                    write_json(folder / SCORE_FILE, {"schema": SCORE_SCHEMA, "score": asdict(score), "boxes": boxes})
        return replace(clip.with_score(GATE, score), text_boxes=boxes)

    def _read(self, bgr: NDArray[np.uint8]) -> list[TextBox]:
        """Builds the engine at the first look that needs reading: many archives have few."""
        if self._reader is None:
            self._reader = TextReader()
        return self._reader.read_text(bgr)

    def _jpegs_of_survey(self, clip: Clip) -> list[bytes]:
        from curation.survey import load_looks

        looks = load_looks(Store(Path(self.store_root)), clip.survey_key, clip.start_frame, clip.end_frame)
        return [look.jpeg for look in looks]


def _load(path: Path) -> tuple[TextArea, LookBoxes]:
    """What an earlier run measured of the same looks."""
    record: dict[str, Any] = dict(read_json(path, SCORE_SCHEMA))
    boxes = tuple(None if look is None else tuple(tuple(box) for box in look) for look in record["boxes"])
    return TextArea(**record["score"]), boxes


def measure_text(jpegs: Sequence[bytes], read: Callable[[NDArray[np.uint8]], list[TextBox]]) -> TextArea:
    """The score of a clip's looks; see `read_looks`."""
    return read_looks(jpegs, read)[0]


def read_looks(jpegs: Sequence[bytes], read: Callable[[NDArray[np.uint8]], list[TextBox]]
               ) -> tuple[TextArea, LookBoxes]:
    """Median text share of the looks, and the lines of text of each.

    The least letter-like looks are read first, and no more than the median needs. Equal pixels give equal shares.
    ValueError when a JPEG cannot be decoded. No looks: nothing seen, share 0.
    """
    if not jpegs:
        return TextArea(share=0.0, frames=0, skipped=0), ()
    pictures = [_decoded(jpeg) for jpeg in jpegs]
    strokes = [letter_strokes(picture) for picture in pictures]
    found: dict[int, tuple[Box, ...]] = {index: () for index, amount in enumerate(strokes) if amount < 1.0}
    shares, num_read = [0.0] * len(found), 0
    for index in sorted(range(len(jpegs)), key=lambda index: strokes[index]):
        if index in found or _is_settled(shares, len(jpegs)):
            continue
        num_read += 1
        boxes, (height, width) = read(pictures[index]), pictures[index].shape[:2]
        shares.append(covered_share(boxes, height=height, width=width))
        found[index] = tuple(outline(box.quad, height, width) for box in boxes)
    lines = int(median(len(lines) for lines in found.values()))
    score = TextArea(share=float(median(shares)), frames=len(jpegs), skipped=len(jpegs) - num_read, lines=lines)
    return score, tuple(found.get(index) for index in range(len(jpegs)))


def covered_share(boxes: Sequence[TextBox], *, height: int, width: int) -> float:
    """Share of the picture under at least one of the outlines; overlaps count once."""
    mask = np.zeros((height, width), np.uint8)
    for box in boxes:
        cv2.fillPoly(mask, [np.round(box.quad).astype(np.int32)], 1)
    return float(mask.mean(dtype=np.float64))


def share_within(score: TextArea, boxes: LookBoxes, part: Box) -> TextArea:
    """The score of a part of the picture, `part`, from the lines of the whole."""
    left, top, right, bottom = part
    side = 512
    shares, lines = [0.0] * (not boxes), [0] * (not boxes)
    for look in (look for look in boxes if look is not None):
        inside = [box for box in look if box[0] < right and box[2] > left and box[1] < bottom and box[3] > top]
        mask = np.zeros((side, side), bool)
        for box in inside:
            mask[round(box[1] * side) : round(box[3] * side), round(box[0] * side) : round(box[2] * side)] = True
        shares.append(float(mask[round(top * side) : round(bottom * side), round(left * side) : round(right * side)].mean()))
        lines.append(len(inside))
    return replace(score, share=float(median(shares)), lines=int(median(lines)))


def outline(quad: NDArray[np.float32], height: int, width: int) -> Box:
    """Smallest upright rectangle around a line of text, [4, 2] in pixels, in shares of the picture."""
    (left, top), (right, bottom) = quad.min(axis=0), quad.max(axis=0)
    return tuple(round(float(np.clip(value, 0.0, 1.0)), 4)  # type: ignore[return-value]
                 for value in (left / width, top / height, right / width, bottom / height))


def text_possible(bgr: NDArray[np.uint8]) -> bool:
    """Whether a look [h, w, 3], long side about 512, could hold readable text at all."""
    return letter_strokes(bgr) >= 1.0


def letter_strokes(bgr: NDArray[np.uint8]) -> float:
    """How letter-like the most letter-like spot of a picture is; under 1 there is no text.

    Lettering alternates thin strokes with thin gaps along a line: in a window of a few letters much is thin and
    brighter than its surroundings and as much thin and darker (top hat and black hat along the row), and above and
    below the line is a row without. Outlines of drawings are thin and dark without thin bright gaps; foliage and
    grain have no empty rows. Works for any script and polarity, at three sizes, on luma alone: adding the colour
    channels found a few more titles that differ from their ground in colour only, and let through far more drawings.
    """
    luma: NDArray[np.integer | np.floating] = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
    across = cv2.getStructuringElement(cv2.MORPH_RECT, (STROKE_PX, 1))
    most = 0.0
    for scale in range(SCALES):
        if scale:
            luma = cv2.resize(luma, (max(1, luma.shape[1] // 2), max(1, luma.shape[0] // 2)),
                              interpolation=cv2.INTER_AREA)
        bright = _thin_share(cv2.morphologyEx(luma, cv2.MORPH_TOPHAT, across))
        dark = _thin_share(cv2.morphologyEx(luma, cv2.MORPH_BLACKHAT, across))
        for width, need in NEED.items():
            most = max(most, _line_share(bright, dark, width) / need)
    return most


def decide(score: TextArea, limits: TextAreaLimits) -> Verdict:
    """Keeps clips whose text covers at most `limits.max` of the picture."""
    if score.share > limits.max:
        return Verdict.drop(GATE, f"text covers {score.share:.1%} > {limits.max:.1%} of the picture")
    return Verdict.kept(GATE)


def _thin_share(levels: NDArray[np.integer | np.floating]) -> NDArray[np.float32]:
    """Share of strong pixels in each cell."""
    strong = cv2.threshold(levels, STROKE_LEVELS, 255.0, cv2.THRESH_BINARY)[1]
    size = max(1, strong.shape[1] // CELL_PX), max(1, strong.shape[0] // CELL_PX)
    return cv2.resize(strong, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255.0


def _line_share(bright: NDArray[np.float32], dark: NDArray[np.float32], width: int) -> float:
    """Largest share of a window that is thin of both kinds, less what the emptiest rows above and below hold of it."""
    line = cv2.min(cv2.boxFilter(bright, -1, (width, LINE_CELLS)), cv2.boxFilter(dark, -1, (width, LINE_CELLS)))
    rows = cv2.min(cv2.boxFilter(bright, -1, (width, 1)), cv2.boxFilter(dark, -1, (width, 1)))
    above = np.zeros((2 * REACH_CELLS + 1, 1), np.uint8)
    above[:REACH_CELLS - 1] = 1                 # from REACH_CELLS to 2 rows away; beyond the picture is empty
    emptiest = [cv2.erode(rows, side, borderType=cv2.BORDER_CONSTANT, borderValue=(0.0,))
                for side in (above, np.ascontiguousarray(above[::-1]))]
    return float((line - cv2.max(emptiest[0], emptiest[1])).max())


def spread(looks: Sequence[Item]) -> list[Item]:
    """First, middle and last; all of them when there are no more than NUM_LOOKS."""
    if len(looks) <= NUM_LOOKS:
        return list(looks)
    return [looks[index * (len(looks) - 1) // (NUM_LOOKS - 1)] for index in range(NUM_LOOKS)]


def _is_settled(shares: Sequence[float], num_looks: int) -> bool:
    """Whether the known shares fix the median of all looks: of three, when two are equal."""
    return num_looks == NUM_LOOKS and len(shares) >= 2 and len(set(shares)) < len(shares)


def _decoded(jpeg: bytes) -> NDArray[np.uint8]:
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) if jpeg else None
    if picture is None:
        raise ValueError("a look in the survey is no readable JPEG")
    return picture.astype(np.uint8, copy=False)
