"""Promise: clips that are too short, hold too few drawings or are damaged are dropped with the number that was wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from curation.config import DurationLimits
from curation.gates.duration import Duration, decide

LIMITS = DurationLimits(enabled=True, min_frames=16, min_s=0.5, min_drawings=4)
SHORTEST = Duration(frames=16, seconds=0.5, drawings=4, damaged=0)


@pytest.mark.parametrize(("changes", "reason"), [
    ({}, None),                                                   # limits themselves are allowed
    ({"frames": 15}, "duration: 15 frames < 16"),
    ({"seconds": 0.49}, "duration: 0.490 s < 0.5 s"),
    ({"drawings": 3}, "duration: 3 distinct drawings < 4"),
    ({"damaged": 2}, "duration: 2 damaged frames"),
    ({"damaged": 1, "frames": 3}, "duration: 1 damaged frame"),
])
def test_decision_names_the_limit_that_was_missed(changes: dict[str, float], reason: str | None) -> None:
    verdict = decide(replace(SHORTEST, **changes), LIMITS)       # type: ignore[arg-type]
    assert (verdict.keep, verdict.gate, verdict.reason) == (reason is None, "duration", reason or "")


def test_hardly_too_short_clip_does_not_read_as_long_enough() -> None:
    """The reason must show a difference: 0.499 s is no "0.50 s < 0.50 s"."""
    assert decide(replace(SHORTEST, seconds=0.499), LIMITS).reason == "duration: 0.499 s < 0.5 s"
