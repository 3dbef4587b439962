"""Typed schema of everything `sample` can be told; conf/sample.yaml holds the values and where each number comes from."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from omegaconf import MISSING

from training.config import Precision, Preset, SketchContext, parse_size

OWN_SIZE = "auto"


class Spacing(StrEnum):
    """Which steps of the noise schedule are visited: training/diffusion/ddim.py."""

    UNIFORM = "uniform"
    UNIFORM_TRAILING = "uniform_trailing"


class Pad(StrEnum):
    """What stands beside a key frame that is narrower or lower than the film."""

    BLACK = "black"                    # as the public command line does
    REFLECT = "reflect"                # the picture mirrored at its border
    NONE = "none"                      # nothing: the picture is enlarged until it covers the film, as training data are


class EmbeddedPicture(StrEnum):
    """What of the first key frame the image encoder sees."""

    CROPPED = "cropped"                # the picture as the film has it; the public command line
    ORIGINAL = "original"              # the whole picture; the public web page


class LineColour(StrEnum):
    """How sketches are drawn."""

    DARK = "dark"                      # on light paper
    LIGHT = "light"                    # on dark paper


class OutputFormat(StrEnum):
    MP4 = "mp4"
    GIF = "gif"
    PNG = "png"                        # a file for each frame
    SHEET = "sheet"                    # all frames in one picture


@dataclass(kw_only=True, slots=True)
class NetworksConfig:
    """Which networks, and the files they are read from; references as docs/weights.md writes them."""

    preset: Preset = MISSING
    weights: str = MISSING             # whole model in the upstream layout, or embedded:tiny, embedded:random
    denoiser: str | None = None        # UNet and projector of another file: weights.safetensors of a rectification
    first_stage: str | None = None     # of another file: weights.safetensors of a decoder training
    sketch: str | None = None          # sketch encoder; read only where there are sketches
    sketch_context: SketchContext = MISSING


@dataclass(kw_only=True, slots=True)
class SamplerConfig:
    """How the noise becomes a film."""

    steps: int = MISSING
    spacing: Spacing = MISSING
    eta: float = MISSING               # 0: no noise between the steps, 1: as much as DDPM
    guidance: float = MISSING          # 1: off, half the time
    guidance_rescale: float = MISSING
    image_guidance: float | None = None  # a scale of its own for the picture, with three passes a step; null: two passes
    temperature: float = MISSING       # factor of the noise between the steps
    finish_rescale: bool = MISSING     # undo the shrinking that the last step leaves: changes contrast
    second_decode: bool = MISSING      # middle frames from a decode without their outer neighbours; twice the time

    def __post_init__(self) -> None:
        _within(self, "sampler", "steps", least=1)
        for name in ("guidance", "temperature"):
            _within(self, "sampler", name, least=0)
        for name in ("eta", "guidance_rescale"):
            _within(self, "sampler", name, least=0, most=1)


@dataclass(kw_only=True, slots=True)
class FramingConfig:
    """How key frames of any size become frames of the film."""

    pad: Pad = MISSING
    embedded: EmbeddedPicture = MISSING


@dataclass(kw_only=True, slots=True)
class SketchControlConfig:
    """Sketches that guide frames, and how strongly."""

    folder: str | None = None          # pictures named by the number of their frame, counted from 1
    sheet: str | None = None           # one picture, cut into a row of sketches
    sheet_frames: list[int] = MISSING  # the frames of the sheet's cells; []: one cell for each frame
    lines: LineColour = MISSING
    invert: bool = MISSING             # show the encoder strokes 0 on paper 1; blank frames are then paper, too
    scale: float = MISSING             # of the residuals
    zero_gate: bool = MISSING          # no residuals for frames without a sketch, instead of those of an empty sketch

    def __post_init__(self) -> None:
        _within(self, "sketch", "scale", least=0)
        if self.folder is not None and self.sheet is not None:
            raise ValueError("sketch.folder and sketch.sheet are both given; give one of them")


@dataclass(kw_only=True, slots=True)
class MemoryConfig:
    """What fits into memory. Precision changes results a little, tiles and chunks may show, the others change nothing."""

    precision: Precision = MISSING
    batch: int = MISSING               # clips that are denoised at once
    offload: bool = MISSING            # networks wait in host memory while others work
    tile_px: int = MISSING             # side of what the decoder sees at once; 0: all
    frames_per_chunk: int = MISSING    # frames the decoder sees at once; 0: all
    attention_frames: int = MISSING    # frames whose attention to the key frames is computed at once; 0: all

    def __post_init__(self) -> None:
        _within(self, "memory", "batch", least=1)
        for name in ("frames_per_chunk", "attention_frames"):
            _within(self, "memory", name, least=0)
        if self.tile_px % 8 or self.tile_px < 0:
            raise ValueError(f"memory.tile_px={self.tile_px} must be a multiple of 8, or 0 for no tiles")


@dataclass(kw_only=True, slots=True)
class OutputConfig:
    formats: list[str] = MISSING       # of mp4, gif, png, sheet
    fps: int = MISSING                 # of the film and the GIF; what the networks are told is `fps`
    crf: int = MISSING                 # x264's quality, 0 the best
    gray: bool = MISSING               # line drawings: no colour in the result
    sheet_columns: int = MISSING
    sheet_cell_px: int = MISSING       # width of a frame on the sheet, at most

    def __post_init__(self) -> None:
        for name in ("fps", "sheet_columns", "sheet_cell_px"):
            _within(self, "output", name, least=1)
        _within(self, "output", "crf", least=0, most=51)
        words = [member.value for member in OutputFormat]
        for word in self.formats:
            if word not in words:
                raise ValueError(f"output.formats has {word}, which is none of {', '.join(words)}")
        if not self.formats:
            raise ValueError(f"output.formats is empty; give some of {', '.join(words)}")


@dataclass(kw_only=True, slots=True)
class SampleJob:
    """One film between two key frames or along many, or a list of them."""

    first: str | None = None           # key frame
    last: str | None = None            # key frame; null: only with a sketch of every frame
    keys: str | None = None            # instead: folder of many key frames, in the order of their names
    jobs: str | None = None            # instead: JSON lines, each a film; see docs/sample.md
    prompt: str = MISSING
    fps: int = MISSING                 # condition: smaller is larger motion
    num_frames: int = MISSING          # from one key frame to the next, both counted
    size: str = MISSING                # WIDTHxHEIGHT, multiples of 64; auto: the size the networks were made for
    seed: int = MISSING
    out: str = MISSING
    device: str = MISSING              # auto, cpu or cuda
    ranks: int = MISSING               # processes that share the films of `jobs`, each with a GPU
    networks: NetworksConfig = field(default_factory=NetworksConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    framing: FramingConfig = field(default_factory=FramingConfig)
    sketch: SketchControlConfig = field(default_factory=SketchControlConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    output: OutputConfig = field(default_factory=OutputConfig)

    def __post_init__(self) -> None:
        for name, least in (("fps", 1), ("num_frames", 3), ("ranks", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} must be at least {least}")
        if self.size != OWN_SIZE:
            width, height = parse_size(self.size, "size")
            if width % 64 or height % 64:
                raise ValueError(f"size={self.size} must be multiples of 64: the UNet halves latents three times")


def _within(owner: object, prefix: str, name: str, *, least: float, most: float = float("inf")) -> None:
    value = getattr(owner, name)
    if not least <= value <= most:
        wanted = f"at least {least:g}" if most == float("inf") else f"between {least:g} and {most:g}"
        raise ValueError(f"{prefix}.{name}={value} must be {wanted}")
