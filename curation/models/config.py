"""Typed schemas of the models a curation may use: which, with what weights, how large a batch and a picture.

`profile=embedded` and `profile=paper` fill them (conf/profile); every value can be changed one by one, so a better model is a
line of configuration. `name=none` means that what it would measure is not measured, and the records say so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from omegaconf import MISSING

SKETCH_EXTRACTORS = ("anime2sketch", "linedistiller", "opencv")


class DeviceName(StrEnum):
    AUTO = "auto"                          # a GPU where there is one
    CPU = "cpu"
    CUDA = "cuda"


class Precision(StrEnum):
    AUTO = "auto"                          # float16 on a GPU, float32 on a CPU
    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"                          # weights of the language model in 8 bit; captions only, needs bitsandbytes


class FlowName(StrEnum):
    NONE = "none"                          # the survey's DIS flow alone
    RAFT_SMALL = "raft_small"
    RAFT_LARGE = "raft_large"


class TextName(StrEnum):
    RAPIDOCR = "rapidocr"                  # detection and recognition, models in its wheel
    CRAFT = "craft"
    PPOCR = "ppocr"                        # the PP-OCR v3 detector


class AestheticName(StrEnum):
    NONE = "none"
    LAION_V1 = "laion_v1"                  # one linear layer
    LAION_V2 = "laion_v2"                  # five linear layers without anything between, folded into one


class CaptionName(StrEnum):
    FACTS = "facts"                        # measured facts, no model
    BLIP2 = "blip2"
    IMAGE_TO_TEXT = "image_to_text"        # any captioner that transformers loads
    CHAT = "chat"                          # any vision-language model of transformers with a chat template; needs a prompt


class AlignmentName(StrEnum):
    NONE = "none"
    CLIP = "clip"                          # models.clip's own text half


def _at_least_one(owner: object, prefix: str, *names: str) -> None:
    for name in names:
        if getattr(owner, name) < 1:
            raise ValueError(f"{prefix}.{name}={getattr(owner, name)} must be at least 1")


@dataclass(kw_only=True, slots=True)
class FlowConfig:
    """Motion between distinct drawings by a learnt flow, beside the survey's."""

    name: FlowName = MISSING
    weights: str = MISSING
    batch: int = MISSING                   # pairs of drawings
    side_px: int = MISSING                 # long side of a drawing; both sides are rounded to multiples of 8
    updates: int = MISSING                 # refinements of the flow

    def __post_init__(self) -> None:
        _at_least_one(self, "models.flow", "batch", "updates")
        if self.side_px < 128:
            raise ValueError(f"models.flow.side_px={self.side_px} must be at least 128, RAFT's smallest picture")


@dataclass(kw_only=True, slots=True)
class TextConfig:
    name: TextName = MISSING
    weights: str = MISSING
    batch: int = MISSING                   # pictures
    side_px: int = MISSING                 # long side of the picture that the detector sees; not of rapidocr

    def __post_init__(self) -> None:
        _at_least_one(self, "models.text", "batch", "side_px")


@dataclass(kw_only=True, slots=True)
class ClipConfig:
    """The one pass of CLIP over a clip's frames: aesthetics, alignment, near-duplicates and search read what it stores."""

    name: str = MISSING                    # an architecture of open_clip, or none
    weights: str = MISSING
    batch: int = MISSING                   # pictures
    frames: int = MISSING                  # of a clip: first, last and evenly between

    def __post_init__(self) -> None:
        _at_least_one(self, "models.clip", "batch", "frames")


@dataclass(kw_only=True, slots=True)
class AestheticConfig:
    name: AestheticName = MISSING
    weights: str = MISSING


@dataclass(kw_only=True, slots=True)
class CaptionConfig:
    name: CaptionName = MISSING
    weights: str = MISSING                 # a folder as transformers saves it, or one of its files
    batch: int = MISSING                   # pictures
    frames: int = MISSING                  # of a clip: 1 is the middle one
    precision: Precision = MISSING
    prompt: str = MISSING                  # "" lets the model speak first
    max_tokens: int = MISSING              # of a caption

    def __post_init__(self) -> None:
        _at_least_one(self, "models.caption", "batch", "frames", "max_tokens")
        if self.name is CaptionName.CHAT and not self.prompt:
            raise ValueError("models.caption.name=chat needs a question: models.caption.prompt=...")


@dataclass(kw_only=True, slots=True)
class AlignmentConfig:
    name: AlignmentName = MISSING


@dataclass(kw_only=True, slots=True)
class SketchConfig:
    """Line art by models, made from the encoded clips; the first extractor is the sample's sketch, more lie beside it."""

    extractors: list[str] = MISSING        # of anime2sketch, linedistiller, opencv
    anime2sketch: str = MISSING            # weights
    linedistiller: str = MISSING           # weights
    batch: int = MISSING                   # pictures
    side_px: int = MISSING                 # of the square that Anime2Sketch draws in; its answer is scaled back
    binarise: float = MISSING              # 0: grey lines as they come; else darker than this share of white is line
    jitter_px: float = MISSING             # strokes waver by up to this much, as another hand would draw them; 0: not

    def __post_init__(self) -> None:
        _at_least_one(self, "models.sketch", "batch")
        if self.side_px % 256:
            raise ValueError(f"models.sketch.side_px={self.side_px} must be a multiple of 256: Anime2Sketch halves it 8 times")
        if not 0.0 <= self.binarise <= 1.0:
            raise ValueError(f"models.sketch.binarise={self.binarise} must be a share between 0 and 1")
        for name in self.extractors:
            if name not in SKETCH_EXTRACTORS:
                raise ValueError(f"models.sketch.extractors: {name} is none of {', '.join(SKETCH_EXTRACTORS)}")


@dataclass(kw_only=True, slots=True)
class ModelsConfig:
    device: DeviceName = MISSING
    precision: Precision = MISSING
    gpu_share: float = MISSING             # of a GPU that one worker of a model takes
    flow: FlowConfig = field(default_factory=FlowConfig)
    text: TextConfig = field(default_factory=TextConfig)
    clip: ClipConfig = field(default_factory=ClipConfig)
    aesthetic: AestheticConfig = field(default_factory=AestheticConfig)
    caption: CaptionConfig = field(default_factory=CaptionConfig)
    alignment: AlignmentConfig = field(default_factory=AlignmentConfig)
    sketch: SketchConfig = field(default_factory=SketchConfig)

    def __post_init__(self) -> None:
        if not 0.0 < self.gpu_share <= 1.0:
            raise ValueError(f"models.gpu_share={self.gpu_share} must be over 0 and at most 1")
        if self.precision is Precision.INT8:
            raise ValueError("models.precision=int8 is for captions alone: models.caption.precision=int8")
        for name, wanted in (("aesthetic", self.aesthetic.name), ("alignment", self.alignment.name)):
            if wanted != "none" and not self.has_clip:
                raise ValueError(f"models.{name}.name={wanted} reads the pass of CLIP: models.clip.name=none gives none")
        if self.alignment.name is not AlignmentName.NONE and self.caption.name is CaptionName.FACTS:
            raise ValueError("models.alignment.name=clip needs a captioning model: models.caption.name=facts is none")

    @property
    def has_clip(self) -> bool:
        return self.clip.name != "none"

    @property
    def not_measured(self) -> tuple[str, ...]:
        """The gates that no model of this configuration measures."""
        return tuple(name for name, wanted in (("aesthetic", self.aesthetic.name), ("alignment", self.alignment.name))
                     if wanted == "none")
