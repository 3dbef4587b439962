"""Stage that gives clips which no gate has dropped so far their caption, from the survey's looks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from curation.gates.motion import GATE, Motion, MotionKind
from curation.label.caption import CAPTION_MODEL, STILL, facts
from curation.ledger import Clip
from curation.stage import Resources
from curation.survey import load_looks
from pipeline.store import Store

MAX_LOOKS = 3


class Describe:
    """Clip -> Clip with a caption of measured facts; a caption is never empty."""

    name = "caption"
    version = 1
    takes = Clip
    batch_size = 1
    resources = Resources(cpus=1.0, memory_gb=0.3)

    def __init__(self, store_root: str) -> None:
        self.store_root = store_root

    def setup(self) -> None:
        """No models."""

    def __call__(self, rows: list[Clip]) -> list[list[Clip]]:
        return [[clip if clip.verdict and not clip.verdict.keep else self.describe(clip)] for clip in rows]

    def failed(self, row: Clip, error: str) -> Clip:
        return replace(row, caption="A cartoon.", caption_model=f"none: {error}")

    def describe(self, clip: Clip) -> Clip:
        looks = load_looks(Store(Path(self.store_root)), clip.survey_key, clip.start_frame, clip.end_frame)
        step = max(1, (len(looks) + MAX_LOOKS - 1) // MAX_LOOKS)
        pictures = [look.picture() for look in looks[::step]]
        motion = clip.scores.get(GATE)
        if not isinstance(motion, Motion):
            return replace(clip, caption=facts(pictures, cadence=clip.cadence), caption_model=CAPTION_MODEL)
        moves = motion.kind in (MotionKind.DRAWN, MotionKind.BOTH)
        caption = facts(pictures, pan_x=motion.pan_x, pan_y=motion.pan_y, zoom=motion.zoom,
                        drawn_mean=max(motion.drawn_mean, STILL) if moves else 0.0,
                        drawn_coverage=motion.drawn_area, cadence=clip.cadence)
        return replace(clip, caption=caption, caption_model=CAPTION_MODEL)
