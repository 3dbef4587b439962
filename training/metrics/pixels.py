"""PSNR, SSIM and interpolation error, each in the conventions that published tables use.

SSIM: Wang et al. 2004. Its value depends on window, covariance, data range and border as much as on the picture, so each
convention has an id, and results carry it. Arithmetic is float64 unless a convention says otherwise. Pictures are RGB in [0, 1].
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import torch
import torch.nn.functional as F
from torch import Tensor

from training.metrics.metric import Definition, Direction, Frames, PerClipMetric, Score


class Border(StrEnum):
    CROP = "crop"           # windows that lie inside the picture only
    REFLECT = "reflect"     # the picture is reflected without repeating its edge; every pixel counts


@dataclass(frozen=True, slots=True)
class SsimConvention:
    window_px: int
    gaussian_sigma: float | None        # None: a uniform window
    sample_covariance: bool             # n / (n - 1) instead of 1 / n
    data_range: float
    border: Border = Border.CROP
    # torchmetrics: variances below 0 become 0, and float32 throughout. On flat drawings the rounding of both, not the formula,
    # takes 3e-4 off the value, so agreement needs the same precision and the same convolution.
    is_torchmetrics: bool = False


SSIM_CONVENTIONS: Mapping[str, SsimConvention] = {
    "ssim_rgb": SsimConvention(11, 1.5, False, 1.0),
    # On BT.601 luma in 0..255: give one channel.
    "ssim_wang": SsimConvention(11, 1.5, False, 255.0),
    "ssim_tm": SsimConvention(11, 1.5, False, 1.0, Border.REFLECT, True),
    "ssim_uniform7": SsimConvention(7, None, True, 1.0),
    # AnimeInterp's and EISAI's tables: scikit-image once took range 2 for floats unless told, which raises every value.
    "ssim_table1": SsimConvention(7, None, True, 2.0),
}


def psnr(x: Tensor, y: Tensor, *, data_range: float = 1.0) -> Tensor:
    """Returns the peak signal-to-noise ratio of each picture in dB, float64 [n]; infinite where two are equal.

    Shapes: x, y [n, c, h, w]. The mean squared error of a picture is taken before the logarithm, decibels are averaged by the
    caller. (torchmetrics pools the error over the batch first; others write 100 dB for equal pictures.)
    """
    error = (x.double() - y.double()).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(data_range**2 / error)


def interpolation_error(x: Tensor, y: Tensor) -> Tensor:
    """Returns the mean over pixels of the Euclidean RGB distance on the 0..255 scale, float64 [n]; x, y [n, 3, h, w]."""
    return 255 * (x.double() - y.double()).square().sum(1).sqrt().mean(dim=(1, 2))


def ssim(x: Tensor, y: Tensor, convention: SsimConvention) -> Tensor:
    """Returns the structural similarity of each picture, float64 [n] in [-1, 1]: the mean of its map over pixels and channels.

    Shapes: x, y [n, c, h, w] on the scale of `convention.data_range`, except that `ssim_table1` takes [0, 1] under range 2.
    ValueError where a picture is smaller than the window.
    """
    side = convention.window_px
    if min(x.shape[-2:]) < side:
        raise ValueError(f"SSIM needs pictures of at least {side} pixels a side, not {list(x.shape[-2:])}")
    # One picture at a time: five float64 maps of a long clip would not be small.
    return torch.stack([_ssim_of_one(a, b, convention) for a, b in zip(x, y, strict=True)]).double()


def luma_u8(x: Tensor) -> Tensor:
    """Returns the BT.601 luma of RGB pictures [n, 3, h, w] in [0, 1] as uint8 [n, h, w].

    Pictures are rounded to 8 bits first, as if stored; then luma is rounded in exact integers, halves up, so that no machine
    decides ties. (Pillow and OpenCV round in fixed point, numpy as its library adds: a few pixels in ten thousand differ by one.)
    """
    red, green, blue = rounded_u8(x).to(torch.int32).unbind(1)
    return ((299 * red + 587 * green + 114 * blue + 500) // 1000).to(torch.uint8)


def rounded_u8(x: Tensor) -> Tensor:
    """Returns pictures in [0, 1] as uint8, rounded (truncation would darken by half a step)."""
    return (x * 255).round().clamp(0, 255).to(torch.uint8)


def roi_px(region: Mapping[str, float], annotated_px: tuple[int, int], picture_px: tuple[int, int]) -> tuple[int, int, int, int]:
    """Returns ATD-12K's region of motion as (x, y, width, height) in pixels of a picture, rounded down.

    `region` has x, y, width and height in the coordinates of a picture of `annotated_px`; both sizes are (width, height).
    """
    across, down = annotated_px[0] / picture_px[0], annotated_px[1] / picture_px[1]
    return (math.floor(region["x"] / across), math.floor(region["y"] / down),
            math.floor(region["width"] / across), math.floor(region["height"] / down))


class Psnr(PerClipMetric):
    definitions: tuple[Definition, ...] = (
        Definition("psnr", Direction.HIGHER, 0, math.inf, "psnr_per_frame",
                   "difference of pixels; infinite for an exact copy, where some tools write 100; one exact frame makes the mean "
                   "infinite, so read the interior frames where the given ones come back untouched"),
    )

    def score(self, truth: Tensor, generated: Tensor, caption: str) -> tuple[Score, ...]:
        return (Score(psnr(generated, truth).mean().item()),)


class Ssim(PerClipMetric):
    def __init__(self, convention: str = "ssim_rgb", *, frames: Frames = Frames.ALL) -> None:
        super().__init__(frames=frames)
        self._grey = convention == "ssim_wang"
        self._convention = SSIM_CONVENTIONS[convention]
        self.definitions = (
            Definition(convention, Direction.HIGHER, -1, 1, convention,
                       "local structure; compare only under the same convention" +
                       (", this one is inflated" if convention == "ssim_table1" else "")),
        )

    def score(self, truth: Tensor, generated: Tensor, caption: str) -> tuple[Score, ...]:
        if self._grey:
            truth, generated = luma_u8(truth)[:, None], luma_u8(generated)[:, None]
        return (Score(ssim(generated, truth, self._convention).mean().item()),)


class InterpolationError(PerClipMetric):
    definitions: tuple[Definition, ...] = (
        Definition("interpolation_error", Direction.LOWER, 0, 255 * math.sqrt(3), "interpolation_error_rgb255",
                   "mean RGB distance, 0..255 scale, as ATD-12K's code prints it; Middlebury's root mean square differs"),
    )

    def score(self, truth: Tensor, generated: Tensor, caption: str) -> tuple[Score, ...]:
        return (Score(interpolation_error(generated, truth).mean().item()),)


def _ssim_of_one(x: Tensor, y: Tensor, convention: SsimConvention) -> Tensor:
    """SSIM of one picture [c, h, w], a scalar."""
    x, y = (image.float() if convention.is_torchmetrics else image.double() for image in (x, y))
    if convention.border is Border.REFLECT:
        x, y = (F.pad(image[None], (convention.window_px // 2,) * 4, mode="reflect")[0] for image in (x, y))
    maps = _windowed(torch.stack([x, y, x * x, y * y, x * y]), convention)
    mean_x, mean_y, square_x, square_y, product = maps
    count = convention.window_px**2
    factor = count / (count - 1) if convention.sample_covariance else 1.0
    variance_x, variance_y = factor * (square_x - mean_x**2), factor * (square_y - mean_y**2)
    if convention.is_torchmetrics:
        variance_x, variance_y = variance_x.clamp(min=0), variance_y.clamp(min=0)
    covariance = factor * (product - mean_x * mean_y)
    c1, c2 = (0.01 * convention.data_range) ** 2, (0.03 * convention.data_range) ** 2
    upper = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return (upper / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))).mean()


def _windowed(maps: Tensor, convention: SsimConvention) -> Tensor:
    """Weighted means of maps [n, c, h, w] over windows that lie inside them."""
    side, sigma = convention.window_px, convention.gaussian_sigma
    offsets = torch.arange(side, dtype=maps.dtype, device=maps.device) - side // 2
    taps = torch.ones_like(offsets) if sigma is None else torch.exp(-(offsets / sigma).square() / 2)
    taps = taps / taps.sum()
    if convention.is_torchmetrics:
        channels = maps.shape[1]
        return F.conv2d(maps, torch.outer(taps, taps).expand(channels, 1, side, side), groups=channels)
    return _weighted_along(-2, _weighted_along(-1, maps, taps), taps)


def _weighted_along(dim: int, maps: Tensor, taps: Tensor) -> Tensor:
    """Shifted copies added up: several times faster in float64 than torch's convolution, which unfolds."""
    size = maps.shape[dim] - len(taps) + 1
    found = taps[0] * maps.narrow(dim, 0, size)
    for index in range(1, len(taps)):
        found.add_(maps.narrow(dim, index, size), alpha=taps[index].item())
    return found
