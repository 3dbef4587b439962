"""What the curation decides about a film that a test drew: surveyed, understood, judged by the gates that need no reader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from curation.cartoonist.ink import Picture
from curation.cartoonist.reels import Coding, h264, write_video
from curation.clips import Film, propose_clips, understand
from curation.config import CurateJob
from curation.gates.motion import MotionKind
from curation.ledger import Access, Clip, Source, Status
from curation.survey import Survey, load_survey
from curation.verdicts import NAMES, judge
from pipeline.config import load
from pipeline.hashing import file_digest
from pipeline.store import Store

FPS = 24
MEASURED = ("duration", "quality", "motion")           # by propose_clips, from the survey's signals


@dataclass(frozen=True)
class Decided:
    film: Film
    clips: list[Clip]

    @property
    def cuts(self) -> list[int]:
        return [shot.start for shot in self.film.shots if shot.opened_by == "cut"]

    @property
    def kinds(self) -> list[MotionKind]:
        return [clip.scores["motion"].kind for clip in self.clips]  # type: ignore[attr-defined]

    @property
    def verdicts(self) -> list[tuple[bool, str]]:
        """Kept or not, and by which gate, for every clip in order."""
        return [(clip.verdict.keep, clip.verdict.gate) for clip in self.clips if clip.verdict is not None]


def small_job(*overrides: str) -> CurateJob:
    """Defaults without the gates that look at pictures or compare films, and with small pictures let through."""
    off = [f"gates.{name}.enabled=false" for name in NAMES if name not in MEASURED]
    return load([*off, "gates.quality.min_side_px=64", *overrides])


def decide_file(path: Path, store: Path, *overrides: str) -> Decided:
    job = small_job(*overrides)
    source = Source(path.name, file_digest(path), path.stat().st_size, Access(str(path)))
    survey = Survey(job.curation.survey, job.curation.sources, str(store))
    survey.setup()
    record = survey.survey(source)
    assert record.status is Status.OK, record.error
    film = understand(load_survey(Store(store), record.survey_key), job.curation.shots, job.curation.clips.trim_frames)
    clips = propose_clips(film, record, job.curation.clips)
    return Decided(film, [replace(clip, verdict=judge(clip, job.gates)) for clip in clips])


def decide_pictures(frames: Sequence[Picture], folder: Path, *overrides: str, name: str = "film.mkv", fps: int = FPS,
                    coding: Coding | None = None) -> Decided:
    """Writes pictures as a film, H.264 at CRF 16 unless told otherwise, and decides about it."""
    write_video(folder / name, frames, fps, coding or h264(16))
    return decide_file(folder / name, folder / "store", *overrides)
