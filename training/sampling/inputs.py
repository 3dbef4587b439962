"""Pictures as a user has them to key frames of a film: read, made plain RGB, resized and cropped.

The crop is the public command line's (spec 6.2): the shorter side is resized to the film's shorter side, then the film is cut
from the middle; where a picture is too narrow, something has to stand beside it. The public programs disagree about that (black
in one, grey in the other, which also shows the uncropped picture to the image encoder); here all is done once, on bytes, and
`framing.pad` and `framing.embedded` are switches. Transparent pictures lie on white paper, as drawings are exported.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.errors import UserError, nearest
from training.sampling.config import Pad

MIN_SIDE_PX = 32                       # chosen here: of smaller pictures nothing is left to enlarge
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")

Pixels = NDArray[np.uint8]             # [H, W, c]


def check_picture(path: Path, option: str) -> None:
    """Raises UserError unless the file is there, is a picture and is large enough; reads only its head."""
    if not path.is_file():
        near = nearest(path.name, [found.name for found in path.parent.iterdir()]) if path.parent.is_dir() else None
        fix = f"Did you mean {path.parent / near}?" if near else "Give a picture"
        raise UserError(f"{option}={path} does not exist", fix=fix)
    try:
        with Image.open(path) as picture:
            width, height = picture.size
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise _unreadable(path, option, error) from error
    if min(width, height) < MIN_SIDE_PX:
        raise UserError(f"{option}={path} is too small", f"it has {width}x{height} pixels and {MIN_SIDE_PX} are the least",
                        "Give a larger picture")


def read_picture(path: Path, option: str) -> Pixels:
    """The picture [H, W, 3] RGB uint8, upright; UserError as check_picture, and where its pixels are damaged."""
    check_picture(path, option)
    try:
        with Image.open(path) as opened:
            picture = ImageOps.exif_transpose(opened)
            if picture.mode.startswith("I"):        # 16 bits a pixel, which PIL would clip instead of scale
                gray = np.asarray(picture, np.float64) / (65535 if np.asarray(picture).max() > 255 else 255)
                return np.repeat((255 * gray.clip(0, 1)).round().astype(np.uint8)[..., None], 3, axis=2)
            if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
                picture = picture.convert("RGBA")
                paper = Image.new("RGBA", picture.size, "white")
                picture = Image.alpha_composite(paper, picture)
            return np.array(picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(path, option, error) from error


def fit(pixels: Pixels, *, width: int, height: int, pad: Pad) -> Pixels:
    """Pictures [H, W, c] uint8 at the film's size [height, width, c]; bilinear with antialiasing, the middle is kept."""
    found_height, found_width = pixels.shape[:2]
    if pad is Pad.NONE:
        scale = max(width / found_width, height / found_height)
        size = max(width, round(found_width * scale)), max(height, round(found_height * scale))
    else:                                           # the longer side is rounded down, as in torchvision's Resize
        short, target = min(found_width, found_height), min(width, height)
        size = int(target * found_width / short), int(target * found_height / short)
    planes = [np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BILINEAR)) for plane in np.moveaxis(pixels, 2, 0)]
    resized = np.stack(planes, axis=2)
    return _cut_or_pad(_cut_or_pad(resized, 0, height, pad), 1, width, pad)


def list_pictures(folder: Path, option: str) -> list[Path]:
    """The pictures of a folder in the order of their names, numbers in them read as numbers; UserError if there are none."""
    if not folder.is_dir():
        near = nearest(folder.name, [found.name for found in folder.parent.iterdir()]) if folder.parent.is_dir() else None
        fix = f"Did you mean {folder.parent / near}?" if near else "Give a folder of pictures"
        raise UserError(f"{option}={folder} is no folder", fix=fix)
    found = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    if not found:
        raise UserError(f"{option}={folder} holds no pictures", f"they end in {', '.join(SUFFIXES)}", "Give another folder")
    return sorted(found, key=lambda path: ([int(part) if part.isdigit() else part.lower()
                                            for part in re.split(r"([0-9]+)", path.stem)], path.name))


def _cut_or_pad(pixels: Pixels, axis: int, length: int, pad: Pad) -> Pixels:
    """One axis to its length, about the middle."""
    missing = length - pixels.shape[axis]
    if missing <= 0:
        start = round(-missing / 2)
        return pixels[start:start + length] if axis == 0 else pixels[:, start:start + length]
    beside = [(0, 0)] * pixels.ndim
    beside[axis] = (missing // 2, (missing + 1) // 2)
    return np.pad(pixels, beside) if pad is Pad.BLACK else np.pad(pixels, beside, mode="reflect")


def _unreadable(path: Path, option: str, error: Exception) -> UserError:
    reason = "it is no picture" if isinstance(error, UnidentifiedImageError) else str(error).strip().rstrip(".")
    return UserError(f"{option}={path} cannot be read", reason, "Give a PNG, JPEG or WebP file")
