"""The text gate's measurement by a detector alone (CRAFT, PP-OCR), and what text stays in its place while the picture moves.

Measured on the same looks as the reader's: the union of the boxes, and the median over the looks. A detector does not read, so a
fence may count as text; the median and the limit must bear that. Text that stays in its place over the looks while the camera
moves lies over the picture (subtitles, a watermark); text that comes and goes, or moves with the picture, is part of a drawing.
Where the camera stands still nobody can tell a sign from a subtitle by this, and the share is stored apart. The idea is
cosmos-curate's (boxes that stay at an IoU of 0.9 over ten samples); over three looks 0.7 is chosen here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.gates import motion, text_area
from curation.gates.motion import CAMERA_STILL_PER_S, Motion
from curation.gates.text_area import LookBoxes, TextArea
from curation.ledger import Box, Clip
from curation.models.batches import NotFinite
from curation.models.clip_stage import ClipStage, model_resources
from curation.models.config import ModelsConfig
from curation.models.detector import Quads, TextDetector, build_detector, detect_all
from curation.survey import load_looks
from pipeline.records import read_json, write_json
from pipeline.store import Store

OVERLAY = "text_overlay"
STAYS_IOU = 0.7
SCHEMA, FILE = 1, "detected.json"
MEMORY_GB = 1.5              # measured: CRAFT with a batch of 8 at 768 pixels in float32
GRID = 256                   # side of the mask in which shares of boxes are counted


@dataclass(frozen=True, slots=True)
class TextOverlay:
    """Shares of the picture under text, median over the looks; together they are about `TextArea.share`."""

    over: float              # in its place while the camera moves: over the picture
    staying: float           # in its place under a camera that stands still: a sign or an overlay
    drawn: float             # comes, goes or moves: part of a drawing


@dataclass(frozen=True, slots=True)
class Detected:
    """The text of a clip's looks."""

    area: TextArea
    boxes: LookBoxes


class DetectText(ClipStage[Detected]):
    """Stage: Clip -> Clip with the scores `text_area` and `text_overlay`."""

    name, version, kind, gate = "text_area", 1, "detected", text_area.GATE

    def __init__(self, store_root: str, models: ModelsConfig, weights: Path, identity: str, *, measure_all: bool = False) -> None:
        super().__init__(store_root, identity, side_px=models.text.side_px, precision=models.precision)
        self.models, self.weights, self.measure_all = models, weights, measure_all
        self.batch_size = max(1, models.text.batch // text_area.NUM_LOOKS)
        self.resources = model_resources(models, MEMORY_GB)
        self._detector: TextDetector | None = None

    def wants(self, clip: Clip) -> bool:
        return clip.verdict is None or self.measure_all

    def measure(self, clips: Sequence[Clip]) -> list[Detected | NotFinite]:
        self._detector = self._detector or build_detector(self.models, self.weights)
        looks = [self._looks(clip) for clip in clips]
        found = iter(detect_all(self._detector, [picture for pictures in looks for picture in pictures]))
        return [summarise([next(found) for _ in pictures], pictures) for pictures in looks]

    def _looks(self, clip: Clip) -> list[NDArray[np.uint8]]:
        looks = load_looks(Store(Path(self.store_root)), clip.survey_key, clip.start_frame, clip.end_frame)
        return [np.asarray(cv2.imdecode(np.frombuffer(look.jpeg, np.uint8), cv2.IMREAD_COLOR), np.uint8)
                for look in text_area.spread(looks)]

    def write(self, found: Detected, folder: Path) -> None:
        write_json(folder / FILE, {"schema": SCHEMA, "area": asdict(found.area), "boxes": found.boxes})

    def read(self, clip: Clip, folder: Path, key: str) -> Clip:
        record: Any = read_json(folder / FILE, SCHEMA)
        boxes: LookBoxes = tuple(tuple(tuple(box) for box in look) for look in record["boxes"])
        moves = clip.scores.get(motion.GATE)
        camera = moves.camera_mean if isinstance(moves, Motion) else 0.0
        clip = clip.with_score(text_area.GATE, TextArea(**record["area"]))
        return replace(clip.with_score(OVERLAY, tell_overlay(boxes, camera)), text_boxes=boxes)


def summarise(quads: Sequence[Quads | NotFinite], pictures: Sequence[NDArray[np.uint8]]) -> Detected | NotFinite:
    """Union of the outlines of each picture [h, w, 3], and the median over the pictures."""
    boxes: list[tuple[Box, ...]] = []
    shares: list[float] = []
    for found, picture in zip(quads, pictures, strict=True):
        if isinstance(found, NotFinite):
            return found
        height, width = picture.shape[:2]
        mask = np.zeros((height, width), np.uint8)
        for quad in found:
            cv2.fillPoly(mask, [np.round(quad).astype(np.int32)], 1)
        shares.append(float(mask.mean(dtype=np.float64)))
        boxes.append(tuple(text_area.outline(quad, height, width) for quad in found))
    if not boxes:
        return Detected(TextArea(share=0.0, frames=0, skipped=0), ())
    area = TextArea(share=float(median(shares)), frames=len(shares), skipped=0, lines=int(median(map(len, boxes))))
    return Detected(area, tuple(boxes))


def tell_overlay(boxes: LookBoxes, camera_per_s: float) -> TextOverlay:
    """Which of the looks' boxes stay in their place; `camera_per_s`: the camera's path, shares of the diagonal a second."""
    looks = [look for look in boxes if look is not None]
    stay, rest = [0.0], [0.0]
    if looks:
        staying = [[box for box in look if len(looks) > 1 and _stays(box, looks)] for look in looks]
        stay = [_covered(found) for found in staying]
        rest = [_covered([box for box in look if box not in found]) for look, found in zip(looks, staying, strict=True)]
    is_moving = camera_per_s > CAMERA_STILL_PER_S
    share = float(median(stay))
    return TextOverlay(share if is_moving else 0.0, 0.0 if is_moving else share, float(median(rest)))


def _stays(box: Box, looks: Sequence[Sequence[Box]]) -> bool:
    """Whether more than half of the looks have a box in the same place."""
    return 2 * sum(any(_iou(box, other) >= STAYS_IOU for other in look) for look in looks) > len(looks)


def _iou(one: Box, two: Box) -> float:
    across = min(one[2], two[2]) - max(one[0], two[0])
    down = min(one[3], two[3]) - max(one[1], two[1])
    common = max(0.0, across) * max(0.0, down)
    both = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, two)) - common
    return common / both if both > 0 else 0.0


def _covered(boxes: Sequence[Box]) -> float:
    mask = np.zeros((GRID, GRID), bool)
    for left, top, right, bottom in boxes:
        mask[round(top * GRID) : round(bottom * GRID), round(left * GRID) : round(right * GRID)] = True
    return float(mask.mean())
