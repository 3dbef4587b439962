"""Fits the cut model of curation/shots.py to labelled films, and says how it does on films it was not fitted to.

    python -m benchmarks.fit_cuts --store STORE --films ARCHIVE LABELS [--films ARCHIVE LABELS ...]

A logistic regression over CutScores.features(), one row per drawing. Within a labelled transition or ambiguous range nothing is
a cut, so those drawings are examples too. Left out are drawings beside a cut or an end of such a range, where labels are a frame
or two vague, and those whose picture comes back, which no probability decides. Cuts are one drawing in a hundred, so each counts
POSITIVE_WEIGHT times, and the weights are held small by a ridge. A group is left out at a time: a drawn archive is one group;
other films are grouped by title, so that another encode of a film never helps to judge it, or with --by series by the first word
of it, which is harder: then no other part of the same cartoon helps either.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.calibration.agreement import Agreement
from curation.calibration.calibrate import label_of
from curation.calibration.truth import Truth, read_truths
from curation.clips import understand
from curation.config import CurateJob
from curation.executor import Executor
from curation.ledger import Source, SourceRecord, Status
from curation.shots import cut_scores
from curation.sources import Identify, walk
from curation.split import title_of
from curation.survey import Survey, load_survey
from pipeline.config import load
from pipeline.store import Store

POSITIVE_WEIGHT = 20.0
RIDGE = 0.001                # times the number of drawings; chosen here: widest gap between cuts and others
NEWTON_STEPS = 60
BESIDE_FRAMES = 3            # drawings so near to a labelled cut are neither cut nor no cut
EDGE_FRAMES = 1              # and so near to an end of a labelled range
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rows:
    """Drawings of labelled films: features [n, k], whether each is a cut [n], its group [n], and where it is [n]."""

    features: Floats
    is_cut: NDArray[np.bool_]
    group: NDArray[np.str_]
    is_drawn: NDArray[np.bool_]        # from an archive of curation.sample_archive
    place: list[tuple[str, int]]       # source and frame


@dataclass(frozen=True, slots=True)
class Model:
    bias: float
    weights: Floats                    # [k], for features as they are

    def probability(self, features: Floats) -> Floats:
        return 1.0 / (1.0 + np.exp(-np.clip(self.bias + features @ self.weights, -30.0, 30.0)))


def collect(archives: Sequence[tuple[str, Path]], job: CurateJob, store: Store, by: str) -> Rows:
    """Surveys labelled films, or takes their surveys from the store, and returns their drawings."""
    features, is_cut, groups, drawn, place = [], [], [], [], []
    with Executor(job.curation.executor, job.curation.workers, job.ray) as executor:
        for archive, labels in archives:
            truths = {truth.file: truth for truth in read_truths(labels)}
            entries = walk(archive, job.curation.sources)
            identify: list[Any] = [Identify(job.curation.sources, str(store.root / "spool-fit"))]
            survey_all: list[Any] = [Survey(job.curation.survey, job.curation.sources, str(store.root))]
            sources = [row for row in executor.run(identify, entries) if isinstance(row, Source) and label_of(row.name, truths)]
            found = [row for row in executor.run(survey_all, sources) if isinstance(row, SourceRecord)]
            records = [record for record in found if record.status is Status.OK]
            for record in sorted(records, key=lambda record: record.name):
                truth = truths[label_of(record.name, truths) or ""]
                survey = load_survey(store, record.survey_key)
                film = understand(survey, job.curation.shots, job.curation.clips.trim_frames)
                scores = cut_scores(survey.thumbs, survey.signals, film.new)
                judged = [index for index, frame in enumerate(scores.frame)
                          if index and not scores.comes_back[index] and _is_judged(int(frame), truth)]
                frames = [int(scores.frame[index]) for index in judged]
                features.append(scores.features()[judged])
                is_cut += [frame in (truth.hard_cuts or ()) for frame in frames]
                groups += [group_of(archive, record.name, by)] * len(frames)
                drawn += [_is_drawn(archive)] * len(frames)
                place += [(record.name, frame) for frame in frames]
    return Rows(np.concatenate(features), np.asarray(is_cut, bool), np.asarray(groups),
                np.asarray(drawn, bool), place)


def group_of(archive: str, name: str, by: str) -> str:
    """A drawn archive shares its cast and places and is one group; other films: their title, or its first word."""
    if _is_drawn(archive):
        return Path(archive).resolve().parent.name
    title = title_of(name)
    return title if by == "title" else title.split()[0]


def fit(features: Floats, is_cut: NDArray[np.bool_]) -> Model:
    """Weighted ridge logistic regression by Newton's method, on standardised features."""
    mean, spread = features.mean(axis=0), features.std(axis=0) + 1e-9
    columns = np.column_stack([np.ones(len(features)), (features - mean) / spread])
    weight = np.where(is_cut, POSITIVE_WEIGHT, 1.0)
    ridge = RIDGE * len(features) * np.r_[0.0, np.ones(features.shape[1])]
    found = np.zeros(columns.shape[1])
    for _ in range(NEWTON_STEPS):
        said = 1.0 / (1.0 + np.exp(-np.clip(columns @ found, -30.0, 30.0)))
        slope = columns.T @ (weight * (said - is_cut)) + ridge * found
        curvature = (columns.T * (weight * said * (1.0 - said) + 1e-9)) @ columns + np.diag(ridge + 1e-6)
        step = np.linalg.solve(curvature, slope)
        found -= step
        if np.abs(step).max() < 1e-9:
            break
    weights = found[1:] / spread
    return Model(float(found[0] - mean @ weights), weights)


