"""Clips: the spans of a film that could be trained on, with every score that needs no picture.

Holds, shots and transitions are decided here from a survey's signals, again in every run: changing a limit costs
milliseconds and no decode.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from curation.config import ClipsConfig, GatesConfig, ShotsConfig, SplitConfig
from curation.gates import duplicates, duration, motion, quality
from curation.holds import cadence, frame_ticks, hold_lengths, hold_times, new_drawings
from curation.ledger import Clip, Score, SourceRecord, Status
from curation.shots import Shot, find_shots
from curation.split import title_of
from curation.stage import Resources
from curation.survey import SurveyData, load_survey
from curation.verdicts import judge
from pipeline.store import Store


@dataclass(frozen=True, slots=True)
class Film:
    """A survey with what is decided from it."""

    survey: SurveyData
    new: NDArray[np.bool_]
    shots: list[Shot]


class Propose:
    """Stage: a surveyed source becomes its record and its clips, judged by the gates that need no picture."""

    name = "propose"
    version = 1
    takes = SourceRecord
    batch_size = 1
    resources = Resources(cpus=1.0, memory_gb=0.5)

    def __init__(self, shots: ShotsConfig, clips: ClipsConfig, gates: GatesConfig, split: SplitConfig, store_root: str, *,
                 measure_all: bool) -> None:
        self.shots, self.clips, self.gates, self.split = shots, clips, gates, split
        self.store_root, self.measure_all = store_root, measure_all

    def setup(self) -> None:
        """No models."""

    def __call__(self, rows: list[SourceRecord]) -> list[list[SourceRecord | Clip]]:
        return [self.propose(row) for row in rows]

    def failed(self, row: SourceRecord, error: str) -> SourceRecord:
        return replace(row, status=Status.QUARANTINED, error=error)

    def propose(self, record: SourceRecord) -> list[SourceRecord | Clip]:
        record = replace(record, title=title_of(record.name, self.split.title_pattern))
        if record.status is not Status.OK:
            return [record]
        film = understand(load_survey(Store(Path(self.store_root)), record.survey_key), self.shots, self.clips.trim_frames)
        clips = propose_clips(film, record, self.clips)
        if not self.measure_all:
            clips = [replace(clip, verdict=judge(clip, self.gates)) for clip in clips]
        return [replace(record, num_shots=len(film.shots)), *clips]


def understand(survey: SurveyData, config: ShotsConfig, trim_frames: int) -> Film:
    """Decides holds and shots of a surveyed film."""
    new = new_drawings(survey.signals["change_peak"], survey.is_damaged)
    return Film(survey, new, find_shots(survey.thumbs, survey.signals, new, config, trim_frames))


def propose_clips(film: Film, record: SourceRecord, config: ClipsConfig) -> list[Clip]:
    """The clips of a film in order: shots, longer ones divided evenly so that none exceeds `config.max_s`."""
    survey = film.survey
    probe = survey.probe
    ends = np.append(survey.pts[1:], survey.end_pts)
    ticks = frame_ticks(survey.pts, survey.end_pts, 1 / float(probe.time_base))
    clips: list[Clip] = []
    for shot in film.shots:
        for start, end in _divided(shot, survey, ends, config.max_s):
            seconds = float((int(ends[end - 1]) - int(survey.pts[start])) * probe.time_base)
            holds = hold_lengths(film.new[start:end])
            times = hold_times(film.new[start:end], survey.pts[start:end], int(ends[end - 1]), ticks)
            changes = motion.find_changes(survey.signals, film.new, start, end, max(seconds, 1e-9))
            looks = [look.quality for look in survey.looks if start <= look.frame_index < end]
            scores: dict[str, Score] = {
                duration.GATE: duration.Duration(end - start, seconds, len(holds), int(survey.is_damaged[start:end].sum())),
                quality.GATE: quality.summarise(looks, survey.content_box[2], survey.content_box[3], probe.sample_aspect),
                motion.GATE: motion.measure_motion(survey.signals, film.new, start, end, max(seconds, 1e-9)),
            }
            clips.append(Clip(
                source=record.name, sha256=record.sha256, title=record.title, shot_index=shot.index, clip_index=len(clips),
                start_frame=start, end_frame=end, start_pts=int(survey.pts[start]), end_pts=int(ends[end - 1]),
                time_base=probe.time_base, fps=(end - start) / max(seconds, 1e-9), holds=holds,
                cadence=_cadence(times, changes),
                survey_key=record.survey_key, crop=survey.content_box, scores=scores,
                fingerprint=_fingerprint(film, start, end)))
    return clips


def _cadence(times: tuple[int, ...], changes: motion.Changes) -> str:
    """The cadence of the pictures, but "mixed" where the camera moves on ones over drawings on twos or threes."""
    whole = cadence(times)
    if not changes.camera_moves or whole != "ones":
        return whole
    drawn = cadence(hold_lengths(np.concatenate([[True], changes.drawn])))
    return "ones" if drawn in ("ones", "hold") else "mixed"


def _divided(shot: Shot, survey: SurveyData, ends: NDArray[np.int64], max_s: float) -> list[tuple[int, int]]:
    """Frame spans of equal time within a shot, each at most `max_s` long as far as its frames allow."""
    first, last = int(survey.pts[shot.start]), int(ends[shot.end - 1])
    parts = max(1, math.ceil(float((last - first) * survey.probe.time_base) / max_s - 1e-6))
    borders = [first + (last - first) * part // parts for part in range(1, parts)]
    cuts = [shot.start, *(shot.start + int(np.searchsorted(survey.pts[shot.start:shot.end], border)) for border in borders),
            shot.end]
    return [(start, end) for start, end in pairwise(cuts) if end > start]


def _fingerprint(film: Film, start: int, end: int) -> tuple[int, ...]:
    survey = film.survey
    drawings = np.union1d([start], start + np.flatnonzero(film.new[start:end]))
    times = [float(int(pts) * survey.probe.time_base) for pts in survey.pts[drawings]]
    end_s = float((int(survey.pts[end]) if end < survey.num_frames else survey.end_pts) * survey.probe.time_base)
    return duplicates.fingerprint(survey.thumbs.luma[drawings], times, end_s)
