"""Aesthetic gate: drops clips that LAION's aesthetic predictor finds ugly.

The predictor is a linear map of CLIP's vectors, trained on what people said about photographs and pictures, not on cartoons:
calibrate its limit on your films. ToonCrafter (arXiv 2405.17933, section 3.2) filtered with it; its limit is not published.
Scored are the first, the middle and the last frame; the mean decides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from curation.config import AestheticLimits
from curation.ledger import Clip, Verdict
from curation.models.batches import SCORE_DIGITS, finite
from curation.models.config import AestheticName
from curation.models.laion import AestheticHead, load_head
from curation.stage import Resources
from pipeline.store import Store

GATE = "aesthetic"


@dataclass(frozen=True, slots=True)
class Aesthetic:
    """LAION's scores, about 1 to 10, in practice 3 to 7."""

    mean: float              # over the frames that CLIP saw
    lowest: float
    highest: float


class MeasureAesthetic:
    """Stage: Clip -> Clip with the score `aesthetic`, from the vectors that `Embed` stored."""

    name = "aesthetic"
    version = 1
    takes = Clip
    batch_size = 8
    resources = Resources(cpus=1.0, memory_gb=0.3)

    def __init__(self, store_root: str, head: AestheticName, weights: Path) -> None:
        self.store_root, self.head_name, self.weights = store_root, head, weights
        self._head: AestheticHead | None = None

    def setup(self) -> None:
        self._head = load_head(self.head_name, self.weights)

    def __call__(self, rows: list[Clip]) -> list[list[Clip]]:
        return [[clip if clip.is_dropped else self._measured(clip)] for clip in rows]

    def failed(self, row: Clip, error: str) -> Clip:
        return replace(row, verdict=Verdict.drop(GATE, f"could not be measured: {error}"))

    def _measured(self, clip: Clip) -> Clip:
        from curation.label.embed import load_vectors

        assert self._head is not None, "setup was not called"
        return clip.with_score(GATE, measure_aesthetic(load_vectors(Store(Path(self.store_root)), clip), self._head))


def measure_aesthetic(vectors: NDArray[np.float32], head: AestheticHead) -> Aesthetic:
    """The score of a clip's unit vectors [frames, d]; NotFinite where there is none."""
    scores = finite(head.score(vectors), "the aesthetic predictor")
    mean, lowest, highest = (round(float(value), SCORE_DIGITS) for value in (scores.mean(), scores.min(), scores.max()))
    return Aesthetic(mean, lowest, highest)


def decide(score: Aesthetic, limits: AestheticLimits) -> Verdict:
    """Keeps clips whose frames score at least `limits.min_mean` on average."""
    if score.mean < limits.min_mean:
        return Verdict.drop(GATE, f"aesthetic score {score.mean:.2f} < {limits.min_mean:g}")
    return Verdict.kept(GATE)
