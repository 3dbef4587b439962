"""Folders of numbered pictures as films: reading one picture, and checking that all have one size."""

from __future__ import annotations

import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from curation.ledger import Access, Probe


class MixedPictures(Exception):
    """Pictures that cannot be one film; the text is a sentence for the ledger."""


def read_picture(path: Path) -> np.ndarray:
    """Returns uint8 [h, w, 3] RGB; 16-bit pictures are cut to 8 bit, transparent ones lie on white."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(path) as image:
            if image.mode.startswith("I;16") or image.mode == "I":  # Pillow's modes of 16-bit gray
                gray_u8 = (np.asarray(image).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8)
                return np.repeat(gray_u8[:, :, None], 3, axis=2)
            if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
                rgba = image.convert("RGBA")
                white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
                return np.array(Image.alpha_composite(white, rgba).convert("RGB"))
            return np.array(image.convert("RGB"))


def probe_pictures(access: Access, fps: float, max_pixels: int) -> Probe:
    """Reads the headers of all pictures, so that a folder of mixed sizes is refused before any decoding."""
    size: tuple[int, int] | None = None
    first_name = codec = ""
    for name in access.pictures:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                with Image.open(Path(access.path, name)) as image:
                    found, kind = image.size, (image.format or "").lower()
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue
        if size is None:
            size, first_name, codec = found, name, kind
        elif found != size:
            raise MixedPictures(f"pictures of different sizes: {first_name} is {size[0]}x{size[1]}, "
                                   f"{name} is {found[0]}x{found[1]}")
    if size is None:
        raise MixedPictures("none of its pictures can be read")
    if size[0] * size[1] > max_pixels:
        raise MixedPictures(f"pictures of {size[0]}x{size[1]} exceed curation.sources.max_pixels={max_pixels}")
    tick_s = 1 / Fraction(fps).limit_denominator(1001)
    return Probe(
        container="pictures", codec=codec, pix_fmt="rgb24", bit_depth=8, width=size[0], height=size[1],
        rotation_deg=0, sample_aspect=Fraction(1), fps=fps, duration_s=float(len(access.pictures) * tick_s),
        time_base=tick_s, color_range="pc", has_audio=False,
    )
