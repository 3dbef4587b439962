"""Side-by-side films of the report: the drawn clip and every system's frames in one picture, each under its name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from training.sampling.config import OutputConfig
from training.sampling.outputs import FILM, write_film

CELL_PX = 384                   # width of a film's cell, at most; chosen here
STRIP_PX = 18                   # height of the names above
COLUMNS = 3
FPS, CRF = 8, 16                # as sample plays its films; chosen here

Pixels = NDArray[np.uint8]


def write_side_by_side(folder: Path, videos: Mapping[str, Pixels]) -> Path:
    """Writes videos [t, h, w, 3] of one clip, by name, into one mp4; returns its path relative to the folder's parent."""
    cells = [_labelled(name, _smaller(video)) for name, video in videos.items()]
    columns = min(COLUMNS, len(cells))
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % columns)
    rows = [np.concatenate(cells[start:start + columns], axis=2) for start in range(0, len(cells), columns)]
    settings = OutputConfig(formats=["mp4"], fps=FPS, crf=CRF, gray=False, sheet_columns=1, sheet_cell_px=1)
    write_film(folder, np.concatenate(rows, axis=1), settings)
    return Path(folder.name) / FILM


def _smaller(video: Pixels) -> Pixels:
    """The video at a cell's width; sides are even, as the film's format wants them."""
    height, width = video.shape[1:3]
    scale = min(1.0, CELL_PX / width)
    size = max(2, round(width * scale) // 2 * 2), max(2, round(height * scale) // 2 * 2)
    return np.stack([np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR)) for frame in video])


def _labelled(name: str, video: Pixels) -> Pixels:
    strip = Image.new("RGB", (video.shape[2], STRIP_PX), "white")
    ImageDraw.Draw(strip).text((3, 3), name, fill="black", font=ImageFont.load_default())
    label = np.broadcast_to(np.asarray(strip), (len(video), STRIP_PX, video.shape[2], 3))
    return np.concatenate([label, video], axis=1)
