"""How a clip's pictures look: deinterlaced, without black bars, upright, square pixels, scaled down, 8-bit 4:2:0."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av
from av.filter import Graph

from curation.config import parse_size
from curation.ledger import Probe

_SCALER = "flags=lanczos+accurate_rnd+full_chroma_int+bitexact"
_TURNS = {0: (), 90: (("transpose", "clock"),), 180: (("hflip", ""), ("vflip", "")), 270: (("transpose", "cclock"),)}
_TIME_BASE = Fraction(1, 1000)      # inside the graph frames only need an order
_RANGES = {"tv": 1, "pc": 2}        # AVCOL_RANGE_MPEG, AVCOL_RANGE_JPEG
_RGB = 0                            # AVCOL_SPC_RGB


def even_crop(crop: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """Shrinks (x, y, width, height) to even numbers, so that chroma samples stay where they are.

    ValueError where nothing remains.
    """
    x, y, width, height = crop
    left, top = x + x % 2, y + y % 2
    even = (left, top, (x + width - left) // 2 * 2, (y + height - top) // 2 * 2)
    if min(even[2:]) < 2:
        raise ValueError(f"a picture of {width}x{height} is too small to encode")
    return even


def clip_size(crop: tuple[int, int, int, int], probe: Probe, cover: str) -> tuple[int, int]:
    """Returns even (width, height) of a clip: upright, square pixels, then scaled down until it just covers `cover`.

    Never scaled up beyond what square pixels need; "source" is not scaled down either.
    """
    _, _, width, height = even_crop(crop)
    shown: tuple[Fraction, Fraction] = (width * probe.sample_aspect, Fraction(height))
    if probe.rotation_deg in (90, 270):
        shown = shown[1], shown[0]
    if cover == "source":
        return _even(shown[0]), _even(shown[1])
    least = parse_size(cover, "curation.encode.cover")
    scale = min(Fraction(1), max(Fraction(least[0]) / shown[0], Fraction(least[1]) / shown[1]))
    return _even(shown[0] * scale), _even(shown[1] * scale)


class Framing:
    """One filter graph for the frames of one clip: as many frames out as in, in order."""

    def __init__(
        self, first: av.VideoFrame, probe: Probe, crop: tuple[int, int, int, int], *, cover: str, deinterlace: bool
    ) -> None:
        self.width, self.height = clip_size(crop, probe, cover)
        self._range = _RANGES[probe.color_range]
        self._num_pushed = 0
        x, y, width, height = even_crop(crop)
        steps: list[tuple[str, str]] = []
        if deinterlace:                              # before the crop, which may swap the fields
            steps.append(("bwdif", "mode=send_frame:deint=all"))
        if (x, y, width, height) != (0, 0, first.width, first.height):
            steps.append(("crop", f"{width}:{height}:{x}:{y}:exact=1"))
        steps += _TURNS[probe.rotation_deg]
        matrix = ":out_color_matrix=bt709" if first.format.is_rgb else ""
        steps += [
            ("scale", f"{self.width}:{self.height}:{_SCALER}:out_range=tv{matrix}"),
            ("format", "yuv420p"), ("setsar", "1"),
        ]
        self._graph = Graph()
        self._graph.threads = 1
        chain = [self._graph.add("buffer", (
            f"video_size={first.width}x{first.height}:pix_fmt={first.format.name}:time_base={_TIME_BASE}:"
            f"pixel_aspect=1/1:range={self._range}:colorspace={_RGB if first.format.is_rgb else first.colorspace}"))]
        chain += [self._graph.add(name, args) for name, args in steps]
        chain.append(self._graph.add("buffersink"))
        self._graph.link_nodes(*chain).configure()

    def push(self, picture: av.VideoFrame) -> Iterator[av.VideoFrame]:
        """Takes one picture, whose time stamp and range tag are overwritten; yields what is ready."""
        picture.pts, picture.time_base = self._num_pushed, _TIME_BASE
        picture.color_range = self._range
        self._num_pushed += 1
        self._graph.vpush(picture)
        yield from self._ready()

    def finish(self) -> Iterator[av.VideoFrame]:
        self._graph.vpush(None)
        yield from self._ready()

    def _ready(self) -> Iterator[av.VideoFrame]:
        while True:
            try:
                yield self._graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return


def _even(side: Fraction) -> int:
    return max(2, 2 * round(side / 2))
