"""Anime2Sketch: line art by a UNet that halves its picture eight times (Xiang et al.; the generator of pix2pix).

Names of the weights are those of the published netG.pth, whose network is pix2pix's UnetGenerator (3 channels in, 1 out, 64
filters, instance norm without weights): `model.model.0` is the outermost convolution, `model.model.1.model.1` the next one, and
so on inwards. Input RGB in [-1, 1], sides multiples of 256; output in [-1, 1], 1 paper, -1 line.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.models.batches import Batches, NotFinite, choose_device, choose_dtype
from curation.models.config import DeviceName, Precision

if TYPE_CHECKING:
    import torch
    from torch import nn

DOWNS, FILTERS = 8, 64


def build_network(filters: int = FILTERS, downs: int = DOWNS) -> nn.Module:
    """The network with random weights; its state has the published names."""
    import torch
    from torch import nn

    def norm(channels: int) -> nn.Module:
        return nn.InstanceNorm2d(channels, affine=False, track_running_stats=False)

    class Level(nn.Module):
        """One halving and doubling with what lies deeper between; beside the outermost it hands its input on, too."""

        def __init__(self, outer: int, inner: int, deeper: nn.Module | None, *, is_outermost: bool = False) -> None:
            super().__init__()
            self.is_outermost = is_outermost
            down = nn.Conv2d(3 if is_outermost else outer, inner, 4, 2, 1)
            up = nn.ConvTranspose2d(inner if deeper is None else 2 * inner, 1 if is_outermost else outer, 4, 2, 1)
            if deeper is None:
                parts = [nn.LeakyReLU(0.2), down, nn.ReLU(), up, norm(outer)]
            elif is_outermost:
                parts = [down, deeper, nn.ReLU(), up, nn.Tanh()]
            else:
                parts = [nn.LeakyReLU(0.2), down, norm(inner), deeper, nn.ReLU(), up, norm(outer)]
            self.model = nn.Sequential(*parts)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            made: torch.Tensor = self.model(x)
            return made if self.is_outermost else torch.cat([x, made], dim=1)

    class Generator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            level: nn.Module = Level(8 * filters, 8 * filters, None)
            for _ in range(downs - 5):
                level = Level(8 * filters, 8 * filters, level)
            for outer in (4 * filters, 2 * filters, filters):
                level = Level(outer, 2 * outer, level)
            self.model = Level(1, filters, level, is_outermost=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            made: torch.Tensor = self.model(x)
            return made

    return Generator()


class Anime2Sketch:
    """The network with its weights."""

    def __init__(self, weights: Path, *, batch: int, side_px: int, device: DeviceName, precision: Precision) -> None:
        from pipeline.weights import load_into, read_tensors

        self._model = build_network()
        load_into(self._model, read_tensors(weights), source=str(weights))
        self._device = choose_device(device)
        self._dtype = choose_dtype(precision, self._device)
        self._model.to(self._device).eval()
        self._side_px = side_px
        self.batches = Batches(batch)

    def draw(self, frames: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8] | NotFinite]:
        """Line drawings [h, w] uint8, 255 paper and 0 line, of RGB frames [h, w, 3]."""
        return self.batches.run(self._forward, frames)

    def _forward(self, frames: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8] | NotFinite]:
        import torch

        square = (self._side_px, self._side_px)
        stack = np.stack([cv2.resize(frame, square, interpolation=cv2.INTER_CUBIC) for frame in frames])
        inputs = torch.from_numpy(stack).to(self._device).permute(0, 3, 1, 2).float() / 127.5 - 1.0
        half = self._dtype is not torch.float32
        with torch.inference_mode(), torch.autocast(self._device.type, self._dtype, enabled=half):
            found = self._model(inputs.contiguous())[:, 0].float().cpu().numpy()
        return [to_paper(one, frame.shape[:2]) for one, frame in zip((found + 1.0) / 2.0, frames, strict=True)]


def to_paper(line: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.uint8] | NotFinite:
    """A drawing in 0..1 (1 paper) as uint8 of the picture's size, `shape` (rows, columns)."""
    if not np.isfinite(line).all():
        return NotFinite("the line extractor returned a value that is no number")
    sized = cv2.resize(np.clip(line, 0.0, 1.0), (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.clip(np.round(255.0 * sized), 0, 255).astype(np.uint8)
