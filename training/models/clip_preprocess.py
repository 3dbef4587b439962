"""Image preprocessing of the OpenCLIP image tower as the public models were trained with it: blur, bicubic resize, normalise.

The blur and resize follow the antialiased resize of the kornia library (the sizes of the blur are its rule), written with plain
torch: a weighted sum of shifted pictures stays float32 under autocast and on a GPU, where a convolution would not.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def preprocess(image: Tensor, side_px: int = 224) -> Tensor:
    """Returns what the image tower sees: the whole picture squeezed into a square (aspect ratio ignored), CLIP-normalised.

    Shapes: image [b, 3, H, W] RGB in [-1, 1], any size -> [b, 3, side_px, side_px] float32.
    """
    resized = resize_antialiased(image.float(), side_px)        # half precision would shift colours
    mean, std = (resized.new_tensor(values).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    return ((resized + 1) / 2 - mean) / std


def resize_antialiased(image: Tensor, side_px: int) -> Tensor:
    """Bicubic resize with aligned corners; when either axis shrinks, after a Gaussian blur that suits each axis.

    Shapes: image [b, c, H, W] -> [b, c, side_px, side_px].
    """
    factors = [size / side_px for size in image.shape[-2:]]
    if max(factors) > 1:
        for axis, factor in zip((-2, -1), factors, strict=True):
            image = _blur(image, axis, sigma_px=max((factor - 1) / 2, 0.001))
    return F.interpolate(image, size=(side_px, side_px), mode="bicubic", align_corners=True)


def _blur(image: Tensor, axis: int, *, sigma_px: float) -> Tensor:
    """Gaussian along one axis, mirrored at the border (the border pixel is not repeated)."""
    radius = int(max(4 * sigma_px, 3)) // 2         # an even width is widened by one: width = 2 * radius + 1
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32, device=image.device)
    weights = torch.exp(-offsets.square() / (2 * sigma_px ** 2))
    weights = weights / weights.sum()
    pad = (radius, radius, 0, 0) if axis == -1 else (0, 0, radius, radius)
    padded = F.pad(image, pad, mode="reflect")
    blurred = torch.zeros_like(image)
    for index, weight in enumerate(weights):
        blurred += weight * padded.narrow(axis, index, image.shape[axis])
    return blurred
