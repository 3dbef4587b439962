"""LineDistiller: line art of drawn pictures by a residual hourglass network in ONNX (hepesu/LineDistiller).

Its input is gray, evened out by CLAHE and scaled by 0.003383; its output is 1 on paper and 0 on lines. Sides are multiples of 16;
it was measured at a width of 512.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.models.anime2sketch import to_paper
from curation.models.batches import Batches, NotFinite
from curation.models.ppocr import open_onnx

WIDTH_PX, STEP_PX = 512, 16
SCALE = 0.003383


class LineDistiller:
    def __init__(self, weights: Path, *, batch: int) -> None:
        self._session = open_onnx(weights, "models.sketch.linedistiller")
        self._input = self._session.get_inputs()[0].name
        self.batches = Batches(batch)

    def draw(self, frames: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8] | NotFinite]:
        """Line drawings [h, w] uint8, 255 paper and 0 line, of RGB frames [h, w, 3], all of one size."""
        return [to_paper(line, frame.shape[:2]) for line, frame in zip(self.lines(frames), frames, strict=True)]

    def lines(self, frames: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        """The network's own drawings [h', 512] in 0..1."""
        return self.batches.run(self._forward, frames)

    def _forward(self, frames: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        height, width = frames[0].shape[:2]
        size = WIDTH_PX, max(STEP_PX, int(height * WIDTH_PX / width) // STEP_PX * STEP_PX)
        even = cv2.createCLAHE(2.0, (8, 8))
        grays = [even.apply(cv2.cvtColor(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY))
                 for frame in frames]
        inputs = np.stack(grays)[:, None].astype(np.float32) * np.float32(SCALE)
        found = np.asarray(self._session.run(None, {self._input: inputs})[0], np.float32)
        return [np.clip(one, 0.0, 1.0) if np.isfinite(one).all() else one for one in found[:, 0]]
