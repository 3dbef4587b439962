"""A film on disk: mp4, GIF, a PNG for each frame and a sheet of all frames; every file appears by rename.

The same frames give the same bytes: one x264 thread, bit-exact flags, and no macroblock tree, with which the last block depends
on memory that nobody set.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
from PIL import Image

from pipeline.records import atomic_path
from training.sampling.config import OutputConfig, OutputFormat
from training.sampling.inputs import Pixels

FILM, GIF, FRAMES, SHEET = "video.mp4", "video.gif", "frames", "sheet.png"
GIF_UNIT_MS = 10                       # GIF counts in hundredths of a second


def write_film(folder: Path, frames: Pixels, settings: OutputConfig) -> list[str]:
    """Writes frames [T, H, W, 3] RGB uint8 in the wanted formats; returns the names, relative to the folder, in order.

    PNG files of an earlier, longer film are removed, so that the folder holds one film.
    """
    if settings.gray:
        frames = as_gray(frames)
    wanted = {OutputFormat(word) for word in settings.formats}
    written = []
    if OutputFormat.MP4 in wanted:
        _write_mp4(folder / FILM, frames, settings.fps, settings.crf)
        written.append(FILM)
    if OutputFormat.GIF in wanted:
        _write_gif(folder / GIF, frames, settings.fps)
        written.append(GIF)
    if OutputFormat.PNG in wanted:
        names = [f"{index:04d}.png" for index in range(1, len(frames) + 1)]
        for name, frame in zip(names, frames, strict=True):
            _write_png(folder / FRAMES / name, frame)
        for stale in (folder / FRAMES).glob("[0-9][0-9][0-9][0-9]*.png"):
            if stale.stem.isdigit() and stale.name not in names:
                stale.unlink()
        written += [f"{FRAMES}/{name}" for name in names]
    if OutputFormat.SHEET in wanted:
        _write_png(folder / SHEET, contact_sheet(frames, settings.sheet_columns, settings.sheet_cell_px))
        written.append(SHEET)
    return written


def as_gray(frames: Pixels) -> Pixels:
    """Frames without colour (luma of BT.601), for line drawings, in which the networks leave traces of it."""
    luma = (frames @ np.array([0.299, 0.587, 0.114])).round().astype(np.uint8)
    return np.repeat(luma[..., None], 3, axis=-1)


def contact_sheet(frames: Pixels, columns: int, cell_px: int) -> Pixels:
    """All frames in rows, left to right, at most cell_px wide each; what the last row lacks is white."""
    height, width = frames.shape[1:3]
    scale = min(1.0, cell_px / width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    cells = [np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR)) for frame in frames]
    columns = min(columns, len(cells))
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % columns)
    rows = [np.concatenate(cells[start:start + columns], axis=1) for start in range(0, len(cells), columns)]
    return np.concatenate(rows)


def gif_durations_ms(num_frames: int, fps: int) -> list[int]:
    """How long each frame stands, in whole hundredths of a second, so that the whole is as long as it should be."""
    ends = [round(1000 * index / fps / GIF_UNIT_MS) * GIF_UNIT_MS for index in range(num_frames + 1)]
    return [max(GIF_UNIT_MS, later - earlier) for earlier, later in pairwise(ends)]


def _write_mp4(path: Path, frames: Pixels, fps: int, crf: int) -> None:
    with atomic_path(path) as temporary, av.open(str(temporary), "w", format="mp4", options={"fflags": "+bitexact"}) as film:
        stream = film.add_stream("libx264", rate=Fraction(fps), options={
            "crf": str(crf), "threads": "1", "flags": "+bitexact", "x264-params": "mbtree=0"})
        stream.height, stream.width = frames.shape[1:3]     # even, because sizes are multiples of 64
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            film.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        film.mux(stream.encode(None))


def _write_gif(path: Path, frames: Pixels, fps: int) -> None:
    pictures: Sequence[Image.Image] = [Image.fromarray(frame).quantize(256) for frame in frames]
    with atomic_path(path) as temporary:
        pictures[0].save(temporary, format="GIF", save_all=True, append_images=pictures[1:], loop=0,
                         duration=gif_durations_ms(len(frames), fps))


def _write_png(path: Path, pixels: Pixels) -> None:
    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")
