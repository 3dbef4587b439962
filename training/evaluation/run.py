"""One rank of an evaluation: its share of the clips is made and measured, system by system; rank 0 then writes the report.

Clips go round the ranks by their index. Nothing that is on disk under the same keys is made or measured again; see store.py.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import Tensor

from pipeline.errors import EXIT_OK, EXIT_STOPPED, UserError, nearest
from pipeline.hashing import content_key
from pipeline.records import Json, to_plain
from pipeline.tracking import Tracker
from training.evaluation.config import EvaluateJob, WeightsChoice
from training.evaluation.drawn import Drawn
from training.evaluation.measuring import Measurer, MetricSpec, occlusion, parse_metrics
from training.evaluation.published import find_published
from training.evaluation.report import write_report
from training.evaluation.samples import Entry, EvalSample, HeldoutRecipe, list_heldout
from training.evaluation.store import (
    frames_folder,
    has_frames,
    read_frames,
    read_numbers,
    rounded,
    write_frames,
    write_numbers,
)
from training.evaluation.systems import FolderSystem, System, build_systems, check_systems, identity_of
from training.evaluation.table import Measurements, Table, make_tables, thirds
from training.evaluation.triplets import list_triplets
from training.metrics.suite import EMBEDDED_WEIGHTS, MeasuringOptions
from training.ranks import Ranks
from training.sampling.progress import progress
from training.stop import StopRequest

TRUTH = "truth"                         # the drawn clips: their features and occlusion
THIRDS = ("motion_amount", "occlusion")
TRUTH_VERSION = 1

logger = logging.getLogger(__name__)


class Stopped(Exception):
    """Somebody asked to stop."""


@dataclass(slots=True)
class Work:
    """What a rank has at hand."""

    job: EvaluateJob
    out: Path
    entries: list[Entry]
    systems: list[System]
    measurer: Measurer
    console: Console
    shown: set[str] = field(default_factory=set)        # clips whose frames the report shows
    num_measured: int = 0


def run(job: EvaluateJob, console: Console) -> int:
    """Makes and measures this rank's share; returns the exit code. UserError for whatever the user gave wrong."""
    ranks = Ranks.start(job.device)
    try:
        work = _prepare(job, ranks, console)
        error: Exception | None = None
        stopped = False
        with StopRequest(work.out, watches_file=ranks.is_first) as stop:
            try:
                _measure_share(work, ranks, stop)
            except Stopped:
                stopped = True
            except UserError as found:
                error = found
        ranks.agree(error)
        if ranks.any_of(stopped)[0]:
            console.print("stopped as asked; the same command continues", highlight=False)
            return EXIT_STOPPED
        num_measured = int(ranks.sum_of([work.num_measured])[0])
        ranks.on_first(lambda: _report(work, num_measured))         # an error there is told on every rank: nobody waits
        return EXIT_OK
    finally:
        ranks.stop()


def list_entries(job: EvaluateJob, console: Console) -> list[Entry]:
    """The clips of a job; UserError unless there is exactly one set, with clips in it."""
    if (job.shards is None) == (job.triplets is None):
        what = "shards and triplets are both given" if job.shards is not None else "there is nothing to measure on"
        raise UserError(what, "a table has one set of clips", "Give shards=FOLDER of a curation, or triplets=FOLDER")
    if job.triplets is not None:
        entries = list_triplets(job.triplets, size=job.size, num_clips=job.num_clips)
    else:
        assert job.shards is not None
        recipe = HeldoutRecipe(job.num_frames, job.size, job.stride, job.drawings)
        entries, too_short = list_heldout(job.shards, recipe, num_clips=job.num_clips)
        if too_short:
            console.print(f"{too_short} clips have no {job.num_frames} frames and are left out", highlight=False)
    if job.num_clips > len(entries):
        console.print(f"num_clips={job.num_clips}, and there are {len(entries)}: compare with nothing that has another number",
                      highlight=False)
    return entries


def measuring_options(job: EvaluateJob, device: Any) -> MeasuringOptions:
    return MeasuringOptions(weights=EMBEDDED_WEIGHTS if job.weights is WeightsChoice.EMBEDDED else {}, device=device)


