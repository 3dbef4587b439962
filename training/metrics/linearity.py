"""RRLD: how far a triplet of frames is from moving in straight lines at even speed. Judges data rather than generators.

Source: EISAI (arXiv 2111.12792), its mining of triplets from films. Used to say which evaluation clips ask for more than a mean.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

MOVING_PX = 2.0
PAN_COVERAGE, PAN_LENGTH_PX, PAN_DEVIATION_PX = 0.5, 0.25, 0.25
MIN_COVERAGE, MAX_DEVIATION = 0.0025, 0.3


@dataclass(frozen=True, slots=True)
class Linearity:
    coverage: float             # share of the frame that moves and stays inside, [0, 1]
    is_pan: bool                # the camera moves, or nearly everything does
    deviation: float            # RRLD, 0 for even straight motion; NaN where nothing moves

    @property
    def covers_enough(self) -> bool:
        return self.coverage > MIN_COVERAGE

    @property
    def is_linear(self) -> bool:
        """Whether a triplet is kept: a mean of its neighbours is about where its middle belongs."""
        return self.covers_enough and not self.is_pan and self.deviation < MAX_DEVIATION


def measure_linearity(to_previous: Tensor, to_next: Tensor) -> Linearity:
    """Measures flows [2, h, w] as (row, column) in pixels, from the middle frame to its neighbours.

    The published limits are for 360 x 640 frames.
    """
    a, b = to_previous.double(), to_next.double()
    length_a, length_b = torch.linalg.vector_norm(a, dim=0), torch.linalg.vector_norm(b, dim=0)
    valid = ((length_a > MOVING_PX) | (length_b > MOVING_PX)) & _lands_inside(a) & _lands_inside(b)
    coverage = valid.double().mean().item()
    drifts = [length.mean() > PAN_LENGTH_PX and flow.flatten(1).std(dim=1, correction=0).min() < PAN_DEVIATION_PX
              for flow, length in ((a, length_a), (b, length_b))]
    off_centre = torch.linalg.vector_norm((a + b) / 2, dim=0)
    span = torch.linalg.vector_norm(a - b, dim=0)
    return Linearity(coverage, coverage > PAN_COVERAGE or any(drifts), (off_centre / span)[valid].mean().item())


def _lands_inside(flow: Tensor) -> Tensor:
    height, width = flow.shape[-2:]
    rows = torch.arange(height, device=flow.device)[:, None] + flow[0]
    columns = torch.arange(width, device=flow.device) + flow[1]
    return (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