def left_out(rows: Rows) -> Floats:
    """Probability of every drawing by the model that was fitted without its group."""
    said = np.zeros(len(rows.is_cut))
    for group in np.unique(rows.group):
        held = rows.group == group
        said[held] = fit(rows.features[~held], rows.is_cut[~held]).probability(rows.features[held])
    return said


def agreement(said: Floats, is_cut: NDArray[np.bool_], threshold: float) -> Agreement:
    found = said >= threshold
    return Agreement(int((found & is_cut).sum()), int((found & ~is_cut).sum()), int((~found & is_cut).sum()))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fit_cuts")
    parser.add_argument("--films", nargs=2, action="append", required=True, metavar=("ARCHIVE", "LABELS"))
    parser.add_argument("--store", type=Path, required=True, help="folder of surveys, made where they are missing")
    parser.add_argument("--threshold", type=float, default=0.6, help="of the mistakes that are listed")
    parser.add_argument("--by", choices=("title", "series"), default="title", help="what is left out at a time")
    options = parser.parse_args(arguments)
    archives = [(archive, Path(labels)) for archive, labels in options.films]
    rows = collect(archives, load(["curation.executor=inline"]), Store(options.store), options.by)
    said = left_out(rows)
    print(f"{len(rows.is_cut)} drawings, {int(rows.is_cut.sum())} cuts; every group judged by a model fitted without it")
    for threshold in THRESHOLDS:
        print(f"  threshold {threshold:.1f}: {_line(agreement(said, rows.is_cut, threshold))}")
    print(f"  films that were not drawn, at {options.threshold:g}: "
          f"{_line(agreement(said[~rows.is_drawn], rows.is_cut[~rows.is_drawn], options.threshold))}")
    for group in np.unique(rows.group):
        held = rows.group == group
        print(f"  {group:<24} at {options.threshold:g}: {_line(agreement(said[held], rows.is_cut[held], options.threshold))}")
    for index in np.flatnonzero((said >= options.threshold) != rows.is_cut):
        print(f"  wrong: {rows.place[index][0]} frame {rows.place[index][1]}, {'cut' if rows.is_cut[index] else 'no cut'}, "
              f"probability {said[index]:.3f}")
    model = fit(rows.features, rows.is_cut)
    print(f"fitted to all: {_line(agreement(model.probability(rows.features), rows.is_cut, options.threshold))}")
    print(f"CUT_BIAS = {model.bias:.3f}")
    print(f"CUT_WEIGHTS = ({', '.join(f'{weight:.3f}' for weight in model.weights)})")
    return 0


def _is_drawn(archive: str) -> bool:
    return (Path(archive).resolve().parent / "archive.json").is_file()


def _is_judged(frame: int, truth: Truth) -> bool:
    edge = any(abs(frame - end) <= EDGE_FRAMES for span in truth.open_ranges for end in span)
    cuts = truth.hard_cuts or ()
    return frame in cuts or not (edge or any(abs(frame - cut) <= BESIDE_FRAMES for cut in cuts))


def _line(counts: Agreement) -> str:
    return (f"F1 {counts.f1:.3f}, precision {counts.precision:.3f}, recall {counts.recall:.3f} "
            f"({counts.true_positives} right, {counts.false_positives} false, {counts.false_negatives} missed)")


if __name__ == "__main__":
    sys.exit(main())
