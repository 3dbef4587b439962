"""CRAFT text detection: EasyOCR's network and post-processing, its weights loaded by us.

EasyOCR's own loader runs pickled code, deletes files whose digest it does not know and downloads others; here the tensors go
into its network class without it. Thresholds are CRAFT's standard ones (text 0.7, link 0.4, low text 0.4).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.models.batches import Batches, NotFinite, choose_device, choose_dtype
from curation.models.config import DeviceName, Precision
from curation.models.detector import Quads

if TYPE_CHECKING:
    import torch

TEXT, LINK, LOW_TEXT = 0.7, 0.4, 0.4


class CraftDetector:
    """CRAFT with its weights."""

    def __init__(self, weights: Path, *, batch: int, side_px: int, device: DeviceName, precision: Precision) -> None:
        """`side_px`: long side of what the network sees."""
        from pipeline.weights import load_into, read_tensors

        with warnings.catch_warnings():          # torchvision's, about an argument that EasyOCR passes
            warnings.simplefilter("ignore")
            from easyocr.craft import CRAFT

            self._model: torch.nn.Module = CRAFT(pretrained=False)
        load_into(self._model, read_tensors(weights), source=str(weights))
        self._device = choose_device(device)
        self._dtype = choose_dtype(precision, self._device)
        self._model.to(self._device).eval()
        self._side_px = side_px
        self.batches = Batches(batch)

    def detect(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Quads | NotFinite]:
        """Outlines of text in BGR pictures [h, w, 3], all of one size."""
        return self.batches.run(self._forward, pictures)

    def _forward(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Quads | NotFinite]:
        from easyocr.detection import get_textbox

        net = _Watched(self._model, self._dtype)
        stack = np.stack([cv2.cvtColor(picture, cv2.COLOR_BGR2RGB) for picture in pictures])
        found = get_textbox(net, stack, canvas_size=self._side_px, mag_ratio=self._side_px / max(stack.shape[1:3]),
                            text_threshold=TEXT, link_threshold=LINK, low_text=LOW_TEXT, poly=False, device=self._device)
        return [NotFinite("CRAFT returned a value that is no number") if is_broken
                else [np.asarray(quad, np.float32).reshape(4, 2) for quad in quads]
                for quads, is_broken in zip(found, net.broken, strict=True)]


class _Watched:
    """Stands for the network in EasyOCR's code: half precision where wanted, and NaN noticed, which would mean "no text"."""

    def __init__(self, model: torch.nn.Module, dtype: torch.dtype) -> None:
        self._model, self._dtype = model, dtype
        self.broken: list[bool] = []

    def __call__(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        half = self._dtype is not torch.float32
        with torch.autocast(inputs.device.type, self._dtype, enabled=half):
            heat, features = self._model(inputs.float())
        heat = heat.float()
        self.broken += [not bool(one.isfinite().all()) for one in heat]
        return heat.nan_to_num(), features
