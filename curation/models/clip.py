"""CLIP through open_clip: pictures and sentences as unit vectors of one space.

The two halves are built apart, because pictures are embedded long before captions exist. Vectors are normalised here, as
LAION's heads and every cosine want them. A picture is scaled and cut to the middle square as the model's own configuration
says (ViT-L/14: 224 pixels, bicubic).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.models.batches import Batches, choose_device, choose_dtype, finite
from curation.models.config import DeviceName, Precision
from pipeline.errors import UserError, nearest

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

LOCAL = "local"              # architecture "local": open_clip_config.json beside the weights says what the model is


class ImageTower:
    """CLIP's half for pictures."""

    def __init__(self, name: str, weights: Path, *, batch: int, device: DeviceName, precision: Precision) -> None:
        from open_clip.transform import PreprocessCfg, image_transform_v2

        self._device = choose_device(device)
        self._dtype = choose_dtype(precision, self._device)
        self._model: Any = _load(name, weights)
        for part in ("transformer", "token_embedding"):      # the other half's weights
            if hasattr(self._model, part):
                delattr(self._model, part)
        self._model.to(self._device, self._dtype).eval()
        self._prepare = image_transform_v2(PreprocessCfg(**self._model.visual.preprocess_cfg), is_train=False)
        self.batches = Batches(batch)

    def embed(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Unit vectors [n, d] of BGR pictures [h, w, 3]; a picture's vector may hold NaN, which the caller judges."""
        return np.stack(self.batches.run(self._forward, [_to_pillow(picture) for picture in pictures]))

    def _forward(self, images: Sequence[Image]) -> list[NDArray[np.float32]]:
        import torch

        inputs = torch.stack([self._prepare(image) for image in images]).to(self._device, self._dtype)
        with torch.inference_mode():
            found = self._model.encode_image(inputs).float()
            return list(torch.nn.functional.normalize(found, dim=-1).cpu().numpy())


class TextTower:
    """CLIP's half for sentences; it reads 77 tokens and no more."""

    def __init__(self, name: str, weights: Path, *, batch: int, device: DeviceName, precision: Precision) -> None:
        import open_clip

        self._device = choose_device(device)
        self._model: Any = _load(name, weights)
        if hasattr(self._model, "visual"):
            del self._model.visual
        self._model.to(self._device, choose_dtype(precision, self._device)).eval()
        self._tokenize = open_clip.get_tokenizer(_name(name, weights))
        self.batches = Batches(batch)

    def embed(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors [n, d]; NotFinite where the model returns NaN."""
        return np.asarray(finite(np.stack(self.batches.run(self._forward, sentences)), "CLIP's text half"), np.float32)

    def _forward(self, sentences: Sequence[str]) -> list[NDArray[np.float32]]:
        import torch

        tokens = self._tokenize(list(sentences)).to(self._device)
        with torch.inference_mode():
            found = self._model.encode_text(tokens).float()
            return list(torch.nn.functional.normalize(found, dim=-1).cpu().numpy())


def _load(name: str, weights: Path) -> Any:
    """The model with its weights, on the CPU; UserError for an unknown architecture or a file of another model."""
    import open_clip

    from pipeline.weights import load_into, read_tensors

    if name != LOCAL and name not in open_clip.list_models():
        near = nearest(name, open_clip.list_models())
        raise UserError(f"models.clip.name={name} is no architecture of open_clip",
                        fix=f"Did you mean {near}?" if near else "Use ViT-L-14-quickgelu, as the paper")
    logging.disable(logging.WARNING)         # open_clip warns that it loads no weights; we do
    try:
        model: torch.nn.Module = open_clip.create_model(_name(name, weights), load_weights=False)
    finally:
        logging.disable(logging.NOTSET)
    load_into(model, read_tensors(weights), source=str(weights))
    return model


def _name(name: str, weights: Path) -> str:
    return f"local-dir:{weights.parent}" if name == LOCAL else name


def _to_pillow(bgr: NDArray[np.uint8]) -> Image:
    from PIL import Image

    return Image.fromarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
