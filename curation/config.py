"""Typed schemas of everything a curation can be told; conf/ holds the values and where each number comes from."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum

from omegaconf import MISSING

from curation.models.config import ModelsConfig
from pipeline.tracking import TrackerConfig


class ProfileName(StrEnum):
    EMBEDDED = "embedded"
    PAPER = "paper"


class ExecutorName(StrEnum):
    RAY = "ray"
    INLINE = "inline"


class SketchName(StrEnum):
    NONE = "none"
    OPENCV = "opencv"


class OverlaysMode(StrEnum):
    """What happens to clips under a logo or subtitles."""

    KEEP = "keep"
    CROP = "crop"
    DROP = "drop"


def parse_size(text: str, option: str) -> tuple[int, int]:
    """Returns (width, height) of a size written "512x320"; ValueError names `option`."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None or "0" in (match[1], match[2]):
        raise ValueError(f"{option}={text} is no size; write WIDTHxHEIGHT, e.g. 512x320")
    return int(match[1]), int(match[2])


def _positive(owner: object, prefix: str, *names: str) -> None:
    for name in names:
        if getattr(owner, name) <= 0:
            raise ValueError(f"{prefix}.{name}={getattr(owner, name)} must be positive")


def _share(owner: object, prefix: str, *names: str) -> None:
    for name in names:
        if not 0.0 <= getattr(owner, name) <= 1.0:
            raise ValueError(f"{prefix}.{name}={getattr(owner, name)} must be a share between 0 and 1")


@dataclass(kw_only=True, slots=True)
class SourcesConfig:
    """What counts as a film and what is refused before it is decoded."""

    max_pixels: int = MISSING              # of one frame
    max_member_gb: float = MISSING         # of one archive member, unpacked
    max_expansion: float = MISSING         # unpacked bytes over packed bytes of an archive (bombs)
    max_members: int = MISSING             # of one archive
    min_pictures: int = MISSING            # numbered pictures that make a folder a film
    picture_fps: float = MISSING           # frame rate of picture folders
    download_timeout_s: float = MISSING

    def __post_init__(self) -> None:
        _positive(self, "curation.sources", "max_pixels", "max_member_gb", "max_expansion", "max_members",
                  "min_pictures", "picture_fps", "download_timeout_s")


@dataclass(kw_only=True, slots=True)
class SurveyConfig:
    """The one decode: sizes at which signals are measured. Part of the survey's key."""

    signal_width_px: int = MISSING         # of the small picture; the integer factor that comes nearest is used
    look_side_px: int = MISSING            # long side of the pictures kept for text, captions and the report
    look_every_s: float = MISSING

    def __post_init__(self) -> None:
        _positive(self, "curation.survey", "signal_width_px", "look_side_px", "look_every_s")


@dataclass(kw_only=True, slots=True)
class GradualsConfig:
    """When a stretch of film is a fade, a dissolve or a wipe."""

    min_score: float = MISSING             # how well the model fits, 0..1
    min_change: float = MISSING            # grey levels between its two ends
    max_rest: float = MISSING              # of that change which no blend of the ends explains
    max_bend: float = MISSING              # how far its course may be from a straight ramp
    max_layout: float = MISSING            # correlation of the layouts of its ends; more is one shot whose light changes
    min_pure: float = MISSING              # of the picture that is one of the ends at any moment of a wipe
    min_wipe_area: float = MISSING         # of the picture that a wipe changes
    min_stand_out: float = MISSING         # change within a dissolve or wipe over the change beside it
    max_dip: float = MISSING               # fine drawing halfway through a dissolve, of that at its ends

    def __post_init__(self) -> None:
        _positive(self, "curation.shots.graduals", "min_change", "min_stand_out", "max_dip")
        _share(self, "curation.shots.graduals", "min_score", "max_rest", "max_bend", "max_layout", "min_pure", "min_wipe_area")


