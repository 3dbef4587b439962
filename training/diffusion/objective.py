"""Training objective of the video model: noise in, squared error of the prediction out, and which conditions are left out.

v-prediction mean squared error without weighting over steps, as in DynamiCrafter's public training code; the ToonCrafter paper
(arXiv 2405.17933) writes noise prediction, its released model predicts v.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from training.diffusion.schedule import Schedule


def diffusion_loss(schedule: Schedule, predict: Callable[[Tensor, Tensor], Tensor], z0: Tensor, noise: Tensor,
                   t: Tensor) -> Tensor:
    """Returns the mean squared error of each sample, [b] float32; their mean is the loss that is minimised.

    Shapes: z0, noise [b, c, f, h, w], z0 clean and not yet rescaled; t [b] int64 in [0, schedule.num_steps).
    `predict(x_t, t)` is the network with its conditions bound; it returns v (or the noise) in x_t's shape, any precision.
    """
    z0 = schedule.scale(z0.float(), t)
    prediction = predict(schedule.add_noise(z0, noise, t), t)
    return (prediction.float() - schedule.target(z0, noise, t)).square().flatten(1).mean(dim=1)


def draw_noise(shape: Sequence[int], generator: torch.Generator, offset_strength: float = 0.0) -> Tensor:
    """Returns standard normal noise [..., h, w] float32 on the generator's device.

    With `offset_strength` every channel of every frame is shifted as a whole by strength * N(0, 1), drawn after the noise.
    """
    noise = torch.randn(*shape, generator=generator, device=generator.device)
    if offset_strength:
        offset = torch.randn(*shape[:-2], 1, 1, generator=generator, device=generator.device)
        noise = noise + offset_strength * offset
    return noise


def condition_drop(u: float, probability: float) -> tuple[bool, bool]:
    """Returns (drop_text, drop_image) of a sample from its uniform draw u in [0, 1).

    With p = `probability`: p lose the text only, p both, p the picture only; so guidance can tell the three apart.
    Source: DynamiCrafter's public training code (p = 0.05). A dropped text is "", a dropped picture is mid-grey.
    """
    return u < 2 * probability, probability <= u < 3 * probability
