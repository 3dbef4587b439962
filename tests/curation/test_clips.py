"""Promise: clips cover shots without exceeding the limit, carry exact times and every score that needs no picture."""

from __future__ import annotations

from dataclasses import fields, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from drawn_films import acted, blended, defaults, still, survey_file, write_film
from ledger_rows import PROBE, make_record

from curation.clips import Film, Propose, propose_clips
from curation.config import ClipsConfig
from curation.gates.duration import Duration
from curation.gates.quality import LookQuality, Quality
from curation.ledger import Clip, SourceRecord, Status
from curation.motion import PairMotion
from curation.shots import Shot
from curation.signals import FrameSignals, Thumbs
from curation.survey import Look, SurveyData


def make_survey(pts: np.ndarray, *, end_pts: int, damaged: tuple[int, ...] = ()) -> SurveyData:
    """A survey of frames at `pts` milliseconds in which nothing moves, with a look at every 24th frame."""
    count = len(pts)
    names = [spec.name for kind in (FrameSignals, PairMotion) for spec in fields(kind) if spec.name != "thumb"]
    is_damaged = np.zeros(count, bool)
    is_damaged[list(damaged)] = True
    rng = np.random.default_rng(0)
    thumbs = Thumbs(*(rng.integers(0, 255, (count, *size)).astype(np.uint8) for size in ((18, 32), (9, 16), (9, 16))))
    looks = [Look(index, int(pts[index]), LookQuality(1.0 + index / 1000, 0.5, 0.0, 100.0, 50.0))
             for index in range(0, count, 24)]
    return SurveyData(
        probe=replace(PROBE, time_base=Fraction(1, 1000)), pts=pts.astype(np.int64), end_pts=end_pts, is_damaged=is_damaged,
        signals={name: np.zeros(count, np.float32) for name in names}, thumbs=thumbs, looks=looks,
        content_box=(0, 20, 640, 320), interlaced=0.0, decode_errors=0, pts_repaired=False)


def clips_of(survey: SurveyData, shots: list[tuple[int, int]], *, max_s: float = 10.0, hold: int = 2) -> list[Clip]:
    film = Film(survey, np.arange(survey.num_frames) % hold == 0,
                [Shot(index, start, end, "cut") for index, (start, end) in enumerate(shots)])
    return propose_clips(film, make_record(num_frames=survey.num_frames), ClipsConfig(max_s=max_s, trim_frames=0))


def constant(seconds: float, fps: int = 24, first: int = 0) -> SurveyData:
    pts = first + np.arange(round(seconds * fps)) * 1000 // fps
    return make_survey(pts, end_pts=first + round(seconds * 1000))


def test_shot_within_the_limit_is_one_clip_with_exact_times() -> None:
    survey = constant(8, first=40)
    [first, second] = clips_of(survey, [(0, 48), (60, 192)])
    assert [(clip.start_frame, clip.end_frame, clip.shot_index, clip.clip_index) for clip in (first, second)] == [
        (0, 48, 0, 0), (60, 192, 1, 1)]
    assert (first.start_pts, first.end_pts) == (40, 40 + 2000)       # ends where frame 48 begins
    assert (second.start_pts, second.end_pts) == (40 + 2500, 40 + 8000)      # and where the film ends
    assert first.fps == pytest.approx(24.0)
    assert first.key != second.key and "." not in first.key + second.key


@pytest.mark.parametrize(("seconds", "max_s", "parts"), [(9.9, 10, 1), (10, 10, 1), (10.5, 10, 2), (25, 10, 3), (7, 2, 4)])
def test_long_shot_is_divided_evenly(seconds: float, max_s: float, parts: int) -> None:
    survey = constant(seconds)
    clips = clips_of(survey, [(0, survey.num_frames)], max_s=max_s)
    assert len(clips) == parts
    assert [clip.end_frame for clip in clips[:-1]] == [clip.start_frame for clip in clips[1:]]
    assert (clips[0].start_frame, clips[-1].end_frame) == (0, survey.num_frames)
    lengths = [clip.end_s - clip.start_s for clip in clips]
    assert max(lengths) <= max_s + 1 / 24                            # borders lie between frames
    assert max(lengths) - min(lengths) <= 2 / 24
    assert all(one.end_pts == other.start_pts for one, other in pairwise(clips))


def test_variable_frame_rate_is_divided_by_time_and_not_by_frames() -> None:
    """12 seconds: half of the frames lie in the first two."""
    pts = np.concatenate([np.arange(50) * 40, 2000 + np.arange(50) * 200])
    first, second = clips_of(make_survey(pts, end_pts=12_000), [(0, 100)], max_s=10)
    assert abs(first.end_s - 6.0) <= 0.2
    assert first.num_frames == 70 and second.num_frames == 30


