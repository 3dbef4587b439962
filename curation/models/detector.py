"""What a text detector is, and how many pictures of different sizes go through one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from curation.models.batches import NotFinite
from curation.models.config import ModelsConfig, TextName

Quads = list[NDArray[np.float32]]    # outlines of lines of text: [4, 2] x, y in pixels of the picture


class TextDetector(Protocol):
    def detect(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Quads | NotFinite]:
        """Of BGR pictures [h, w, 3], all of one size, in order."""
        ...


def build_detector(models: ModelsConfig, weights: Path) -> TextDetector:
    """The detector of models.text."""
    text = models.text
    if text.name is TextName.CRAFT:
        from curation.models.craft import CraftDetector

        return CraftDetector(weights, batch=text.batch, side_px=text.side_px, device=models.device, precision=models.precision)
    from curation.models.ppocr import PpocrDetector

    return PpocrDetector(weights, batch=text.batch, side_px=text.side_px)


def detect_all(detector: TextDetector, pictures: Sequence[NDArray[np.uint8]]) -> list[Quads | NotFinite]:
    """The same for pictures of any sizes: those of one size go together."""
    by_size: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for place, picture in enumerate(pictures):
        by_size[picture.shape].append(place)
    found: dict[int, Quads | NotFinite] = {}
    for places in by_size.values():
        found |= zip(places, detector.detect([pictures[place] for place in places]), strict=True)
    return [found[place] for place in range(len(pictures))]
