"""Luma and chroma of a decoded picture as arrays, without a copy wherever the format allows it."""

from __future__ import annotations

import re

import av
import numpy as np

_PLANAR = re.compile(r"(?:yuv[aj]?4\d\dp|gray)(9|10|12|14|16)?(le|be)?")
_SEMI_PLANAR = ("nv12", "nv16", "nv24")


def as_planar(picture: av.VideoFrame) -> av.VideoFrame:
    """Returns `picture` itself where its planes can be read in place, else a copy in yuv420p.

    RGB, packed and palette formats need the copy; call this once when both luma and chroma are wanted.
    """
    name = picture.format.name
    if (_PLANAR.fullmatch(name) or name in _SEMI_PLANAR) and all(plane.line_size > 0 for plane in picture.planes):
        return picture
    return picture.reformat(format="yuv420p")


def luma_plane(picture: av.VideoFrame, row_step: int = 1) -> np.ndarray:
    """Returns the luma as stored, uint8 [ceil(h / row_step), w], every `row_step`-th row.

    A read-only view for 8-bit planar formats; higher depths are shifted to 8 bit after the rows are picked. The
    range (16..235 or 0..255) is left as it is.
    """
    planar = as_planar(picture)
    bits, order = _depth(planar.format.name)
    return _plane(planar.planes[0], bits, order, row_step)


def chroma_planes(picture: av.VideoFrame, row_step: int = 1) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns (u, v) as stored at their own resolution, uint8 [ceil(h' / row_step), w']; None for gray pictures."""
    planar = as_planar(picture)
    name = planar.format.name
    if name.startswith("gray"):
        return None
    if name in _SEMI_PLANAR:
        pairs = _plane(planar.planes[1], 8, "<", row_step, samples=2 * planar.planes[1].width)
        return pairs[:, 0::2], pairs[:, 1::2]
    bits, order = _depth(name)
    return _plane(planar.planes[1], bits, order, row_step), _plane(planar.planes[2], bits, order, row_step)


def _depth(format_name: str) -> tuple[int, str]:
    """Bits of a sample and byte order of a planar format."""
    match = _PLANAR.fullmatch(format_name)
    if match is None or match[1] is None:
        return 8, "<"
    return int(match[1]), ">" if match[2] == "be" else "<"


def _plane(
    plane: av.video.plane.VideoPlane, bits: int, order: str, row_step: int, samples: int | None = None
) -> np.ndarray:
    width = plane.width if samples is None else samples
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[::row_step]
    if bits == 8:
        return rows[:, :width]
    deep = rows[:, : 2 * width].view(f"{order}u2")
    return (deep >> (bits - 8)).astype(np.uint8)
