"""What is measured and made, on disk: a record of numbers for each system and clip, and the made frames as PNG.

Layout below the run's folder: measured/<2 digits>/<key>.json with the numbers by metric key, and frames/<system>/<clip>/0001.png
... with made.json, which is written last and holds the key of what made them. All files appear by rename, and a clip belongs to
one rank, so whatever stops a run, the same command goes on with what is missing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pipeline.records import Json, atomic_path, read_json, write_json
from training.evaluation.samples import to_unit

SCHEMA = 1
MEASURED, FRAMES, MADE = "measured", "frames", "made.json"


def record_path(out: Path, key: str) -> Path:
    return out / MEASURED / key[:2] / f"{key}.json"


def read_numbers(out: Path, key: str) -> dict[str, Any]:
    """The numbers of a system and clip by metric key; none where nothing was measured. UserError for a damaged record."""
    path = record_path(out, key)
    if not path.is_file():
        return {}
    found = read_json(path, SCHEMA)["numbers"]
    assert isinstance(found, dict)
    return found


def write_numbers(out: Path, key: str, about: dict[str, Json], numbers: dict[str, Any]) -> None:
    write_json(record_path(out, key), {"schema": SCHEMA, "about": about, "numbers": numbers})


def rounded(video: Tensor) -> Tensor:
    """A video in [0, 1] as if it had been stored with 8 bits."""
    return to_bytes(video).float().div(255)


def to_bytes(video: Tensor) -> Tensor:
    return (video.float() * 255).round().clamp(0, 255).to(torch.uint8)


def frames_folder(out: Path, system: str, clip: str) -> Path:
    return out / FRAMES / system / clip


def write_frames(folder: Path, key: str, video: Tensor) -> None:
    """Writes a video [t, 3, h, w] in [0, 1] as PNG files; what was there before is no longer whole from the first file on."""
    (folder / MADE).unlink(missing_ok=True)
    pictures = to_bytes(video.cpu()).permute(0, 2, 3, 1).numpy()
    names = [f"{index:04d}.png" for index in range(1, len(pictures) + 1)]
    for name, picture in zip(names, pictures, strict=True):
        with atomic_path(folder / name) as temporary:
            Image.fromarray(picture).save(temporary, format="PNG")
    for stale in folder.glob("[0-9][0-9][0-9][0-9].png"):
        if stale.name not in names:
            stale.unlink()
    write_json(folder / MADE, {"schema": SCHEMA, "key": key, "files": names})


def has_frames(folder: Path, key: str) -> bool:
    return (folder / MADE).is_file() and read_json(folder / MADE, SCHEMA).get("key") == key


def read_bytes(folder: Path) -> NDArray[np.uint8]:
    """The frames of a folder that has_frames, [t, h, w, 3]."""
    files = read_json(folder / MADE, SCHEMA)["files"]
    assert isinstance(files, list)
    pictures = []
    for name in files:
        with Image.open(folder / str(name)) as picture:
            pictures.append(np.array(picture.convert("RGB")))
    return np.stack(pictures)


def read_frames(folder: Path) -> Tensor:
    """The same as [t, 3, h, w] float32 in [0, 1]."""
    return to_unit(read_bytes(folder))
