"""Classifier-free guidance: how the predictions with and without conditions are combined.

Two branches (arXiv 2207.12598) or three, with a scale of its own for the picture (arXiv 2211.09800); the result's spread can be
pulled back to that of the conditioned prediction (guidance rescale, arXiv 2305.08891 section 3.4).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor


class Branch(StrEnum):
    """A forward pass of the network, named by the conditions it gets. End-frame latents and fps are in all of them."""

    FULL = "full"                   # caption and picture
    IMAGE_ONLY = "image_only"       # empty caption and picture
    UNCOND = "uncond"               # empty caption and all-zero (mid-grey) picture


@dataclass(frozen=True, slots=True)
class Guidance:
    """Settings of guidance. `image_scale` None means two branches, a number three."""

    scale: float = 7.5
    rescale: float = 0.7            # 0: off, 1: the spread of the conditioned prediction
    image_scale: float | None = None

    @property
    def branches(self) -> tuple[Branch, ...]:
        """The passes that are needed: scale 1 needs only the full one (also with three branches, as in the public sampler).

        image_scale 1 needs no unconditional pass: it cancels. (The public sampler fails there.)
        """
        if self.scale == 1:
            return (Branch.FULL,)
        if self.image_scale is None:
            return Branch.FULL, Branch.UNCOND
        return (Branch.FULL, Branch.IMAGE_ONLY) if self.image_scale == 1 else (Branch.FULL, Branch.IMAGE_ONLY, Branch.UNCOND)

    def combine(self, predictions: Mapping[Branch, Tensor]) -> Tensor:
        """Returns the guided prediction of the passes listed by `branches`."""
        full = predictions[Branch.FULL]
        if self.scale == 1:
            return full
        if self.image_scale is None:
            return guide(full, predictions[Branch.UNCOND], self.scale, self.rescale)
        return guide_three(full, predictions[Branch.IMAGE_ONLY], predictions.get(Branch.UNCOND), scale=self.scale,
                           image_scale=self.image_scale, rescale=self.rescale)


def guide(v_cond: Tensor, v_uncond: Tensor | None, scale: float, rescale: float = 0.0) -> Tensor:
    """Returns v_uncond + scale (v_cond - v_uncond), rescaled; scale 1 gives v_cond and needs no v_uncond.

    Shapes: [b, ...] all. Float32, whatever the network's precision: differences are multiplied by the scale.
    """
    if scale == 1:
        return v_cond
    assert v_uncond is not None, "guidance with another scale than 1 needs the unconditional prediction"
    v_cond, v_uncond = v_cond.float(), v_uncond.float()
    return rescale_spread(v_uncond + scale * (v_cond - v_uncond), v_cond, rescale)


def guide_three(v_cond: Tensor, v_image: Tensor, v_uncond: Tensor | None, *, scale: float, image_scale: float,
                rescale: float = 0.0) -> Tensor:
    """Returns v_uncond + image_scale (v_image - v_uncond) + scale (v_cond - v_image), rescaled to v_cond.

    Shapes: [b, ...] all. scale 1 gives v_cond; image_scale 1 needs no v_uncond.
    """
    if scale == 1:
        return v_cond
    v_cond, base = v_cond.float(), v_image.float()
    guided = base + scale * (v_cond - base)
    if image_scale != 1:
        assert v_uncond is not None, "another image scale than 1 needs the unconditional prediction"
        guided = guided + (image_scale - 1) * (base - v_uncond.float())
    return rescale_spread(guided, v_cond, rescale)


def rescale_spread(v: Tensor, v_cond: Tensor, rescale: float) -> Tensor:
    """Returns rescale * (v with v_cond's standard deviation) + (1 - rescale) * v; unbiased deviation over each sample.

    A constant v (a network whose last layer is still zero) has no spread to change and stays.
    """
    if rescale == 0:
        return v
    axes = tuple(range(1, v.ndim))
    spread = v.std(dim=axes, keepdim=True)
    ratio = torch.where(spread > 0, v_cond.std(dim=axes, keepdim=True) / spread, 1.0)
    return (rescale * ratio + (1 - rescale)) * v
