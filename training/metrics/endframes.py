"""Fidelity of the end frames: a generator is given the first and the last frame and should give them back.

Not published as a metric; tables that include the end frames in an average hide what they cost or add.
"""

import math

from torch import Tensor

from training.metrics.metric import Definition, Direction, Frames, PerClipMetric, Score
from training.metrics.pixels import psnr


class EndFrames(PerClipMetric):
    definitions: tuple[Definition, ...] = (
        Definition("psnr_first_frame", Direction.HIGHER, 0, math.inf, "psnr_first_frame",
                   "the given first frame; infinite for an exact copy; blind to what lies between"),
        Definition("psnr_last_frame", Direction.HIGHER, 0, math.inf, "psnr_last_frame",
                   "the given last frame; infinite for an exact copy; blind to what lies between"),
    )

    def __init__(self) -> None:
        super().__init__(frames=Frames.ENDS)

    def score(self, truth: Tensor, generated: Tensor, caption: str) -> tuple[Score, ...]:
        first, last = psnr(generated, truth).tolist()
        return Score(first), Score(last)
