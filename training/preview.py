"""Sample videos to look at while a training runs: one film of all clips side by side, and a sheet of their frames."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pipeline.records import atomic_path

PREVIEW_FPS = 8          # ToonCrafter's own sample videos
SHEET_FRAMES = 8         # at most, of each clip


def write_preview(folder: Path, step: int, pictures: Tensor) -> list[Path]:
    """Writes <folder>/step_NNNNNNNN.mp4 and .png of clips [b, 3, t, H, W] in [-1, 1]; returns the two files."""
    rgb = ((pictures.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 4, 1).cpu().numpy()   # [b, t, H, W, 3]
    film, sheet = folder / f"step_{step:08d}.mp4", folder / f"step_{step:08d}.png"
    _write_film(film, np.concatenate(list(rgb), axis=2))
    chosen = np.unique(np.linspace(0, rgb.shape[1] - 1, SHEET_FRAMES).round().astype(int))
    rows = [np.concatenate(list(clip[chosen]), axis=1) for clip in rgb]
    with atomic_path(sheet) as temporary:
        Image.fromarray(np.concatenate(rows, axis=0)).save(temporary, format="PNG")
    return [film, sheet]


def _write_film(path: Path, frames: NDArray[np.uint8]) -> None:
    """[t, H, W, 3] RGB as x264; sides are even, because sizes are multiples of 64."""
    with atomic_path(path) as temporary, av.open(str(temporary), "w", format="mp4") as film:
        stream = film.add_stream("libx264", rate=Fraction(PREVIEW_FPS), options={"crf": "10"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            film.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        film.mux(stream.encode(None))
