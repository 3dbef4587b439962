"""The gates in cascade order, cheap to expensive: each measures without an opinion and decides without a picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from curation.config import GatesConfig
from curation.gates import aesthetic, alignment, credits, duplicates, duration, motion, quality, semantic, text_area
from curation.ledger import Clip, Verdict

CASCADE = (duration, quality, motion, text_area, credits, aesthetic, alignment, duplicates)
NAMES = tuple(gate.GATE for gate in CASCADE)
# Measurements by a second model, decided with the limits of its gate; a clip that has one must pass it, too.
SECOND_LOOKS: dict[str, tuple[str, Callable[[Any, Any], Verdict]]] = {
    motion.GATE: ("motion_raft", motion.decide_again), duplicates.GATE: (semantic.SCORE, semantic.decide)}


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
        if verdict.keep and gate.GATE in SECOND_LOOKS:
            name, decide = SECOND_LOOKS[gate.GATE]
            verdict = decide(clip.scores[name], limit) if name in clip.scores else verdict
        if not verdict.keep:
            return verdict
    return Verdict.kept("all") if is_complete else None