@dataclass(kw_only=True, slots=True)
class ShotsConfig:
    """Where one shot ends and the next begins: pure functions of the survey's signals."""

    cut: float = MISSING                   # probability from which a drawing begins a new shot
    min_frames: int = MISSING
    graduals: GradualsConfig = field(default_factory=GradualsConfig)

    def __post_init__(self) -> None:
        _share(self, "curation.shots", "cut")
        _positive(self, "curation.shots", "min_frames")


@dataclass(kw_only=True, slots=True)
class ClipsConfig:
    max_s: float = MISSING                 # longer shots are divided evenly
    trim_frames: int = MISSING             # taken off each side of a gradual transition

    def __post_init__(self) -> None:
        _positive(self, "curation.clips", "max_s")


@dataclass(kw_only=True, slots=True)
class EncodeConfig:
    cover: str = MISSING                   # "512x320": scaled down until it just covers this; "source": never scaled
    crf: int = MISSING
    preset: str = MISSING
    gop: int = MISSING                     # frames between key frames, closed
    sketch: SketchName = MISSING
    overlays: OverlaysMode = MISSING       # logos and hard subtitles: located always, and then kept, cropped or dropped

    def __post_init__(self) -> None:
        if self.cover != "source":
            parse_size(self.cover, "curation.encode.cover")
        if not 0 <= self.crf <= 51:
            raise ValueError(f"curation.encode.crf={self.crf} must be between 0 and 51")
        _positive(self, "curation.encode", "gop")


@dataclass(kw_only=True, slots=True)
class SplitConfig:
    eval_share: float = MISSING
    seed: int = MISSING
    title_pattern: str = MISSING           # regular expression whose first group is the title; "" for our rule

    def __post_init__(self) -> None:
        _share(self, "curation.split", "eval_share")
        if self.title_pattern:
            try:
                re.compile(self.title_pattern)
            except re.error as error:
                raise ValueError(f"curation.split.title_pattern is no regular expression ({error})") from error


@dataclass(kw_only=True, slots=True)
class ShardsConfig:
    max_mb: float = MISSING
    max_samples: int = MISSING

    def __post_init__(self) -> None:
        _positive(self, "curation.shards", "max_mb", "max_samples")


@dataclass(kw_only=True, slots=True)
class SampleArchiveConfig:
    """The archive that is drawn when none is given."""

    seed: int = MISSING
    size: str = MISSING
    path: str = MISSING

    def __post_init__(self) -> None:
        parse_size(self.size, "curation.sample_archive.size")


@dataclass(kw_only=True, slots=True)
class CurationConfig:
    executor: ExecutorName = MISSING
    workers: int = MISSING                 # 0: one per core
    measure_all: bool = MISSING            # measure every gate, also of clips that an earlier gate drops
    sources: SourcesConfig = field(default_factory=SourcesConfig)
    survey: SurveyConfig = field(default_factory=SurveyConfig)
    shots: ShotsConfig = field(default_factory=ShotsConfig)
    clips: ClipsConfig = field(default_factory=ClipsConfig)
    encode: EncodeConfig = field(default_factory=EncodeConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    shards: ShardsConfig = field(default_factory=ShardsConfig)
    sample_archive: SampleArchiveConfig = field(default_factory=SampleArchiveConfig)

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ValueError(f"curation.workers={self.workers} must be 0 (one per core) or more")


@dataclass(kw_only=True, slots=True)
class DurationLimits:
    enabled: bool = MISSING
    min_frames: int = MISSING
    min_s: float = MISSING
    min_drawings: int = MISSING


@dataclass(kw_only=True, slots=True)
class QualityLimits:
    enabled: bool = MISSING
    min_side_px: int = MISSING             # shorter side of the picture without its black bars
    max_aspect: float = MISSING            # longer side over shorter side
    max_blocking: float = MISSING          # mean step at block borders over the step elsewhere; 1 is none
    min_sharpness: float = MISSING


@dataclass(kw_only=True, slots=True)
class MotionLimits:
    enabled: bool = MISSING
    min_drawn_share: float = MISSING       # of the drawing changes: how many show something drawn that moves
    max_mean: float = MISSING              # mean motion between drawings, shares of the diagonal a second
    drop_pan_over_still: bool = MISSING


@dataclass(kw_only=True, slots=True)
class TextAreaLimits:
    enabled: bool = MISSING
    max: float = MISSING                   # covered share of the picture, median over the looked-at frames

    def __post_init__(self) -> None:
        _share(self, "gates.text_area", "max")


@dataclass(kw_only=True, slots=True)
class CreditsLimits:
    enabled: bool = MISSING
    max: float = MISSING                   # confidence that a clip is credits or a title card

    def __post_init__(self) -> None:
        _share(self, "gates.credits", "max")


@dataclass(kw_only=True, slots=True)
class AestheticLimits:
    enabled: bool = MISSING
    min_mean: float = MISSING              # LAION's score, about 1 to 10, mean over the frames


@dataclass(kw_only=True, slots=True)
class AlignmentLimits:
    enabled: bool = MISSING
    min_mean: float = MISSING              # cosine of caption and picture, mean over the frames
    min_lowest: float = MISSING            # of the frame that fits worst

    def __post_init__(self) -> None:
        for name in ("min_mean", "min_lowest"):
            if not -1.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"gates.alignment.{name}={getattr(self, name)} must be a cosine, between -1 and 1")


