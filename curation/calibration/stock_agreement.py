"""What the usual tools found, held against the same labels as ours."""

from __future__ import annotations

from dataclasses import dataclass, field

from curation.calibration.agreement import Agreement, judge_binary
from curation.calibration.films import TOLERANCES, compare_cuts
from curation.calibration.stock import DETECTORS, StockRecord, moves, nearest_frames
from curation.calibration.truth import Truth
from curation.survey import SurveyData


def _nothing() -> dict[str, dict[int, Agreement]]:
    return {name: {tolerance: Agreement() for tolerance in TOLERANCES} for name in DETECTORS}


@dataclass(frozen=True, slots=True)
class StockAgreement:
    """Counts of one film, or the sum of several."""

    cuts: dict[str, dict[int, Agreement]] = field(default_factory=_nothing)      # by detector and tolerance
    static: Agreement = field(default_factory=Agreement)                         # of labelled shots the filter would drop

    def __add__(self, other: StockAgreement) -> StockAgreement:
        cuts = {name: {tolerance: found[tolerance] + other.cuts[name][tolerance] for tolerance in TOLERANCES}
                for name, found in self.cuts.items()}
        return StockAgreement(cuts, self.static + other.static)


def compare_stock(truth: Truth, row: StockRecord, survey: SurveyData) -> StockAgreement:
    """Compares one film; shots of which the filter sees no frame are not judged."""
    cuts = {}
    for name in DETECTORS:
        found = nearest_frames(row.cuts_s[name], survey.pts, survey.probe.time_base)
        cuts[name] = compare_cuts(truth, found, survey.num_frames)[0]
    pairs = []
    for shot in truth.shots:
        moving = moves(row.steps, shot.start, min(shot.end, survey.num_frames - 1))
        if moving is not None and shot.static is not None:
            pairs.append((not moving, shot.static))
    return StockAgreement(cuts, judge_binary(pairs))
