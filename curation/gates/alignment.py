"""Alignment gate: drops clips whose caption does not say what their pictures show.

Measured is the cosine of CLIP's vectors of the caption and of the first, the middle and the last frame, as in ToonCrafter
(arXiv 2405.17933, section 3.2). All three are stored; the mean and the lowest decide. CLIP reads 77 tokens, about 50 words.
The limits are not published.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from curation.config import AlignmentLimits
from curation.ledger import Clip, Verdict
from curation.models.batches import SCORE_DIGITS, NotFinite
from curation.models.clip import TextTower
from curation.models.clip_stage import ClipStage, model_resources
from curation.models.config import ModelsConfig
from pipeline.hashing import content_key
from pipeline.records import read_json, write_json
from pipeline.store import Store

GATE = "alignment"
SCHEMA, FILE = 1, "alignment.json"
MEMORY_GB = 1.5              # the text half of ViT-L/14 in float32


@dataclass(frozen=True, slots=True)
class Alignment:
    """Cosines of caption and picture, [-1, 1]; with CLIP ViT-L/14 a fitting caption has 0.2 to 0.3."""

    first: float
    middle: float
    last: float
    mean: float              # over all frames that CLIP saw
    lowest: float


class MeasureAlignment(ClipStage[Alignment]):
    """Stage: Clip -> Clip with the score `alignment`; the pictures' vectors are those that `Embed` stored."""

    name, version, kind, gate = "alignment", 1, "alignment", GATE

    def __init__(self, store_root: str, models: ModelsConfig, weights: Path, identity: str) -> None:
        super().__init__(store_root, identity, precision=models.precision)
        self.models, self.weights = models, weights
        self.batch_size = models.clip.batch
        self.resources = model_resources(models, MEMORY_GB)
        self._tower: TextTower | None = None

    def key(self, clip: Clip) -> str:
        return content_key(version=self.version, model=self.identity, caption=clip.caption, vectors=clip.embed_key,
                           **self.settings)

    def measure(self, clips: Sequence[Clip]) -> list[Alignment | NotFinite]:
        from curation.label.embed import load_vectors

        if self._tower is None:
            self._tower = TextTower(self.models.clip.name, self.weights, batch=self.models.clip.batch,
                                    device=self.models.device, precision=self.models.precision)
        sentences = self._tower.embed([clip.caption for clip in clips])
        store = Store(Path(self.store_root))
        return [measure_alignment(load_vectors(store, clip), sentence) for clip, sentence in zip(clips, sentences, strict=True)]

    def write(self, found: Alignment, folder: Path) -> None:
        write_json(folder / FILE, {"schema": SCHEMA, "score": asdict(found)})

    def read(self, clip: Clip, folder: Path, key: str) -> Clip:
        score = read_json(folder / FILE, SCHEMA)["score"]
        assert isinstance(score, dict)
        return clip.with_score(GATE, Alignment(**{name: float(str(value)) for name, value in score.items()}))


def measure_alignment(vectors: NDArray[np.float32], sentence: NDArray[np.float32]) -> Alignment:
    """The score of a clip's unit vectors [frames, d] and its caption's [d]."""
    cosines = [round(float(value), SCORE_DIGITS) for value in vectors.astype(np.float64) @ sentence.astype(np.float64)]
    return Alignment(cosines[0], cosines[(len(cosines) - 1) // 2], cosines[-1], round(float(np.mean(cosines)), SCORE_DIGITS),
                     min(cosines))


def decide(score: Alignment, limits: AlignmentLimits) -> Verdict:
    """Keeps clips whose caption fits on average, and fits no frame worse than `limits.min_lowest`."""
    if score.mean < limits.min_mean:
        return Verdict.drop(GATE, f"the caption fits the pictures by {score.mean:.3f} < {limits.min_mean:g}")
    if score.lowest < limits.min_lowest:
        return Verdict.drop(GATE, f"the caption fits one picture by only {score.lowest:.3f} < {limits.min_lowest:g}")
    return Verdict.kept(GATE)
