"""Sparse sketches: which frames they belong to, and the hints that the sketch encoder is shown.

ToonCrafter (arXiv 2405.17933) section 3.4 gives a sketch to some frames and an empty picture to the others. Polarity is not
published: a hint here has strokes 1 on 0 and an empty one is all zeros; `sketch.invert` turns all of it round for weights that
learnt from dark lines on white paper. Frames are counted from 1, as in the paper, along the whole film.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import UserError
from training.sampling.config import LineColour, Pad
from training.sampling.inputs import Pixels, check_picture, fit, list_pictures, read_picture

BLANK_BELOW = 16             # of 255: a cell of a sheet without any stronger stroke is empty; chosen here

Strokes = Pixels             # [h, w, 1], strokes 255 on 0


def numbered_files(folder: Path, num_frames: int) -> dict[int, Path]:
    """The files of a folder by the frame that the last number of their name tells (walk_007.png: 7), all in 1..num_frames."""
    found: dict[int, Path] = {}
    for path in list_pictures(folder, "sketch.folder"):
        check_picture(path, "sketch.folder")
        numbers = re.findall(r"\d+", path.stem)
        if not numbers:
            raise UserError(f"{path} has no frame number in its name", "sketches are named by frame", "Write 7.png or a_07.png")
        frame = int(numbers[-1])
        _check_frame(frame, num_frames, str(path))
        if frame in found:
            raise UserError(f"{found[frame].name} and {path.name} are both for frame {frame}", fix=f"Remove one from {folder}")
        found[frame] = path
    return found


def sheet_frames(sheet: Path, wanted: Sequence[int], num_frames: int) -> list[int]:
    """The frames that the sheet's cells are for, from left to right; UserError where they cannot be."""
    check_picture(sheet, "sketch.sheet")
    frames = list(wanted) or list(range(1, num_frames + 1))
    for frame in frames:
        _check_frame(frame, num_frames, "sketch.sheet_frames")
    if len(set(frames)) != len(frames):
        raise UserError("sketch.sheet_frames names a frame twice", f"it is {wanted}", "Give each frame one cell")
    with Image.open(sheet) as picture:
        width = picture.size[0]
    if width % len(frames):
        raise UserError(f"sketch.sheet={sheet} cannot be cut", f"{width} pixels are no {len(frames)} equal cells",
                        "Give its frames with sketch.sheet_frames=[1,8,16], or a sheet with a cell for every frame")
    return frames


def read_sketches(*, folder: Path | None, sheet: Path | None, wanted: Sequence[int], num_frames: int,
                  lines: LineColour) -> dict[int, Strokes]:
    """Strokes by frame, of a folder or a sheet; empty cells of a sheet are left out."""
    found: dict[int, Strokes] = {}
    if folder is not None:
        found = {frame: _strokes(read_picture(path, "sketch.folder"), lines)
                 for frame, path in numbered_files(folder, num_frames).items()}
    if sheet is not None:
        frames = sheet_frames(sheet, wanted, num_frames)
        cells = np.split(_strokes(read_picture(sheet, "sketch.sheet"), lines), len(frames), axis=1)
        found = {frame: cell for frame, cell in zip(frames, cells, strict=True) if cell.max() >= BLANK_BELOW}
    return found


def hints(strokes: Mapping[int, Strokes], frames: range, *, width: int, height: int, pad: Pad,
          invert: bool) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """What the encoder sees of the given frames, [1, t, height, width] in [0, 1], and which of them have a sketch, [t]."""
    shown = np.zeros((1, len(frames), height, width), np.float32)
    for index, frame in enumerate(frames):
        if frame in strokes:                        # beside a narrow sketch lies empty paper, or its mirror image
            shown[0, index] = fit(strokes[frame], width=width, height=height, pad=pad)[..., 0] / np.float32(255)
    return 1 - shown if invert else shown, np.array([frame in strokes for frame in frames])


def _strokes(rgb: Pixels, lines: LineColour) -> Strokes:
    gray = np.asarray(Image.fromarray(rgb).convert("L"))[..., None]
    return 255 - gray if lines is LineColour.DARK else gray


def _check_frame(frame: int, num_frames: int, where: str) -> None:
    if not 1 <= frame <= num_frames:
        raise UserError(f"{where} is for frame {frame}", f"the film has frames 1 to {num_frames}, counted from 1",
                        "Use one of these numbers, or change num_frames")
