"""Films of several systems, found in their folders, read, and written so that nothing but the picture tells them apart.

A system's folder holds, for each clip, CLIP.mp4 (or another film file), CLIP/video.mp4, CLIP/frames/ or CLIP/ with pictures:
what `toonforge sample` writes with jobs=..., and what other programs usually do.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError, nearest
from pipeline.records import atomic_path
from training.sampling.inputs import SUFFIXES, list_pictures, read_picture
from training.study.config import MAX_SYSTEMS

Frames = NDArray[np.uint8]               # [T, H, W, 3] RGB

FILM_SUFFIXES = (".mp4", ".webm", ".mkv", ".mov", ".gif")
CRF = 10                                 # as the sampler's; losses that nobody sees at the frame rates of drawings
MTIME_S = 315_532_800                    # 1980-01-01: the order of writing would tell which films belong together


def find_systems(text: str) -> dict[str, Path]:
    """Folders by the systems' names: those in the one folder given, or those given with commas between; UserError if too few."""
    folders = [Path(part.strip()) for part in text.split(",") if part.strip()]
    for folder in folders:
        if not folder.is_dir():
            near = nearest(folder.name, [found.name for found in folder.parent.iterdir()]) if folder.parent.is_dir() else None
            raise UserError(f"systems={folder} is no folder", fix=f"Did you mean {folder.parent / near}?" if near else
                            "Give a folder with one folder for each system")
    if len(folders) == 1:
        folders = sorted(path for path in folders[0].iterdir() if path.is_dir() and not path.name.startswith("."))
    systems = {folder.resolve().name: folder for folder in folders}
    if len(systems) < len(folders):
        raise UserError(f"systems={text} has one name twice", "a system is called as its folder", "Rename a folder")
    if not 2 <= len(systems) <= MAX_SYSTEMS:
        raise UserError(f"systems={text} gives {len(systems)} systems", f"a comparison shows 2 to {MAX_SYSTEMS}",
                        "Give a folder with one folder for each system, or several folders with commas between")
    return systems


def find_clips(folder: Path) -> dict[str, Path]:
    """What holds each clip of a system, by the clip's name: a film, or a folder of pictures."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        place = _place(path)
        if path.name.startswith(".") or place is None:
            continue
        name = path.name if path.is_dir() else path.stem
        if name in found:
            raise UserError(f"{folder} has the clip {name} twice", f"as {found[name].name} and {path.name}", "Remove one")
        found[name] = place
    return found


def read_frames(place: Path) -> Frames:
    """The frames of a film, or of a folder of pictures in the order of their names; UserError where they cannot be read."""
    frames = _pictures(place) if place.is_dir() else _film(place)
    if len(frames) < 2 or len({frame.shape for frame in frames}) > 1:
        why = "it has fewer than two frames" if len(frames) < 2 else "its pictures have different sizes"
        raise UserError(f"{place} is no film", why, "Remove the clip, or make it again")
    return np.stack(frames)


def write_film(path: Path, frames: Frames, fps: int) -> None:
    """An mp4 without a trace of where it came from: the same frames give the same bytes.

    One x264 thread, bit-exact flags and no macroblock tree, as in the sampler's films. Odd sizes get a copy of the last row or
    column, since 4:2:0 has whole pairs only.
    """
    frames = np.pad(frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)), mode="edge")
    with atomic_path(path) as temporary, av.open(str(temporary), "w", format="mp4",
                                                 options={"fflags": "+bitexact", "movflags": "+faststart"}) as film:
        stream = film.add_stream("libx264", rate=Fraction(fps), options={
            "crf": str(CRF), "threads": "1", "flags": "+bitexact", "x264-params": "mbtree=0"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            film.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        film.mux(stream.encode(None))
    os.utime(path, (MTIME_S, MTIME_S))


def digest(frames: Frames) -> str:
    """Names the picture, whatever file it came in."""
    return hashlib.sha256(f"{frames.shape}".encode() + frames.tobytes()).hexdigest()


def change(frames: Frames) -> float:
    """How much one frame differs from the next, in grey levels of 255, over the whole film."""
    return float(np.mean([np.abs(after.astype(np.int16) - before).mean()
                          for before, after in pairwise(frames)]))


def _place(path: Path) -> Path | None:
    if path.is_file():
        return path if path.suffix.lower() in FILM_SUFFIXES else None
    if not path.is_dir():
        return None
    if (path / "video.mp4").is_file():
        return path / "video.mp4"
    folders = [folder for folder in (path / "frames", path) if folder.is_dir()]
    return next((folder for folder in folders if any(file.suffix.lower() in SUFFIXES for file in folder.iterdir())), None)


def _pictures(folder: Path) -> Sequence[Frames]:
    return [read_picture(path, "systems") for path in list_pictures(folder, "systems")]


def _film(path: Path) -> Sequence[Frames]:
    try:
        with av.open(str(path)) as film:
            return [frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False) for frame in film.decode(video=0)]
    except (av.FFmpegError, IndexError, OSError) as error:
        why = "it has no picture" if isinstance(error, IndexError) else str(error.strerror or error)
        raise UserError(f"{path} cannot be read", why, "Remove the clip, or make it again") from error
