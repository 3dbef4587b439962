"""Where a tiny network begins: hardly anything moves, and the picture is nearly the mean of both frames.

Ours, and for small trainings only: a drawn network spends its first hundreds of steps on learning to copy colours. The published
network starts from RAFT's flow and drawn synthesis (arXiv 2104.02495, section 5).
"""

from __future__ import annotations

import torch
from torch import nn

from training.animeinterp.network import AnimeInterp

COLOURS = 3
FAINT = 0.01        # what is left of drawn weights; not 0, or what lies before them would get no gradient. Chosen here


@torch.no_grad()
def start_as_mean(network: AnimeInterp) -> None:
    """Changes a drawn network so that its flow is near 0 and its picture near the mean of what was splatted.

    The first three channels of the top row carry the picture from head to tail, where other blocks add little to them.
    """
    grid = network.synnet
    for block, num_sources in ((grid.residual_model_head, 2), (grid.residual_model_tail, 1)):
        first, second = _convolutions(block)
        _hush(first)
        _hush(second)
        for colour in range(COLOURS):
            for source in range(num_sources):       # colours are not negative, so PReLU lets them pass
                first.weight[colour, colour + COLOURS * source, 1, 1] += 1 / num_sources
            second.weight[colour, colour, 1, 1] += 1.0
    for block in (grid.residual_model_head1, grid.residual_model_01, grid.residual_model_04, grid.residual_model_05,
                  grid.upsample_model_04, grid.upsample_model_05):
        _hush(_convolutions(block)[1])
    _hush(network.flownet.update_block.flow_head.conv2)


def _hush(convolution: nn.Conv2d) -> None:
    """Makes the channels of the picture faint; of a convolution with fewer channels, all."""
    assert convolution.bias is not None
    convolution.weight[:COLOURS] *= FAINT
    convolution.bias[:COLOURS] *= FAINT


def _convolutions(block: nn.Sequential) -> list[nn.Conv2d]:
    return [layer for layer in block if isinstance(layer, nn.Conv2d)]