def test_frame_longer_than_the_limit_is_a_clip_and_never_an_empty_one() -> None:
    pts = np.array([0, 40, 80, 60_000, 60_040])
    clips = clips_of(make_survey(pts, end_pts=60_080), [(0, 5)], max_s=10)
    assert sum(clip.num_frames for clip in clips) == 5
    assert all(clip.num_frames > 0 for clip in clips)


def test_clip_carries_holds_that_sum_to_its_frames_and_their_cadence() -> None:
    for clip in clips_of(constant(25), [(1, 250), (251, 600)]):
        assert sum(clip.holds) == clip.num_frames
        assert clip.cadence == "twos"


def test_scores_that_need_no_picture_are_there() -> None:
    survey = replace(constant(8), is_damaged=make_survey(np.arange(192), end_pts=192, damaged=(70, 71)).is_damaged)
    first, second = clips_of(survey, [(0, 48), (60, 192)])
    assert set(first.scores) == {"duration", "quality", "motion"}
    assert first.scores["duration"] == Duration(48, 2.0, 24, 0)
    assert second.scores["duration"] == Duration(132, 5.5, 66, 2)
    quality = second.scores["quality"]
    assert isinstance(quality, Quality)
    assert quality.side_px == 320                                    # of 640x320 without bars, pixels 4 by 3
    assert quality.aspect == pytest.approx(640 * 4 / 3 / 320)
    assert quality.blocking == pytest.approx(1.120)                  # median of the looks at 72, 96, 120, 144, 168


def test_clip_without_a_look_is_not_called_bad() -> None:
    [clip] = clips_of(constant(2), [(1, 20)])
    assert isinstance(clip.scores["quality"], Quality)
    assert (clip.scores["quality"].blocking, clip.scores["quality"].sharpness) == (1.0, 1.0)


def test_fingerprint_has_a_hash_for_each_quarter_of_a_second() -> None:
    first, second = clips_of(constant(8), [(0, 48), (60, 192)])
    assert (len(first.fingerprint), len(second.fingerprint)) == (8, 22)


def propose(record: SourceRecord, store: Path, *, measure_all: bool = False) -> tuple[SourceRecord, list[Clip]]:
    job = defaults()
    stage = Propose(job.curation.shots, job.curation.clips, job.gates, job.curation.split, str(store), measure_all=measure_all)
    stage.setup()
    [[found, *clips]] = stage([record])
    assert isinstance(found, SourceRecord) and all(isinstance(clip, Clip) for clip in clips)
    return found, clips                                              # type: ignore[return-value]


def test_surveyed_film_becomes_its_record_and_its_clips_with_early_verdicts(tmp_path: Path) -> None:
    record, _ = survey_file(write_film(tmp_path / "Tiny Film s01e02.mkv", acted(1, 48) + still(2, 48) + acted(3, 10)))
    found, clips = propose(record, tmp_path / "store")
    assert found == replace(record, title="tiny film", num_shots=3)
    assert [(clip.start_frame, clip.end_frame) for clip in clips] == [(0, 48), (48, 96), (96, 106)]
    assert {(clip.source, clip.sha256, clip.title, clip.survey_key) for clip in clips} == {
        (record.name, record.sha256, "tiny film", record.survey_key)}
    # 108 lines are too few for the quality gate, and 10 frames for the duration gate, which comes first.
    assert [clip.verdict.gate if clip.verdict else "" for clip in clips] == ["quality", "duration", "duration"]


def test_verdict_stays_open_where_everything_is_to_be_measured(tmp_path: Path) -> None:
    record, _ = survey_file(write_film(tmp_path / "film.mkv", acted(1, 48)))
    assert [clip.verdict for clip in propose(record, tmp_path / "store", measure_all=True)[1]] == [None]


def test_frames_of_a_transition_are_in_no_clip(tmp_path: Path) -> None:
    record, _ = survey_file(write_film(tmp_path / "film.mkv", blended(acted(1, 48), acted(2, 48), 16)))
    _, (before, after) = propose(record, tmp_path / "store")
    trim = defaults().curation.clips.trim_frames
    assert before.end_frame <= 32 - trim + 2 and after.start_frame >= 48 + trim - 2


def test_source_that_could_not_be_surveyed_passes_with_its_title(tmp_path: Path) -> None:
    broken = SourceRecord("Blue Bird s01e01.mkv", Status.QUARANTINED, error="the file is empty (0 bytes)")
    assert propose(broken, tmp_path) == (replace(broken, title="blue bird"), [])


def test_failure_becomes_a_quarantined_record(tmp_path: Path) -> None:
    job = defaults()
    stage = Propose(job.curation.shots, job.curation.clips, job.gates, job.curation.split, str(tmp_path), measure_all=False)
    failed = stage.failed(make_record(), "ValueError: no such column")
    assert (failed.status, failed.error) == (Status.QUARANTINED, "ValueError: no such column")
