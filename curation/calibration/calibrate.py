"""Calibration: decisions on an archive held against the labels of people who looked at its films.

Surveys what is labelled (or takes it from the store), decides with the job's configuration, and writes
<out>/calibration.json and calibration.html: agreement per film and overall, curves over thresholds, suggested limits, and
with `stock` the usual tools on the same films.

    python -m curation.calibration OUT/config.yaml --truth LABELS [--stock]
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from curation.archives import not_a_film
from curation.calibration.agreement import Agreement
from curation.calibration.curves import CURVES, Curves, curve_rows, cut_frames, measure_curves, spans, suggest
from curation.calibration.films import FilmAgreement, Found, Mistake, compare
from curation.calibration.page import print_calibration, write_page
from curation.calibration.stock import MeasureStock, StockRecord
from curation.calibration.stock_agreement import StockAgreement, compare_stock
from curation.calibration.truth import Truth, read_truths
from curation.clips import Film, Propose, understand
from curation.config import CurateJob
from curation.executor import Executor, Timing
from curation.gates.text_area import MeasureTextArea
from curation.graduals import find_graduals
from curation.ledger import Clip, Source, SourceRecord, Status
from curation.progress import Progress
from curation.sample_archive import draw_archive
from curation.sources import Entry, Identify, walk
from curation.survey import Survey, load_survey
from pipeline.errors import EXIT_OK, EXIT_STOPPED, EXIT_USER, UserError, disk_is_full
from pipeline.records import write_json
from pipeline.store import Store

CALIBRATION_SCHEMA = 1
SPOOL = "spool-calibrate"        # not the one of a curation, which empties its own when it is done


@dataclass(frozen=True, slots=True)
class JudgedFilm:
    """One labelled film with all that is known about it."""

    truth: Truth
    film: Film
    clips: list[Clip]
    agreement: FilmAgreement
    curves: Curves
    note: str


def calibrate(job: CurateJob, truth: Path, *, stock: bool = False) -> dict[str, Any]:
    """Compares an archive with labels and returns the content of calibration.json; UserError for what the user can mend."""
    truths = {label.file: label for label in read_truths(truth)}
    out = Path(job.out)
    store = Store(Path(job.store) if job.store else out / "artifacts")
    archive = job.archive or _sample(job)
    entries, unlabelled = _with_labels(walk(archive, job.curation.sources), truths)
    spool = store.root / SPOOL
    with Executor(job.curation.executor, job.curation.workers, job.ray) as executor, Progress(len(entries)) as progress:
        progress.stage("identify", len(entries))
        rows = _collect(executor, progress, [Identify(job.curation.sources, str(spool))], entries)
        sources, refused = _labelled(rows, truths)
        if not sources:
            raise UserError(f"truth={truth} labels no film of archive={archive}",
                            f"the labels are of {', '.join(sorted(truths)[:3])}", 'Make "file" the name of a source')
        by_sha = {source.sha256: source for source in sources.values()}
        progress.stage("survey", len(by_sha))
        rows = _collect(executor, progress, _stages(job, store), list(by_sha.values()))
        stock_rows: list[StockRecord] = []
        if stock:
            progress.stage("stock", len(by_sha))
            stage = MeasureStock(job.curation.sources, str(store.root))
            stock_rows = _collect(executor, progress, [stage], list(by_sha.values()))
    shutil.rmtree(spool, ignore_errors=True)
    films, unreadable = _judge(job, store, truths, sources, rows)
    unreadable |= {row.name: row.error for row in refused if isinstance(row, SourceRecord) and row.name in truths}
    result = {
        "schema": CALIBRATION_SCHEMA, **_summary(films), "limits": _limits(job), "unreadable": unreadable,
        "without_truth": sorted([*unlabelled, *(row.name for row in refused if isinstance(row, Source))]),
        "truth_without_film": sorted(set(truths) - set(sources) - set(unreadable)),
    }
    if stock:
        result["stock"] = _stock(films, sources, stock_rows)
    write_json(out / "calibration.json", result, indent=1)
    write_page(out / "calibration.html", result, title=job.archive or "sample archive")
    return result


def judge_film(truth: Truth, film: Film, clips: Sequence[Clip], job: CurateJob) -> JudgedFilm:
    """Everything about one film and its label."""
    survey, config = film.survey, job.curation
    cuts = cut_frames(film.shots)
    graduals = spans(find_graduals(survey.thumbs, config.shots.graduals))
    found = Found(survey.num_frames, cuts, graduals, film.new, survey.is_damaged, clips)
    agreement = compare(truth, found, job.gates.text_area.max)
    curves = measure_curves(truth, film, clips, config.shots, config.clips.trim_frames)
    note = ""
    if truth.frames not in (None, survey.num_frames):
        note = f"{survey.num_frames} frames were decoded, the label speaks of {truth.frames}"
    return JudgedFilm(truth, film, list(clips), agreement, curves, note)


def _stages(job: CurateJob, store: Store) -> list[Any]:
    config, root = job.curation, str(store.root)
    stages: list[Any] = [Survey(config.survey, config.sources, root),
                         Propose(config.shots, config.clips, job.gates, config.split, root, measure_all=True)]
    return [*stages, MeasureTextArea(root, measure_all=True)] if job.gates.text_area.enabled else stages


def _collect(executor: Executor, progress: Progress, stages: Sequence[Any], rows: Sequence[Any]) -> list[Any]:
    found = []
    for row in executor.run(stages, rows):
        progress.add(row)
        if not isinstance(row, Timing):
            found.append(row)
    return found


def _with_labels(entries: Sequence[Entry], truths: dict[str, Truth]) -> tuple[list[Entry], list[str]]:
    """Entries that a label may speak of, and the names of other films: nothing of those is read."""
    packs = {name.partition("!/")[0] for name in truths if "!/" in name}
    wanted = [entry for entry in entries if entry.name in packs or label_of(entry.name, truths)]
    names = {entry.name for entry in wanted}
    others = [entry.name for entry in entries if entry.name not in names and not entry.refused and not not_a_film(entry.name)]
    return wanted, others


def _labelled(rows: Iterable[Any], truths: dict[str, Truth]) -> tuple[dict[str, Source], list[Source | SourceRecord]]:
    """Sources by the name of their label, and what is no film or has no label."""
    sources: dict[str, Source] = {}
    others: list[Source | SourceRecord] = []
    for row in sorted(rows, key=lambda row: row.name):
        name = label_of(row.name, truths)
        if isinstance(row, Source) and name is not None:
            sources[name] = row
        else:
            others.append(row)
    return sources, others


def label_of(name: str, truths: Iterable[str]) -> str | None:
    """The label that belongs to a source: of its name, or of the folder of its pictures."""
    known = set(truths)
    folder = name.rpartition("/")[0] if "*" in name.rpartition("/")[2] else ""
    return name if name in known else folder if folder in known else None


def _judge(job: CurateJob, store: Store, truths: dict[str, Truth], sources: dict[str, Source], rows: Sequence[Any]
           ) -> tuple[dict[str, JudgedFilm], dict[str, str]]:
    """Judged films by name, and why others could not be read."""
    records = {row.sha256: row for row in rows if isinstance(row, SourceRecord)}
    clips = sorted((row for row in rows if isinstance(row, Clip)), key=lambda clip: clip.start_frame)
    films: dict[str, JudgedFilm] = {}
    unreadable: dict[str, str] = {}
    config = job.curation
    for name, source in sorted(sources.items()):
        record = records[source.sha256]
        if record.status is not Status.OK:
            unreadable[name] = record.error
            continue
        film = understand(load_survey(store, record.survey_key), config.shots, config.clips.trim_frames)
        films[name] = judge_film(truths[name], film, [clip for clip in clips if clip.sha256 == source.sha256], job)
    return films, unreadable


def _summary(films: dict[str, JudgedFilm]) -> dict[str, Any]:
    overall, curves = FilmAgreement(), Curves()
    for film in films.values():
        overall, curves = overall + film.agreement, curves + film.curves
    named = {name: curve for name, curve in curves.by_name.items() if name in CURVES}
    return {
        "overall": agreement_rows(overall),
        "films": {name: {**agreement_rows(film.agreement), "frames": film.film.survey.num_frames, "note": film.note,
                         "open_cuts": list(film.agreement.open_cuts),
                         "mistakes": [mistake_row(mistake) for mistake in film.agreement.mistakes]}
                  for name, film in films.items()},
        "curves": {name: curve_rows(curve) for name, curve in named.items()},
        "suggested": {CURVES[name][0]: suggest(named[name]) for name in ("cuts_1", "gradual", "text") if name in named},
    }


def agreement_rows(agreement: FilmAgreement) -> dict[str, Any]:
    """Agreement as plain data; holds, cadence and camera only where something was labelled."""
    rows: dict[str, Any] = {"cuts": {str(tolerance): _counts(counts) for tolerance, counts in agreement.cuts.items()},
                            "gradual": _counts(agreement.gradual), "static": _judged(agreement.static),
                            "text": _judged(agreement.text)}
    for name in ("camera", "camera_moves"):
        counts = getattr(agreement, name)
        if counts.num_judged:
            rows[name] = _judged(counts)
    for name in ("holds", "cadence"):
        counts = getattr(agreement, name)
        if counts.num_judged:
            rows[name] = {"accuracy": round(counts.accuracy, 6), "judged": counts.num_judged,
                          "wrong": counts.false_positives + counts.false_negatives}
    return rows


def mistake_row(mistake: Mistake) -> dict[str, Any]:
    return asdict(mistake)


def _counts(counts: Agreement) -> dict[str, Any]:
    return {"precision": round(counts.precision, 6), "recall": round(counts.recall, 6), "f1": round(counts.f1, 6),
            "true_positives": counts.true_positives, "false_positives": counts.false_positives,
            "false_negatives": counts.false_negatives}


def _judged(counts: Agreement) -> dict[str, Any]:
    return {**_counts(counts), "true_negatives": counts.true_negatives, "accuracy": round(counts.accuracy, 6)}


def _stock(films: dict[str, JudgedFilm], sources: dict[str, Source], rows: Sequence[StockRecord]) -> dict[str, Any]:
    """Stock tools and ours over the films that the stock tools could read."""
    by_sha = {row.sha256: row for row in rows}
    total, ours, left_out = StockAgreement(), FilmAgreement(), {}
    for name, film in films.items():
        row = by_sha[sources[name].sha256]
        if row.error:
            left_out[name] = row.error
            continue
        ours += film.agreement
        total += compare_stock(film.truth, row, film.film.survey)
    return {"cuts": {name: {str(tolerance): _counts(counts) for tolerance, counts in cuts.items()}
                     for name, cuts in (*total.cuts.items(), ("ours", ours.cuts))},
            "static": {"even_stride_2fps": _judged(total.static), "ours": _judged(ours.static)}, "left_out": left_out}


def _limits(job: CurateJob) -> dict[str, float]:
    """The limits in force of the options that curves are about."""
    return {"curation.shots.cut": job.curation.shots.cut, "gates.text_area.max": job.gates.text_area.max,
            "curation.shots.graduals.min_score": job.curation.shots.graduals.min_score}


def _sample(job: CurateJob) -> str:
    sample = job.curation.sample_archive
    return str(draw_archive(Path(sample.path), seed=sample.seed, size=sample.size))


def main(arguments: list[str]) -> int:
    """Runs a frozen calibration; `python -m pipeline calibrate` is how people start one."""
    parser = argparse.ArgumentParser(prog="python -m curation.calibration")
    parser.add_argument("config", type=Path, help="config.yaml of a run")
    parser.add_argument("--truth", type=Path, help="folder of labels; none: those of the sample archive")
    parser.add_argument("--stock", action="store_true", help="also run the usual tools, at the price of three more decodes")
    options = parser.parse_args(arguments)
    try:
        from pipeline.config import thaw

        job = thaw(options.config)
        if options.truth is None and job.archive is not None:
            raise UserError("truth is missing", fix="Give a folder of labels with --truth")
        truth = options.truth or Path(_sample(job)).parent / "truth"
        print_calibration(calibrate(job, truth, stock=options.stock), Path(job.out))
    except UserError as error:
        sys.stderr.write(f"toonforge: error: {error}\n")
        return EXIT_USER
    except OSError as error:
        if not disk_is_full(error):
            raise
        sys.stderr.write("toonforge: error: the disk is full. Free some space and give the same command again.\n")
        return EXIT_USER
    except KeyboardInterrupt:
        sys.stderr.write("toonforge: stopped; the same command continues.\n")
        return EXIT_STOPPED
    return EXIT_OK