@dataclass(kw_only=True, slots=True)
class DuplicatesLimits:
    enabled: bool = MISSING
    max_distance: int = MISSING            # differing bits of 64, mean over the aligned frames
    min_cosine: float = MISSING            # of CLIP's embeddings, from which two clips show the same; above 1: never

    def __post_init__(self) -> None:
        if not 0 <= self.max_distance <= 64:
            raise ValueError(f"gates.duplicates.max_distance={self.max_distance} must be between 0 and 64 bits")


@dataclass(kw_only=True, slots=True)
class GatesConfig:
    """Limits of every gate, in cascade order."""

    duration: DurationLimits = field(default_factory=DurationLimits)
    quality: QualityLimits = field(default_factory=QualityLimits)
    motion: MotionLimits = field(default_factory=MotionLimits)
    text_area: TextAreaLimits = field(default_factory=TextAreaLimits)
    credits: CreditsLimits = field(default_factory=CreditsLimits)
    aesthetic: AestheticLimits = field(default_factory=AestheticLimits)
    alignment: AlignmentLimits = field(default_factory=AlignmentLimits)
    duplicates: DuplicatesLimits = field(default_factory=DuplicatesLimits)


@dataclass(kw_only=True, slots=True)
class RayConfig:
    address: str = MISSING                 # "local" or the address of a running cluster
    object_store_mb: int = MISSING
    temp_dir: str | None = MISSING         # short: its sockets' paths are limited to 107 bytes

    def __post_init__(self) -> None:
        _positive(self, "ray", "object_store_mb")


@dataclass(kw_only=True, slots=True)
class CurateJob:
    """One curation, complete: what `<out>/config.yaml` holds and `python -m curation` reads."""

    archive: str | None = None             # None: the sample archive is drawn and used
    out: str = MISSING
    store: str | None = None               # artifacts; None: <out>/artifacts
    profile: ProfileName = ProfileName.EMBEDDED
    experiment: str | None = None
    curation: CurationConfig = field(default_factory=CurationConfig)
    gates: GatesConfig = field(default_factory=GatesConfig)
    models: ModelsConfig = field(default_factory=ModelsConfig)
    ray: RayConfig = field(default_factory=RayConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)

    def __post_init__(self) -> None:
        for name in self.models.not_measured:
            if getattr(self.gates, name).enabled:
                raise ValueError(f"gates.{name}.enabled=true, but models.{name}.name=none measures nothing; use profile=paper, "
                                 f"or gates.{name}.enabled=false")
