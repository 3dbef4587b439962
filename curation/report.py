"""The report of a curation: one page that needs no network, no script and no other file.

It is built from the rows, the summary and the survey's looks alone, without a clock: the same curation gives the same
page. Everything that can grow with the archive is bounded here, and the page says what it leaves out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from curation import charts, examples
from curation.config import GatesConfig, ProfileName
from curation.funnel import NOT_MEASURED, is_damaged
from curation.gates.credits import GATE as CREDITS
from curation.gates.credits import Credits, CreditsKind
from curation.gates.motion import GATE as MOTION
from curation.gates.motion import Motion, MotionKind
from curation.ledger import Clip, SourceRecord, Status
from curation.progress import clock_text
from curation.repeats import KINDS
from pipeline.records import write_text
from pipeline.store import Store

TEMPLATE = "report.html"
MAX_TIMELINES = 40
MAX_REMARKS = 200            # sources in the table of those that are not used, or not whole
COPY = "copy"                # of a whole film, or a scene that another film recalls
REPEATS = (*KINDS, COPY)
CADENCES = ("ones", "twos", "threes", "fours", "mixed", "hold")


@dataclass(frozen=True, slots=True)
class FunnelStep:
    """One bar of the funnel: what is left after a step, and what the step took."""

    name: str
    left: int
    dropped: int
    share: float             # of the longest bar, percent


@dataclass(frozen=True, slots=True)
class GateSection:
    """What the report shows of one gate."""

    name: str
    limits: list[tuple[str, str]]      # option and value; empty for what drops clips without being a gate
    is_enabled: bool
    dropped: int
    histograms: list[charts.Histogram]
    tallies: list[charts.Tally]
    examples: list[examples.Example]


@dataclass(frozen=True, slots=True)
class Remark:
    """A source that is not used, or not whole."""

    name: str
    status: str
    why: str


def write_report(path: Path, records: Sequence[SourceRecord], clips: Sequence[Clip], summary: Mapping[str, Any],
                 limits: GatesConfig, store: Store, *, title: str, profile: ProfileName = ProfileName.EMBEDDED,
                 not_measured: Sequence[str] = NOT_MEASURED, models: Mapping[str, object] | None = None,
                 versions: Mapping[str, object] | None = None) -> None:
    """Writes the page. `summary`: of funnel.summarise; `models` and `versions`: as in the manifest."""
    ordered = sorted(clips, key=lambda clip: (clip.source, clip.start_frame))
    remarks = _remarks(records)
    timelines, num_films = _timelines(records, ordered)
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True,
                              undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["clock"] = clock_text
    write_text(path, environment.get_template(TEMPLATE).render(
        title=title, summary=summary, funnel=_funnel(summary), gates=_gates(ordered, summary, limits, store),
        cadences=charts.tallies(ordered, lambda clip: clip.cadence or None, CADENCES),
        lettering=charts.tallies(ordered, _lettering, tuple(CreditsKind)), repeats=charts.tallies(ordered, _repeat, REPEATS),
        kept=examples.kept_examples(ordered, limits, store), timelines=timelines, num_films=num_films,
        remarks=remarks[:MAX_REMARKS], num_remarks=len(remarks), not_measured=not_measured,
        profile=profile.value, models=models or _models(ordered), versions=versions or {},
        histogram_w=charts.HISTOGRAM_W, histogram_h=charts.HISTOGRAM_H, timeline_w=charts.TIMELINE_W))


def _funnel(summary: Mapping[str, Any]) -> list[FunnelStep]:
    left = summary["clips"]
    counts = [("sources", summary["sources"]["found"], 0), ("shots", summary["shots"], 0), ("clips", left, 0)]
    for gate, dropped in summary["dropped"].items():
        left -= dropped
        counts.append((f"after {gate}", left, dropped))
    counts += [(f"kept for {split}", count, 0) for split, count in summary["kept"].items()]
    longest = max(1, *(count for _, count, _ in counts))
    return [FunnelStep(name, count, dropped, round(100 * count / longest, 2)) for name, count, dropped in counts]


def _gates(clips: Sequence[Clip], summary: Mapping[str, Any], limits: GatesConfig, store: Store) -> list[GateSection]:
    """Every gate in cascade order, then what else dropped clips."""
    sections = []
    for name, dropped in summary["dropped"].items():
        options: dict[str, Any] = asdict(getattr(limits, name)) if hasattr(limits, name) else {"enabled": True}
        is_enabled = options.pop("enabled")
        found = [charts.histogram(spec, clips, limits) for spec in charts.SCORES if spec.gate == name]
        kinds = charts.tallies(clips, _motion_kind, tuple(MotionKind)) if name == MOTION else []
        sections.append(GateSection(
            name, [(option, str(value).lower()) for option, value in options.items()], is_enabled, dropped,
            [histogram for histogram in found if histogram is not None], kinds,
            examples.dropped_examples(clips, name, limits, store)))
    return sections


def _motion_kind(clip: Clip) -> str | None:
    score = clip.scores.get(MOTION)
    return score.kind.value if isinstance(score, Motion) else None


def _lettering(clip: Clip) -> str | None:
    score = clip.scores.get(CREDITS)
    return score.kind.value if isinstance(score, Credits) and score.kind is not CreditsKind.NONE else None


def _repeat(clip: Clip) -> str | None:
    return None if clip.repeat is None or clip.repeat.copies == 1 else clip.repeat.kind or COPY


def _timelines(records: Sequence[SourceRecord], clips: Sequence[Clip]) -> tuple[list[charts.Timeline], int]:
    """Timelines of at most MAX_TIMELINES films, evenly taken from their names, and how many films there are."""
    films = sorted((record for record in records if record.status is Status.OK), key=lambda record: record.name)
    step = max(1, -(-len(films) // MAX_TIMELINES))
    of_source: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        of_source[clip.source].append(clip)
    return [charts.timeline(film, of_source[film.name]) for film in films[::step]], len(films)


def _remarks(records: Sequence[SourceRecord]) -> list[Remark]:
    """Quarantined sources first, then duplicates, then those that are used although something is unusual."""
    order = {Status.QUARANTINED: 0, Status.DUPLICATE: 1, Status.OK: 2}
    unusual = [record for record in records if record.status is not Status.OK or record.note or is_damaged(record)]
    return [Remark(examples.shorten(record.name), record.status.value,
                   examples.shorten(record.error or record.note or _remark(record)))
            for record in sorted(unusual, key=lambda record: (order[record.status], record.name))]


def _remark(record: SourceRecord) -> str:
    if record.status is Status.DUPLICATE:
        return f"the same bytes as {record.duplicate_of}"
    return f"{record.decode_errors} decoding errors"


def _models(clips: Sequence[Clip]) -> dict[str, object]:
    captions = sorted({clip.caption_model for clip in clips if clip.caption_model})
    return {"caption": ", ".join(captions)} if captions else {}
