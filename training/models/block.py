"""What the blocks of the UNet and of the sketch encoder are made of: layers that see more than the features they transform.

Features are always folded, [(b t), c, h, w] batch-major, so that plain 2-D layers need no care; layers that look across
frames unfold them with `Conditions.num_frames`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pipeline.errors import UserError, nearest

CHECKPOINTING = ("none", "all", "selective")
# Down-sampling factors of selective checkpointing. In the public model at 512 x 320 these levels hold 87 % of the activations
# (38 GiB a clip in bf16, 5 GiB of it elsewhere) and 66 % of the computation: each level has a quarter of the tokens of the one
# above, but twice the channels.
SELECTIVE_FACTORS = (1, 2)


@dataclass(frozen=True, slots=True)
class Conditions:
    """What every layer of one pass may look at besides the features."""

    embedding: Tensor            # of the diffusion step (and the fps), [(b t), E], float32
    context: Tensor              # tokens each frame attends to, [(b t), n, D]
    num_frames: int              # t
    bypass_temporal: bool = False  # layers that look across frames do nothing


class ConditionedLayer(nn.Module):
    """A layer that uses `Conditions`; recomputes its activations in the backward pass where `checkpointing` is on.

    Subclasses define `compute(x, conditions)`; x and the result are folded features.
    """

    checkpointing = False

    def forward(self, x: Tensor, conditions: Conditions) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            # Not reentrant: the reentrant kind drops gradients where x needs none. Random state is replayed for dropout.
            found: Tensor = checkpoint(self.compute, x, conditions, use_reentrant=False)
            return found
        return self.compute(x, conditions)

    def compute(self, x: Tensor, conditions: Conditions) -> Tensor:
        raise NotImplementedError


class Block(nn.ModuleList):
    """Layers that run one after the other at one resolution, `factor` times smaller than the input (at the block's start)."""

    def __init__(self, layers: Iterable[nn.Module], *, factor: int) -> None:
        super().__init__(layers)
        self.factor = factor

    def forward(self, x: Tensor, conditions: Conditions) -> Tensor:
        for layer in self:
            x = layer(x, conditions) if isinstance(layer, ConditionedLayer) else layer(x)
        return x


def set_checkpointing(module: nn.Module, which: str, *, selective_factors: Collection[int] = SELECTIVE_FACTORS) -> None:
    """Chooses the layers of `module` whose activations are recomputed: none | all | selective.

    selective: those of the blocks at the down-sampling factors `selective_factors`.
    """
    if which not in CHECKPOINTING:
        meant = nearest(which, CHECKPOINTING)
        raise UserError(f"checkpointing={which} is unknown", f"choices are {', '.join(CHECKPOINTING)}",
                        f"Did you mean {meant}?" if meant else "")
    for block in module.modules():
        if isinstance(block, Block):
            chosen = which == "all" or (which == "selective" and block.factor in selective_factors)
            for layer in block:
                if isinstance(layer, ConditionedLayer):
                    layer.checkpointing = chosen
