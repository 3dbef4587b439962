"""What other limits would give: agreement over thresholds, computed from stored scores without any decode.

A suggested limit is the middle of the widest stretch of limits that give the best F1: as far as possible from where it
would be worse on either side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from curation.calibration.agreement import Agreement, Span
from curation.calibration.films import compare_cuts, compare_graduals, compare_text
from curation.calibration.truth import Truth
from curation.clips import Film
from curation.config import ShotsConfig
from curation.graduals import Gradual, find_graduals
from curation.ledger import Clip
from curation.shots import Shot, cut_scores, divide, find_cuts

CUT_LIMITS = tuple(round(0.05 * step, 2) for step in range(1, 20))
GRADUAL_LIMITS = tuple(round(0.05 * step, 2) for step in range(1, 20))
TEXT_LIMITS = (0.0, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3)
CUT_TOLERANCES = (1, 2)      # frames

CURVES: Mapping[str, tuple[str, str]] = {      # option that a curve is about, and its title
    "cuts_1": ("curation.shots.cut", "Cuts, within 1 frame"),
    "cuts_2": ("curation.shots.cut", "Cuts, within 2 frames"),
    "gradual": ("curation.shots.graduals.min_score", "Gradual transitions"),
    "text": ("gates.text_area.max", "Shots with text"),
}

Curve = dict[float, Agreement]


@dataclass(frozen=True, slots=True)
class Curves:
    """Agreement by limit, of one film or added up over several."""

    by_name: dict[str, Curve] = field(default_factory=dict)

    def __add__(self, other: Curves) -> Curves:
        names = [*self.by_name, *(name for name in other.by_name if name not in self.by_name)]
        return Curves({name: _added(self.by_name.get(name, {}), other.by_name.get(name, {})) for name in names})


def measure_curves(truth: Truth, film: Film, clips: Sequence[Clip], config: ShotsConfig, trim_frames: int) -> Curves:
    """Agreement of one film with its label at every limit of every curve that its label speaks of."""
    curves: dict[str, Curve] = {}
    if truth.hard_cuts is not None:
        for tolerance in CUT_TOLERANCES:
            curves[f"cuts_{tolerance}"] = {}
        for limit, shots in shots_by_cut_limit(film, config, trim_frames).items():
            agreements, _ = compare_cuts(truth, cut_frames(shots), film.survey.num_frames)
            for tolerance in CUT_TOLERANCES:
                curves[f"cuts_{tolerance}"][limit] = agreements[tolerance]
    if truth.gradual is not None:
        curves["gradual"] = {}
        for limit in GRADUAL_LIMITS:
            found = find_graduals(film.survey.thumbs, replace(config.graduals, min_score=limit))
            curves["gradual"][limit] = compare_graduals(truth, spans(found), film.survey.num_frames)[0]
    if any(shot.text in ("none", "heavy") for shot in truth.shots):
        curves["text"] = {limit: compare_text(truth, clips, film.survey.num_frames, limit) for limit in TEXT_LIMITS}
    return Curves(curves)


def shots_by_cut_limit(film: Film, config: ShotsConfig, trim_frames: int) -> dict[float, list[Shot]]:
    """The shots that every threshold of cuts gives; drawings and transitions are looked at once."""
    survey = film.survey
    scores = cut_scores(survey.thumbs, survey.signals, film.new)
    graduals = find_graduals(survey.thumbs, config.graduals)
    found: dict[float, list[Shot]] = {}
    for limit in CUT_LIMITS:
        cuts = find_cuts(scores, survey.num_frames, replace(config, cut=limit))
        found[limit] = divide(survey.num_frames, cuts, graduals, trim_frames)
    return found


def cut_frames(shots: Sequence[Shot]) -> list[int]:
    """First frames of the shots that a cut opens."""
    return [shot.start for shot in shots if shot.opened_by == "cut"]


def spans(graduals: Sequence[Gradual]) -> list[Span]:
    return [(gradual.start, gradual.end) for gradual in graduals]


def suggest(curve: Curve) -> float | None:
    """The middle of the longest run of neighbouring limits with the best F1; None where there was nothing to find."""
    limits = sorted(curve)
    if not limits or not any(curve[limit].true_positives for limit in limits):
        return None
    best = max(curve[limit].f1 for limit in limits)
    runs: list[list[float]] = [[]]
    for limit in limits:
        if curve[limit].f1 >= best - 1e-9:
            runs[-1].append(limit)
        elif runs[-1]:
            runs.append([])
    return round(median(sorted(runs, key=len)[-1]), 6)


def curve_rows(curve: Curve) -> list[dict[str, Any]]:
    """A curve as plain data, by rising limit."""
    return [{"limit": limit, "precision": round(agreement.precision, 6), "recall": round(agreement.recall, 6),
             "f1": round(agreement.f1, 6)} for limit, agreement in sorted(curve.items())]


def _added(one: Curve, two: Curve) -> Curve:
    return {limit: one.get(limit, Agreement()) + two.get(limit, Agreement()) for limit in sorted({*one, *two})}
