"""Averaged weights: an exponential moving average of what the optimiser itself updates.

The average is kept in fp32 on each rank's own part of the master weights. It is therefore right under every ZeRO stage
and costs no communication; under ZeRO-3 a change to gathered parameters would be lost.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from training.engine import Engine, read_state, write_state


class Ema:
    """average <- decay * average + (1 - decay) * weights after every update; it begins as the weights, without a warm-up."""

    def __init__(self, engine: Engine, decay: float) -> None:
        """`decay` in (0, 1)."""
        self.engine, self.decay = engine, decay
        self.averages = [master.detach().clone() for master in engine.masters()]

    @torch.no_grad()
    def update(self) -> None:
        torch._foreach_lerp_(self.averages, [master.detach() for master in self.engine.masters()], 1.0 - self.decay)

    def weights(self) -> dict[str, Tensor]:
        """As Engine.weights, of the average; collective. The engine lends its place and has its own weights back after."""
        self._exchange()
        try:
            return self.engine.weights()
        finally:
            self._exchange()

    def save(self, folder: Path) -> None:
        """Writes this rank's part."""
        write_state(folder, {f"average.{index}": average for index, average in enumerate(self.averages)}, {})

    def load(self, folder: Path) -> None:
        found, _ = read_state(folder, {f"average.{index}" for index in range(len(self.averages))})
        for index, average in enumerate(self.averages):
            average.copy_(found[f"average.{index}"])

    @torch.no_grad()
    def _exchange(self) -> None:
        for average, master in zip(self.averages, self.engine.masters(), strict=True):
            lent = master.detach().clone()  # one tensor at a time: a second copy of all would not fit beside a big model
            master.data.copy_(average)
            average.copy_(lent)
        self.engine.publish()
