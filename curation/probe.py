"""What a container and its codec say about a film, made sane: nonsense becomes "unknown", never an error."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import av

from curation.ledger import Probe

if TYPE_CHECKING:
    from av.container import InputContainer

MAX_FPS = 1000.0             # a higher announced rate is a broken header
MAX_SAMPLE_ASPECT = 10       # no display has pixels longer than this; MPEG and PAL/NTSC values lie within 1/3..3
NEARLY_SQUARE = Fraction(1, 100)   # a smaller deviation is what rounding to even sizes leaves; not worth resampling
_FULL_RANGE = 2              # AVCOL_RANGE_JPEG
_LIMITED_RANGE = 1           # AVCOL_RANGE_MPEG


def probe_stream(
    container: InputContainer, stream: av.VideoStream, first_frame: av.VideoFrame | None = None
) -> Probe:
    """Returns what is known of `stream`; its first decoded frame, where there is one, overrules the headers.

    The rotation lives in the frame only, so without a frame it is 0.
    """
    context = stream.codec_context
    picture_format = first_frame.format if first_frame is not None else context.format
    return Probe(
        container=container.format.name,
        codec=context.codec.canonical_name,
        pix_fmt=picture_format.name if picture_format is not None else "",
        bit_depth=max(part.bits for part in picture_format.components) if picture_format is not None else 8,
        width=first_frame.width if first_frame is not None else context.width,
        height=first_frame.height if first_frame is not None else context.height,
        rotation_deg=clockwise_deg(first_frame.rotation) if first_frame is not None else 0,
        sample_aspect=sane_aspect(stream.sample_aspect_ratio or context.sample_aspect_ratio),
        fps=_sane_fps(stream.average_rate or stream.guessed_rate),
        duration_s=_duration_s(container, stream),
        time_base=stream.time_base or Fraction(1, 1000),
        color_range=_color_range(first_frame.color_range if first_frame is not None else context.color_range,
                                 picture_format),
        has_audio=any(other.type == "audio" for other in container.streams),
    )


def clockwise_deg(counterclockwise_deg: int) -> int:
    """Returns 0, 90, 180 or 270 for the angle of a display matrix; any other angle counts as none.

    A broken matrix yields the smallest 64-bit integer, which is no multiple of 90.
    """
    return -counterclockwise_deg % 360 if counterclockwise_deg % 90 == 0 else 0


def sane_aspect(aspect: Fraction | None) -> Fraction:
    """Returns width over height of one pixel; 1 where unknown, zero, absurd or nearly 1."""
    if not aspect or aspect < 0 or not Fraction(1, MAX_SAMPLE_ASPECT) <= aspect <= MAX_SAMPLE_ASPECT:
        return Fraction(1)
    return Fraction(1) if abs(aspect - 1) < NEARLY_SQUARE else Fraction(aspect)


def _sane_fps(rate: Fraction | None) -> float:
    return float(rate) if rate and 0 < rate <= MAX_FPS else 0.0


def _duration_s(container: InputContainer, stream: av.VideoStream) -> float | None:
    if stream.duration and stream.duration > 0 and stream.time_base:
        return float(stream.duration * stream.time_base)
    if container.duration and container.duration > 0:
        return container.duration / av.time_base
    return None


def _color_range(value: int, picture_format: av.VideoFormat | None) -> str:
    """Returns "pc" or "tv"; where the file is silent, RGB, gray and the old yuvj formats are full range."""
    if value == _FULL_RANGE:
        return "pc"
    if value == _LIMITED_RANGE or picture_format is None:
        return "tv"
    name = picture_format.name
    return "pc" if picture_format.is_rgb or name.startswith(("yuvj", "gray")) else "tv"
