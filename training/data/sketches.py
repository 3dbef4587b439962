"""Line drawings of the frames a sketch encoder is shown: read from the sample, or drawn here from the frames.

ToonCrafter draws with Anime2Sketch. Here paper is 255 and lines are 0 in bytes; a batch holds the inverse, strokes 1 on 0, so an
empty sketch is all zeros. The drawing below is that of the curation's opencv profile, made again because the two parts never
import each other; a test compares them.
"""

from __future__ import annotations

import io
import zipfile
import zlib

import cv2
import numpy as np
from numpy.typing import NDArray

_MEMBER = "sketch.npy"
_REFERENCE_PX = 320          # shorter side for which the radii are meant
_SIGMA_PX, _RATIO = 0.8, 1.6
_GAIN, _LEVEL = 18.0, 0.010  # steepness of the soft threshold, and the response at which a pixel is half line
_MIN_SPECK_PX = 12


def read_sketches(npz: bytes, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Drawings of frames `indices`, in their order, [n, h, w] uint8, from the sketch.npz of a sample.

    Reads no further than the last of them. ValueError where the file is damaged or ends before an index.
    """
    wanted = {int(index) for index in indices}
    found: dict[int, NDArray[np.uint8]] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(npz)) as folder, folder.open(_MEMBER) as file:
            np.lib.format.read_magic(file)
            shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
            if len(shape) != 3 or is_fortran or dtype != np.uint8:
                raise ValueError(f"it holds {dtype} {shape}, not uint8 [frames, height, width]")
            for index in range(max(wanted, default=-1) + 1):
                data = file.read(shape[1] * shape[2])
                if len(data) != shape[1] * shape[2]:
                    raise ValueError(f"it has no frame {index}")
                if index in wanted:
                    found[index] = np.frombuffer(data, np.uint8).reshape(shape[1:])
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError) as error:
        raise ValueError(f"its sketch.npz cannot be read ({error})") from error
    return np.stack([found[int(index)] for index in indices])


def draw_sketch(rgb_u8: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Line drawing [h, w] uint8 of a picture [h, w, 3] uint8: an extended difference of Gaussians (Winnemoeller 2012)."""
    gray = np.asarray(cv2.cvtColor(np.ascontiguousarray(rgb_u8), cv2.COLOR_RGB2GRAY), np.uint8)
    return draw_lines(gray)


def draw_lines(gray_u8: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same of a luma picture [h, w] uint8."""
    scale = max(1.0, min(gray_u8.shape) / _REFERENCE_PX)
    sigma = _SIGMA_PX * scale
    flat = np.asarray(cv2.bilateralFilter(gray_u8, d=5, sigmaColor=20.0, sigmaSpace=2.0), np.float32) / 255.0
    inner, outer = (np.asarray(cv2.GaussianBlur(flat, (0, 0), width)) for width in (sigma, sigma * _RATIO))
    response = np.maximum(outer - inner, 0.0)
    lines = 0.5 + 0.5 * np.tanh(_GAIN / _LEVEL * (response - _LEVEL) / 4.0)
    paper = np.round(255.0 * (1.0 - lines)).astype(np.uint8)
    # Specks: connected areas that are darker than paper and have too few pixels darker than middle grey.
    _, areas = cv2.connectedComponents((paper < 250).astype(np.uint8), connectivity=8)
    num_dark = np.bincount(areas.ravel(), weights=(paper < 128).ravel())
    is_kept = num_dark >= round(_MIN_SPECK_PX * scale * scale)
    is_kept[0] = False
    return np.where(is_kept[areas], paper, np.uint8(255)).astype(np.uint8)
