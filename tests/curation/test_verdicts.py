"""Promise: the first gate of the cascade that drops a clip is its reason, and nothing is kept unmeasured."""

from __future__ import annotations

from dataclasses import replace

import pytest
from drawn_films import defaults
from ledger_rows import make_clip

from curation.config import GatesConfig
from curation.gates.aesthetic import Aesthetic
from curation.gates.alignment import Alignment
from curation.gates.credits import Credits, CreditsKind
from curation.gates.duplicates import Duplicates
from curation.gates.duration import Duration
from curation.gates.motion import Motion, MotionKind
from curation.gates.quality import Quality
from curation.gates.semantic import Semantic
from curation.gates.text_area import TextArea
from curation.ledger import Clip, Score, Verdict
from curation.verdicts import CASCADE, NAMES, judge
from pipeline.config import load

BAD: dict[str, Score] = {
    "duration": Duration(8, 0.3, 2, 0),
    "quality": Quality(90, 1.78, 1.1, 0.6),
    "motion": Motion(MotionKind.STATIC, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    "text_area": TextArea(0.4, 2, 0),
    "credits": Credits(CreditsKind.ROLL, 1.0, 1.0, 1.0),
    "aesthetic": Aesthetic(2.0, 1.0, 3.0),
    "alignment": Alignment(0.0, 0.0, 0.0, 0.0, 0.0),
    "duplicates": Duplicates("other", 1.0, "other"),
}


def clip_with(*bad: str, without: tuple[str, ...] = ()) -> Clip:
    """A clip without a verdict whose scores in the gates `bad` are far over the limits."""
    clip = make_clip(verdict=None)
    good: dict[str, Score] = {**clip.scores, "credits": Credits(CreditsKind.NONE, 0.0, 0.0, 0.0),
                              "aesthetic": Aesthetic(6.0, 5.5, 6.5), "alignment": Alignment(0.3, 0.3, 0.3, 0.3, 0.3)}
    return replace(clip, scores={gate: BAD[gate] if gate in bad else good[gate] for gate in NAMES if gate not in without})


def limits(*disabled: str) -> GatesConfig:
    """Those of profile=paper, which measures every gate."""
    gates = load(["profile=paper"]).gates
    return replace(gates, **{name: replace(getattr(gates, name), enabled=False) for name in disabled})


def test_cascade_goes_from_cheap_to_expensive_and_has_limits_for_every_gate() -> None:
    assert NAMES == ("duration", "quality", "motion", "text_area", "credits", "aesthetic", "alignment", "duplicates")
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


def test_second_look_must_be_passed_too_and_only_where_there_is_one() -> None:
    """RAFT's score stands beside the survey's, CLIP's beside the perceptual hashes'; each is decided by its gate's limits."""
    still = clip_with().with_score("motion_raft", BAD["motion"])
    verdict = judge(still, limits())
    assert verdict is not None and verdict.reason == "motion: nothing moves, says the second flow"
    assert judge(still, limits("motion")) == Verdict.kept("all")
    panned = Motion(MotionKind.PAN, 0.1, 0.0, 0.0, 0.0, 0.0, 0.1, 0.1, 0.0, 0.0)
    assert judge(clip_with().with_score("motion_raft", panned), limits()) == Verdict.kept("all")     # not for it to say
    alike = clip_with().with_score("semantic", Semantic(0.999, "other", "other"))
    verdict = judge(alike, limits())
    assert verdict is not None and verdict.gate == "duplicates" and "other" in verdict.reason
