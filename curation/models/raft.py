"""RAFT optical flow through torchvision: raft_small and raft_large.

Its sides must be multiples of 8 and at least 128 pixels. On black and plain areas it invents motion, more than classical flow
does: whoever reads its flow must ask first whether the picture changed there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from curation.models.batches import Batches, choose_device, choose_dtype
from curation.models.config import DeviceName, FlowName, Precision

if TYPE_CHECKING:
    import torch

STEP_PX, MIN_SIDE_PX = 8, 128
Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]           # RGB [h, w, 3], both of one size


class RaftFlow:
    """One of the two networks with its weights."""

    def __init__(self, name: FlowName, weights: Path, *, batch: int, updates: int, device: DeviceName, precision: Precision
                 ) -> None:
        from torchvision.models import optical_flow

        from pipeline.weights import load_into, read_tensors

        build = optical_flow.raft_large if name is FlowName.RAFT_LARGE else optical_flow.raft_small
        self._model: torch.nn.Module = build(weights=None)
        load_into(self._model, read_tensors(weights), source=str(weights))
        self._device, self._updates = choose_device(device), updates
        self._dtype = choose_dtype(precision, self._device)
        self._model.to(self._device).eval()
        self.batches = Batches(batch)

    def flow(self, pairs: Sequence[Pair]) -> list[NDArray[np.float32]]:
        """Flow [h, w, 2] (right, down) in pixels from the first to the second of each pair; all pairs of one size."""
        return self.batches.run(self._forward, pairs)

    def _forward(self, pairs: Sequence[Pair]) -> list[NDArray[np.float32]]:
        import torch

        old, new = (torch.from_numpy(np.stack(side)).to(self._device).permute(0, 3, 1, 2).float() / 127.5 - 1.0
                    for side in zip(*pairs, strict=True))
        half = self._dtype is not torch.float32
        with torch.inference_mode(), torch.autocast(self._device.type, self._dtype, enabled=half):
            found = self._model(old.contiguous(), new.contiguous(), num_flow_updates=self._updates)[-1]
        return list(found.permute(0, 2, 3, 1).float().cpu().numpy())


def fit_size(width: float, height: float, side_px: int) -> tuple[int, int]:
    """(width, height) with the long side near `side_px`, both multiples of 8 that RAFT takes."""
    scale = side_px / max(width, height)
    fitted = (max(MIN_SIDE_PX, STEP_PX * round(side * scale / STEP_PX)) for side in (width, height))
    return next(fitted), next(fitted)