def _prepare(job: EvaluateJob, ranks: Ranks, console: Console) -> Work:
    """Everything that can be wrong is found here, before anything is made."""
    find_published(job.published)
    specs = parse_metrics(job.metrics, job.frames)
    options = measuring_options(job, ranks.device)
    entries = list_entries(job, console if ranks.is_first else Console(quiet=True))
    _check_strata(job.strata, entries)
    measurer = Measurer(specs, options)
    for num_frames in sorted({entry.num_frames for entry in entries}):
        measurer.check(num_frames)
    systems = build_systems(job, options, ranks.device)
    check_systems(systems, entries)
    if job.weights is WeightsChoice.EMBEDDED and ranks.is_first:
        console.print("weights=embedded: metrics that look through a network use random stand-ins; such numbers compare with "
                      "nothing", highlight=False, soft_wrap=True)
    shown = {entry.key for entry in entries[:job.num_films]}
    return Work(job, Path(job.out), entries, systems, measurer, console, shown)


def _check_strata(strata: Sequence[str], entries: Sequence[Entry]) -> None:
    known = sorted({name for entry in entries for name in entry.strata} | set(THIRDS))
    for name in strata:
        if name not in known:
            near = nearest(name, known)
            fix = f"Did you mean {near}?" if near else f"There are: {', '.join(known)}"
            raise UserError(f"strata has {name}, which these clips do not have", fix=fix)


def _measure_share(work: Work, ranks: Ranks, stop: StopRequest) -> None:
    share = work.entries[ranks.rank::ranks.world]
    who = f"rank {ranks.rank}, " if ranks.world > 1 else ""
    with progress(work.console, f"{who}{TRUTH}", len(share)) as advance:
        for entry in share:
            _measure_truth(work, entry)
            advance()
            _leave_if_asked(stop)
    for system in work.systems:
        with progress(work.console, f"{who}{system.name}", len(share)) as advance:
            for entry in share:
                _measure_clip(work, system, entry)
                advance()
                _leave_if_asked(stop)
        if isinstance(system, Drawn):
            system.release()


def _leave_if_asked(stop: StopRequest) -> None:
    if stop.requested():
        raise Stopped


def truth_key(entry: Entry) -> str:
    return content_key(version=TRUTH_VERSION, sample=entry.identity, system=TRUTH)


def pair_key(system: System, entry: Entry, *, rounding: bool) -> str:
    """Of everything that the frames measured depend on; a system's name is no part of it."""
    return content_key(sample=entry.identity, system=identity_of(system, entry), rounding=rounding)


def _measure_truth(work: Work, entry: Entry) -> None:
    """Features of the drawn clip, which all systems are compared with, and how much of it is occluded."""
    key = truth_key(entry)
    numbers = read_numbers(work.out, key)
    missing = [spec for spec in work.measurer.specs if spec.is_distance and work.measurer.key(spec) not in numbers]
    lacks_occlusion = "occlusion" in work.job.strata and "occlusion" not in numbers
    if not missing and not lacks_occlusion:
        return
    sample = entry.load()
    for spec in missing:
        numbers[work.measurer.key(spec)] = work.measurer.features(spec, sample, sample.truth)
    if lacks_occlusion:
        numbers["occlusion"] = occlusion(sample)
    write_numbers(work.out, key, {"system": TRUTH, "clip": entry.key}, numbers)


def _measure_clip(work: Work, system: System, entry: Entry) -> None:
    """Makes the clip unless its frames are there, and measures what is not measured yet."""
    key = pair_key(system, entry, rounding=work.job.rounding)
    numbers = read_numbers(work.out, key)
    missing = [spec for spec in work.measurer.specs if work.measurer.key(spec) not in numbers]
    folder = frames_folder(work.out, system.name, entry.key)
    is_kept = work.job.keep_frames and not isinstance(system, FolderSystem)     # those are kept where they are
    lacks_frames = (is_kept or entry.key in work.shown) and not has_frames(folder, key)
    if not missing and not lacks_frames:
        return
    sample = entry.load()
    made = _made(work, system, sample, folder, key)
    if lacks_frames:
        write_frames(folder, key, made)
    for spec in missing:
        numbers[work.measurer.key(spec)] = work.measurer.measure(spec, sample, made)
    if missing:
        work.num_measured += 1
        about: dict[str, Json] = {"system": dict(identity_of(system, entry)), "clip": entry.key, "sample": entry.identity,
                                  "rounded": work.job.rounding}
        write_numbers(work.out, key, about, numbers)


