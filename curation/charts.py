"""Geometry of the report's charts: what is drawn where, computed from the rows; report.html only draws it.

Lengths are in units of each chart's own view box, so charts scale with the page.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from curation.config import GatesConfig
from curation.funnel import is_kept
from curation.gates import aesthetic, alignment, credits, duplicates, duration, motion, quality, text_area
from curation.ledger import Clip, SourceRecord

HISTOGRAM_W, HISTOGRAM_H = 320, 96
TIMELINE_W = 1000
NUM_BINS = 32
OUTLIERS = 2.0               # times the 95th percentile: what lies above is counted in the last bin
MAX_TIMELINE_SPANS = 400     # of one source; neighbours alike are drawn as one beyond that
MAX_TOOLTIPS = 120           # of one source: more would make the page heavy


class Fate(StrEnum):
    """How a clip is coloured; in a histogram also by whom it was dropped."""

    KEPT = "kept"
    DROPPED = "dropped"      # in a histogram: by the gate that measured this score
    ELSEWHERE = "elsewhere"  # by another gate


@dataclass(frozen=True, slots=True)
class ScoreSpec:
    """A score worth looking at: where it comes from, how it is written, and the limit that decides about it."""

    gate: str
    field: str
    label: str
    short: str                         # on the card of an example
    option: str                        # of the gate's limits
    is_minimum: bool
    form: Callable[[float], str]

    def value(self, clip: Clip) -> float | None:
        """The clip's score; None where the gate did not measure it, or could not."""
        score = clip.scores.get(self.gate)
        found = getattr(score, self.field) if score is not None else None
        return None if found is None or not math.isfinite(found) else float(found)

    def limit(self, limits: GatesConfig) -> float | None:
        """The limit in force; None where the gate is off."""
        gate = getattr(limits, self.gate)
        return float(getattr(gate, self.option)) if gate.enabled else None

    def margin(self, clip: Clip, limits: GatesConfig) -> float | None:
        """Distance to the limit as a share of it: positive on the side that is kept; None where there is none."""
        value, limit = self.value(clip), self.limit(limits)
        if value is None or limit is None:
            return None
        return (value - limit if self.is_minimum else limit - value) / max(abs(limit), 1e-3)


def _whole(value: float) -> str:
    return f"{value:.0f}"


def _decimals(value: float) -> str:
    return f"{value:.2f}"


def _percent(value: float) -> str:
    return f"{value:.1%}" if value < 0.1 else f"{value:.0%}"


SCORES = (
    ScoreSpec(duration.GATE, "frames", "Length, frames", "frames", "min_frames", True, _whole),
    ScoreSpec(duration.GATE, "drawings", "Distinct drawings", "drawings", "min_drawings", True, _whole),
    ScoreSpec(quality.GATE, "side_px", "Shorter side without bars, pixels", "side", "min_side_px", True, _whole),
    ScoreSpec(quality.GATE, "blocking", "Compression blocks, 1 = none", "blocks", "max_blocking", False, _decimals),
    ScoreSpec(quality.GATE, "sharpness", "Sharpness of edges", "sharpness", "min_sharpness", True, _decimals),
    ScoreSpec(motion.GATE, "mean", "Motion, picture diagonals a second", "motion", "max_mean", False, _decimals),
    ScoreSpec(motion.GATE, "drawn_share", "Frames that bring drawn motion", "drawn", "min_drawn_share", True, _percent),
    ScoreSpec(text_area.GATE, "share", "Picture covered by text", "text", "max", False, _percent),
    ScoreSpec(credits.GATE, "confidence", "Confidence that it is credits or a title card", "credits", "max", False,
              _percent),
    ScoreSpec(aesthetic.GATE, "mean", "LAION aesthetic score", "aesthetic", "min_mean", True, _decimals),
    ScoreSpec(alignment.GATE, "mean", "Caption and pictures, cosine of CLIP", "alignment", "min_mean", True, _decimals),
    ScoreSpec(alignment.GATE, "lowest", "Caption and the picture it fits worst", "lowest", "min_lowest", True, _decimals),
    ScoreSpec(duplicates.GATE, "distance", "Bits between near-duplicates, of 64", "bits apart", "max_distance", False,
              _decimals),
)


@dataclass(frozen=True, slots=True)
class Rect:
    x: float
    y: float
    width: float
    height: float
    fate: Fate
    tip: str = ""


@dataclass(frozen=True, slots=True)
class Histogram:
    """One score over all clips that have it, stacked by fate, with its limit."""

    spec: ScoreSpec
    bars: list[Rect]
    num_clips: int
    low: str                           # labels of the axis
    high: str
    limit_x: float | None
    limit: str


@dataclass(frozen=True, slots=True)
class Tally:
    """How many clips have a property."""

    name: str
    kept: int
    dropped: int


@dataclass(frozen=True, slots=True)
class Timeline:
    """A source from its first to its last frame: coloured spans, and a mark wherever a shot begins."""

    record: SourceRecord
    spans: list[Rect]
    cuts: list[float] = field(default_factory=list)


