"""PP-OCR's text detector (DBNet, version 3) in ONNX: a small network for CPUs, its boxes made of the probability map here.

Boxes are the upright rectangles around connected areas. Letters in a drawing and, now and then, large plain shapes are taken
for text, too; so a clip is judged by the median over its looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.models.batches import Batches, NotFinite
from curation.models.detector import Quads
from pipeline.errors import UserError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

STEP_PX = 32                         # the network's sides are multiples of it
MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
MIN_PROBABILITY, MIN_PIXELS = 0.3, 30


class PpocrDetector:
    """The network in ONNX Runtime, on one core: workers share the machine."""

    def __init__(self, weights: Path, *, batch: int, side_px: int) -> None:
        """`side_px`: long side of what the network sees."""
        self._session = open_onnx(weights, "models.text.weights")
        self._input = self._session.get_inputs()[0].name
        self._side_px = side_px
        self.batches = Batches(batch)

    def detect(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Quads | NotFinite]:
        """Outlines of text in BGR pictures [h, w, 3], all of one size."""
        maps = self.probability(pictures)
        return [quads_of(one, pictures[0].shape[:2]) if np.isfinite(one).all()
                else NotFinite("the text detector returned a value that is no number") for one in maps]

    def probability(self, pictures: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        """The map [h', w'] of each: how likely a pixel is part of a line of text, 0..1."""
        return self.batches.run(self._forward, pictures)

    def _forward(self, pictures: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        height, width = pictures[0].shape[:2]
        scale = self._side_px / max(height, width)
        size = tuple(max(STEP_PX, STEP_PX * round(side * scale / STEP_PX)) for side in (width, height))
        small = np.stack([cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR) for picture in pictures])
        inputs = ((small.astype(np.float32) / 255.0 - MEAN) / STD).transpose(0, 3, 1, 2)
        found = self._session.run(None, {self._input: np.ascontiguousarray(inputs, np.float32)})[0]
        return list(np.asarray(found, np.float32)[:, 0])


def quads_of(probability: NDArray[np.float32], shape: tuple[int, int]) -> Quads:
    """The boxes of a probability map [h', w'] in pixels of the picture of `shape` (rows, columns)."""
    mask = (probability > MIN_PROBABILITY).astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    down, across = shape[0] / mask.shape[0], shape[1] / mask.shape[1]
    found: Quads = []
    for left, top, width, height, size in stats[1:]:
        if size > MIN_PIXELS:
            right, bottom = left + width, top + height
            corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)
            found.append(corners * np.array([across, down], np.float32))
    return found


def open_onnx(path: Path, option: str) -> InferenceSession:
    """A session on one core of the CPU; UserError where the file is no ONNX model."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:           # its errors are classes of its C++ side
        raise UserError(f"{option}={path} cannot be used", str(error).splitlines()[0], "Give an ONNX model") from error
