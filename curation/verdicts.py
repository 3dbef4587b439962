"""The gates in cascade order, cheap to expensive: each measures without an opinion and decides without a picture."""

from __future__ import annotations

from curation.config import GatesConfig
from curation.gates import credits, duplicates, duration, motion, quality, text_area
from curation.ledger import Clip, Verdict

CASCADE = (duration, quality, motion, text_area, credits, duplicates)
NAMES = tuple(gate.GATE for gate in CASCADE)


def judge(clip: Clip, limits: GatesConfig) -> Verdict | None:
    """The first gate that drops the clip, or kept; None while an enabled gate has not measured it yet.

    A verdict that a failed measurement left stands.
    """
    if clip.verdict is not None and not clip.verdict.keep:
        return clip.verdict
    is_complete = True
    for gate in CASCADE:
        limit = getattr(limits, gate.GATE)
        if not limit.enabled:
            continue
        score = clip.scores.get(gate.GATE)
        if score is None:
            is_complete = False
            continue
        verdict: Verdict = gate.decide(score, limit)
        if not verdict.keep:
            return verdict
    return Verdict.kept("all") if is_complete else None