def histogram(spec: ScoreSpec, clips: Sequence[Clip], limits: GatesConfig) -> Histogram | None:
    """None where no clip has the score."""
    values = [(value, _fate(clip, spec.gate)) for clip in clips if (value := spec.value(clip)) is not None]
    if not values:
        return None
    limit = spec.limit(limits)
    low, step, num_bins, has_more = _bins([value for value, _ in values], limit)
    counts = Counter((min(int((value - low) / step), num_bins - 1), fate) for value, fate in values)
    tallest = max(sum(counts[index, fate] for fate in Fate) for index in range(num_bins))
    width = HISTOGRAM_W / num_bins
    bars: list[Rect] = []
    for index in range(num_bins):
        y = float(HISTOGRAM_H)
        for fate in Fate:
            if count := counts[index, fate]:
                height = max(1.0, count / tallest * HISTOGRAM_H)
                y -= height
                start = spec.form(low + index * step)
                bars.append(Rect(round(index * width, 2), round(y, 2), round(width - 1, 2), round(height, 2), fate,
                                 f"{count} {fate}, from {start}"))
    limit_x = None if limit is None else round(min(max((limit - low) / step * width, 0.0), HISTOGRAM_W), 2)
    side = "at least" if spec.is_minimum else "at most"
    high = spec.form(low + num_bins * step) + ("+" if has_more else "")
    return Histogram(spec, bars, len(values), spec.form(low), high, limit_x,
                     "" if limit is None else f"{side} {spec.form(limit)}")


def tallies(clips: Sequence[Clip], of: Callable[[Clip], str | None], order: Sequence[str]) -> list[Tally]:
    """Counts of a property in the given order, then what else there is; clips without it are left out."""
    counts = Counter((name, is_kept(clip)) for clip in clips if (name := of(clip)) is not None)
    found = {name for name, _ in counts}
    names = [name for name in order if name in found] + sorted(found - set(order))
    return [Tally(name, counts[name, True], counts[name, False]) for name in names]


def timeline(record: SourceRecord, clips: Sequence[Clip]) -> Timeline:
    """`clips`: those of this source, in order. Frames of transitions belong to no clip and stay empty."""
    scale = TIMELINE_W / max(1, record.num_frames)
    has_tips = len(clips) <= MAX_TOOLTIPS
    spans: list[Rect] = []
    for clip in clips:
        fate = Fate.KEPT if is_kept(clip) else Fate.DROPPED
        x, end = round(clip.start_frame * scale, 1), round(clip.end_frame * scale, 1)
        last = spans[-1] if spans else None
        if len(clips) > MAX_TIMELINE_SPANS and last is not None and (
                last.fate == fate or last.width < TIMELINE_W / MAX_TIMELINE_SPANS):
            # Too narrow to be seen alone: what follows takes its colour.
            spans[-1] = Rect(last.x, 0, round(end - last.x, 1), 1, last.fate)
            continue
        reason = clip.verdict.reason if clip.verdict and not clip.verdict.keep else clip.split or "kept"
        tip = f"{clip.start_s:.1f} to {clip.end_s:.1f} s, {reason}"[:160] if has_tips else ""
        spans.append(Rect(x, 0, round(max(end - x, 0.5), 1), 1, fate, tip))
    starts: dict[int, int] = {}
    for clip in clips:
        starts.setdefault(clip.shot_index, clip.start_frame)
    cuts = [round(frame * scale, 1) for shot, frame in starts.items() if shot > 0]
    return Timeline(record, spans, cuts if len(cuts) <= MAX_TIMELINE_SPANS else [])


def _fate(clip: Clip, gate: str) -> Fate:
    if is_kept(clip):
        return Fate.KEPT
    return Fate.DROPPED if clip.verdict is not None and clip.verdict.gate == gate else Fate.ELSEWHERE


def _bins(values: Sequence[float], limit: float | None) -> tuple[float, float, int, bool]:
    """Lower end, width and number of the bins, and whether the last one also holds what lies above it.

    Scores that are whole numbers get bins of whole numbers, or empty bins between them would look like gaps.
    """
    ordered = sorted(values)
    low, top = ordered[0], ordered[-1]
    high = min(top, OUTLIERS * max(ordered[int(0.95 * (len(ordered) - 1))], 1e-9))
    if limit is not None:
        low, high = min(low, limit * 0.9), max(high, limit * 1.15)
    if all(value.is_integer() for value in values) and (limit is None or limit.is_integer()):
        low = math.floor(low)
        step = float(max(1, math.ceil((math.floor(high) + 1 - low) / NUM_BINS)))
        num_bins = math.ceil((math.floor(high) + 1 - low) / step)
        return low, step, num_bins, top >= low + num_bins * step
    step = max(high - low, 1e-9) / NUM_BINS
    return low, step, NUM_BINS, top > high
