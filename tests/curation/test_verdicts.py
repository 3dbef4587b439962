"""Promise: the first gate of the cascade that drops a clip is its reason, and nothing is kept unmeasured."""

from __future__ import annotations

from dataclasses import replace

import pytest
from drawn_films import defaults
from ledger_rows import make_clip

from curation.config import GatesConfig
from curation.gates.credits import Credits, CreditsKind
from curation.gates.duplicates import Duplicates
from curation.gates.duration import Duration
from curation.gates.motion import Motion, MotionKind
from curation.gates.quality import Quality
from curation.gates.text_area import TextArea
from curation.ledger import Clip, Score, Verdict
from curation.verdicts import CASCADE, NAMES, judge

BAD: dict[str, Score] = {
    "duration": Duration(8, 0.3, 2, 0),
    "quality": Quality(90, 1.78, 1.1, 0.6),
    "motion": Motion(MotionKind.STATIC, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    "text_area": TextArea(0.4, 2, 0),
    "credits": Credits(CreditsKind.ROLL, 1.0, 1.0, 1.0),
    "duplicates": Duplicates("other", 1.0, "other"),
}


def clip_with(*bad: str, without: tuple[str, ...] = ()) -> Clip:
    """A clip without a verdict whose scores in the gates `bad` are far over the limits."""
    clip = make_clip(verdict=None)
    good: dict[str, Score] = {**clip.scores, "credits": Credits(CreditsKind.NONE, 0.0, 0.0, 0.0)}
    return replace(clip, scores={gate: BAD[gate] if gate in bad else good[gate] for gate in NAMES if gate not in without})


def limits(*disabled: str) -> GatesConfig:
    gates = defaults().gates
    return replace(gates, **{name: replace(getattr(gates, name), enabled=False) for name in disabled})


def test_cascade_goes_from_cheap_to_expensive_and_has_limits_for_every_gate() -> None:
    assert NAMES == ("duration", "quality", "motion", "text_area", "credits", "duplicates")
    assert all(hasattr(defaults().gates, name) for name in NAMES)
    assert set(BAD) == set(NAMES) and len(CASCADE) == len(NAMES)


def test_clip_that_passes_every_gate_is_kept() -> None:
    assert judge(clip_with(), limits()) == Verdict.kept("all")


@pytest.mark.parametrize("gate", NAMES)
def test_each_gate_drops_by_its_own_score(gate: str) -> None:
    verdict = judge(clip_with(gate), limits())
    assert verdict is not None and not verdict.keep
    assert verdict.gate == gate and verdict.reason.startswith(f"{gate}: ")


@pytest.mark.parametrize("first", range(len(NAMES)))
def test_first_gate_of_the_cascade_gives_the_reason(first: int) -> None:
    verdict = judge(clip_with(*NAMES[first:]), limits())
    assert verdict is not None and verdict.gate == NAMES[first]


@pytest.mark.parametrize("gate", NAMES)
def test_disabled_gate_drops_nothing_and_needs_no_score(gate: str) -> None:
    assert judge(clip_with(gate), limits(gate)) == Verdict.kept("all")
    assert judge(clip_with(without=(gate,)), limits(gate)) == Verdict.kept("all")


@pytest.mark.parametrize("gate", NAMES)
def test_clip_is_not_kept_while_a_gate_has_not_measured_it(gate: str) -> None:
    assert judge(clip_with(without=(gate,)), limits()) is None


def test_missing_score_does_not_hide_that_a_later_gate_drops() -> None:
    verdict = judge(clip_with("motion", without=("duration",)), limits())
    assert verdict is not None and verdict.gate == "motion"


def test_failed_measurement_stands_and_a_provisional_keep_does_not() -> None:
    failed = Verdict.drop("text_area", "could not be measured: no reader")
    assert judge(replace(clip_with(), verdict=failed), limits()) == failed
    verdict = judge(replace(clip_with("duplicates"), verdict=Verdict.kept("all")), limits())
    assert verdict is not None and verdict.gate == "duplicates"
