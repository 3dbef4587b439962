"""Pictures of any size to the size of a sample: the shorter side is resized, the longer one cropped about the middle."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional


def cover(pictures_u8: NDArray[np.uint8], *, width: int, height: int) -> NDArray[np.uint8]:
    """Pictures [n, h, w, c] uint8 as [n, height, width, c]; nothing is stretched, the middle is kept.

    Bilinear with antialiasing, in uint8: frames are 8-bit anyway, and of the calls that do not alias this one is the fastest
    (16 frames of 1280x720 to 512x320 on one core: 13 ms; OpenCV's area average 44 ms; the same call in float32 245 ms).
    """
    num, found_height, found_width, channels = pictures_u8.shape
    scale = max(width / found_width, height / found_height)
    scaled_width, scaled_height = max(width, round(found_width * scale)), max(height, round(found_height * scale))
    if (scaled_width, scaled_height) != (found_width, found_height):
        planes = torch.from_numpy(np.ascontiguousarray(pictures_u8)).permute(0, 3, 1, 2)
        planes = functional.interpolate(planes, (scaled_height, scaled_width), mode="bilinear", antialias=True,
                                        align_corners=False)
        pictures_u8 = planes.permute(0, 2, 3, 1).numpy()
    left, top = (scaled_width - width) // 2, (scaled_height - height) // 2
    return pictures_u8[:, top : top + height, left : left + width].reshape(num, height, width, channels)
