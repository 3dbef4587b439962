"""Length gate: drops clips that are too short to train on, or hold too few drawings."""

from __future__ import annotations

from dataclasses import dataclass

from curation.config import DurationLimits
from curation.ledger import Verdict

GATE = "duration"


@dataclass(frozen=True, slots=True)
class Duration:
    frames: int
    seconds: float
    drawings: int            # distinct ones
    damaged: int             # frames the decoder marked as damaged


def decide(score: Duration, limits: DurationLimits) -> Verdict:
    """Keeps clips that are long enough in frames, seconds and drawings and have no damaged frame."""
    if score.damaged:
        return Verdict.drop(GATE, f"{score.damaged} damaged frame{'s' * (score.damaged > 1)}")
    if score.frames < limits.min_frames:
        return Verdict.drop(GATE, f"{score.frames} frames < {limits.min_frames}")
    if score.seconds < limits.min_s:
        return Verdict.drop(GATE, f"{score.seconds:.3f} s < {limits.min_s:g} s")
    if score.drawings < limits.min_drawings:
        return Verdict.drop(GATE, f"{score.drawings} distinct drawings < {limits.min_drawings}")
    return Verdict.kept(GATE)