def _made(work: Work, system: System, sample: EvalSample, folder: Path, key: str) -> Tensor:
    """The frames to measure: those on disk where 8 bits are what is measured, else made now."""
    if work.job.rounding and has_frames(folder, key):
        return read_frames(folder)
    made = system.make(sample).float().cpu()
    if made.shape != sample.truth.shape:
        raise UserError(f"{system.name} made {list(made.shape)} of clip {sample.key}", f"wanted is {list(sample.truth.shape)}",
                        "Leave the system out, or correct it")
    made = made.clamp(0, 1)             # non-finite values stay and are refused by the metrics
    return rounded(made) if work.job.rounding else made


def _report(work: Work, num_measured: int) -> None:
    """Rank 0: everything is on disk now, also what the other ranks measured."""
    measured = gather(work)
    strata = _strata(work)
    job = work.job
    tables = make_tables(measured, strata, find_published(job.published), replicates=job.replicates, confidence=job.confidence,
                         seed=job.seed)
    shown = [entry for entry in work.entries if entry.key in work.shown]
    files = write_report(work.out, job, tables, work.systems, shown, random_systems(work.systems))
    _track(job, work.out, tables)
    done = f"measured {num_measured} times a clip of a system" if num_measured else "everything was measured already"
    work.console.print(f"{done}; {work.out}: {', '.join(files)}", highlight=False, soft_wrap=True)


def random_systems(systems: Sequence[System]) -> list[str]:
    """Names of systems whose networks have random weights: their rows say so."""
    return [system.name for system in systems if isinstance(system, Drawn) and system.is_random]


def gather(work: Work) -> Measurements:
    """All numbers from disk, in the order of the clips."""
    measured = Measurements()
    specs: list[MetricSpec] = work.measurer.specs
    for system in work.systems:
        records = [read_numbers(work.out, pair_key(system, entry, rounding=work.job.rounding)) for entry in work.entries]
        measured.numbers[system.name] = {spec: [found[work.measurer.key(spec)] for found in records] for spec in specs}
    for spec in specs:
        if spec.is_distance:
            measured.truth[spec] = [read_numbers(work.out, truth_key(entry))[work.measurer.key(spec)] for entry in work.entries]
    return measured


def _strata(work: Work) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in work.job.strata:
        if name == "occlusion":
            found[name] = thirds([read_numbers(work.out, truth_key(entry)).get("occlusion") for entry in work.entries])
        elif name in THIRDS:
            found[name] = thirds([entry.amounts.get(name) for entry in work.entries])
        else:
            found[name] = [entry.strata.get(name, "unknown") for entry in work.entries]
    return found


def _track(job: EvaluateJob, out: Path, tables: Sequence[Table]) -> None:
    config = to_plain(job)
    assert isinstance(config, dict)
    tracker = Tracker(out, mode=job.tracker.mode.value, project=job.tracker.project, group=job.tracker.group, job_type="evaluate",
                      config=config)
    for table in tables:
        columns = ["system", "source", *(part for column in table.columns for part in (column.name, f"{column.name} low",
                                                                                      f"{column.name} high"))]
        rows: list[list[bool | int | float | str | None]] = []
        for row in table.rows:
            cells = [row.cells.get(column.name) for column in table.columns]
            rows.append([row.system, row.source, *(part for cell in cells for part in
                                                   ((cell.value, cell.low, cell.high) if cell else (None, None, None)))])
        tracker.log_table(f"evaluation/{table.title}".replace(" ", "_"), columns, rows)
    tracker.finish()
