"""The rows of a curation: sources, clips and verdicts; every source and every clip ends in one of these.

A row is plain data that pickles, so it travels through any executor. Heavy data (signals, pictures, encoded
clips) lies in the artifact store under a key that the row carries.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from fractions import Fraction
from typing import Any, ClassVar, Protocol

Box = tuple[float, float, float, float]          # left, top, right, bottom as shares of an upright picture, [0, 1]


class Status(StrEnum):
    OK = "ok"                    # usable; `SourceRecord.note` says what is unusual, if anything
    QUARANTINED = "quarantined"  # nothing could be used; `SourceRecord.error` says why
    DUPLICATE = "duplicate"      # the same bytes as another source, which stands for both


@dataclass(frozen=True, slots=True)
class Access:
    """How the bytes of a source are reached on this machine: a file, a window of a file, or a list of pictures."""

    path: str                          # the file; for pictures, their folder
    offset: int | None = None          # an uncompressed archive member lies at [offset, offset + length)
    length: int | None = None
    pictures: tuple[str, ...] = ()     # file names in `path`, in order


@dataclass(frozen=True, slots=True)
class Source:
    """One raw film: a file, an archive member, a folder of pictures or a download."""

    name: str                          # path inside the archive; members as "pack.zip!/folder/film.mp4"
    sha256: str                        # of its bytes; of names and bytes for pictures
    num_bytes: int
    access: Access


@dataclass(frozen=True, slots=True)
class Probe:
    """What the container and the codec say about a film, before its frames are looked at."""

    container: str
    codec: str
    pix_fmt: str
    bit_depth: int
    width: int                         # coded pixels, before rotation and sample aspect ratio
    height: int
    rotation_deg: int                  # clockwise turn that shows the picture upright: 0, 90, 180 or 270
    sample_aspect: Fraction            # width of a pixel over its height, 1 where unknown
    fps: float                         # average; 0 where unknown
    duration_s: float | None           # as announced; None where unknown
    time_base: Fraction                # seconds per PTS tick
    color_range: str                   # "tv" or "pc"
    has_audio: bool


@dataclass(frozen=True, slots=True)
class Overlays:
    """What lies over all of a film's pictures, in shares of the upright picture with its black bars."""

    logo: Box | None = None
    subtitles: tuple[float, float] | None = None     # top and bottom of the band in which they appear


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """One row of sources.parquet: a source with what became of it."""

    name: str
    status: Status
    error: str = ""                    # why nothing could be used
    note: str = ""                     # what is unusual about a usable source, e.g. "truncated: 80 of 144 frames"
    sha256: str = ""
    num_bytes: int = 0
    title: str = ""
    duplicate_of: str = ""
    probe: Probe | None = None
    num_frames: int = 0                # decoded
    decode_errors: int = 0
    survey_key: str = ""
    cpu_s: float = 0.0                 # of the survey; not part of any artifact
    num_shots: int = 0
    access: Access | None = None
    overlays: Overlays | None = None   # None: not looked for


class Score(Protocol):
    """A frozen dataclass of plain numbers and words: a measurement without an opinion."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Keep or drop, by one gate, with the reason as "gate: sentence"."""

    keep: bool
    gate: str
    reason: str = ""

    @classmethod
    def kept(cls, gate: str) -> Verdict:
        return cls(True, gate)

    @classmethod
    def drop(cls, gate: str, sentence: str) -> Verdict:
        return cls(False, gate, f"{gate}: {sentence}")


@dataclass(frozen=True, slots=True)
class Repeat:
    """How a clip's pictures come again elsewhere in the archive."""

    kind: str                          # "opening", "ending", "recap", "eyecatch", "bank"; "" of a copied film or of none
    level: str                         # "pictures": encoded again; "drawings": the same to the eye; "" where nothing repeats
    first: str                         # key of the clip that stands for all of them
    copies: int                        # clips that show this, itself included


@dataclass(frozen=True, slots=True)
class FrameCaption:
    """What a captioning model said about one frame of a clip."""

    text: str
    model: str                         # name and digest of its weights
    frame_index: int                   # within the clip
    prompt: str = ""


@dataclass(frozen=True, slots=True)
class Clip:
    """A span of one shot that could be trained on, with everything measured about it."""

    source: str
    sha256: str                        # of the source
    title: str
    shot_index: int                    # within the source
    clip_index: int                    # within the source
    start_frame: int                   # in decode order from the film's first frame
    end_frame: int                     # exclusive
    start_pts: int
    end_pts: int                       # exclusive: the PTS at which the last frame ends
    time_base: Fraction
    fps: float                         # average over the span
    holds: tuple[int, ...]             # frames each drawing stays, in order; sums to num_frames
    cadence: str
    survey_key: str
    crop: tuple[int, int, int, int]    # x, y, width, height in coded pixels, black bars removed
    scores: dict[str, Score] = field(default_factory=dict)       # by gate
    fingerprint: tuple[int, ...] = ()                            # 64-bit perceptual hashes along the clip
    caption: str = ""
    caption_model: str = ""
    verdict: Verdict | None = None
    split: str = ""
    text_boxes: tuple[tuple[Box, ...] | None, ...] = ()          # lines of text in first, middle, last look; None: not needed
    repeat: Repeat | None = None
    overlays: Overlays | None = None                             # of the source
    frame_captions: tuple[FrameCaption, ...] = ()                # of a captioning model; `caption` is made of them
    frames_key: str = ""                                         # artifact: first, middle and last picture
    embed_key: str = ""                                          # artifact: CLIP's vectors of some of these

    @property
    def is_dropped(self) -> bool:
        """Whether a gate has dropped it already; nothing expensive is measured then."""
        return self.verdict is not None and not self.verdict.keep

    @property
    def num_frames(self) -> int:
        return self.end_frame - self.start_frame

    @property
    def start_s(self) -> float:
        return float(self.start_pts * self.time_base)

    @property
    def end_s(self) -> float:
        return float(self.end_pts * self.time_base)

    @property
    def key(self) -> str:
        """Unique over all sources, free of dots, at most 40 characters: digest of the bytes plus the first frame."""
        return f"{self.sha256[:20]}-{self.start_frame:08d}"

    def with_score(self, gate: str, score: Score) -> Clip:
        return replace(self, scores={**self.scores, gate: score})


def flat_scores(clip: Clip) -> dict[str, float | int | str | bool | None]:
    """Scores as one level of columns, "<gate>_<field>", in the order they were measured."""
    columns: dict[str, float | int | str | bool | None] = {}
    for gate, score in clip.scores.items():
        for spec in fields(score):
            columns[f"{gate}_{spec.name}"] = getattr(score, spec.name)
    return columns
