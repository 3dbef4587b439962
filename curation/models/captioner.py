"""Captions through transformers: BLIP-2, any other model that turns a picture into text, or a chat model with a question.

Only safetensors are read and no code of a model's folder is run. Decoding is greedy, so the same picture gets the same words.
Some models repeat the question in their answer; it is cut off.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.models.batches import Batches, NotFinite, choose_device, choose_dtype
from curation.models.config import CaptionConfig, CaptionName, DeviceName, Precision
from pipeline.errors import UserError

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image


class Captioner:
    """One captioning model with its processor and tokenizer."""

    def __init__(self, config: CaptionConfig, folder: Path, *, device: DeviceName, precision: Precision) -> None:
        """`precision`: where the captions' own says auto."""
        import transformers

        transformers.utils.logging.disable_progress_bar()
        self._config, self._device = config, choose_device(device)
        wanted = precision if config.precision is Precision.AUTO else config.precision
        self._dtype = choose_dtype(wanted, self._device)
        folder = folder if folder.is_dir() else folder.parent
        local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            self._processor = transformers.AutoProcessor.from_pretrained(folder, **local)
            model: Any = transformers.AutoModelForImageTextToText.from_pretrained(
                folder, use_safetensors=True, dtype=self._dtype, **local, **_eight_bit(wanted, self._device))
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise UserError(f"models.caption.weights={folder} cannot be used", str(error).strip().splitlines()[0],
                            "Give a folder as transformers saves it, with processor and tokenizer") from error
        self._model = (model if wanted is Precision.INT8 else model.to(self._device)).eval()
        tokenizer = getattr(self._processor, "tokenizer", self._processor)
        tokenizer.padding_side = "left"          # what is written next must follow the question, not the padding
        self.batches = Batches(config.batch)

    def caption(self, pictures: Sequence[NDArray[np.uint8]]) -> list[str | NotFinite]:
        """A sentence for each BGR picture [h, w, 3]; "" where the model says nothing, NotFinite where it computes nothing."""
        from PIL import Image

        return self.batches.run(self._forward, [Image.fromarray(cv2.cvtColor(one, cv2.COLOR_BGR2RGB)) for one in pictures])

    def _forward(self, images: Sequence[Image]) -> list[str | NotFinite]:
        import torch
        from transformers import LogitsProcessorList

        inputs = self._inputs(list(images))
        watch = _WatchNan(len(images))
        with torch.inference_mode():
            tokens = self._model.generate(**inputs, do_sample=False, num_beams=1, max_new_tokens=self._config.max_tokens,
                                          logits_processor=LogitsProcessorList([watch]))
        if self._config.name is CaptionName.CHAT:
            tokens = tokens[:, inputs["input_ids"].shape[1] :]
        spoken = self._processor.batch_decode(tokens, skip_special_tokens=True)
        return [NotFinite("the captioner returned a value that is no number") if is_broken
                else without_prompt(text, self._config.prompt) for text, is_broken in zip(spoken, watch.broken(), strict=True)]

    def _inputs(self, images: list[Image]) -> dict[str, torch.Tensor]:
        if self._config.name is CaptionName.CHAT:
            talk = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": self._config.prompt}]}]
            question = self._processor.apply_chat_template(talk, add_generation_prompt=True)
            made = self._processor(images=[[image] for image in images], text=[question] * len(images), padding=True,
                                   return_tensors="pt")
        elif self._config.prompt:
            made = self._processor(images=images, text=[self._config.prompt] * len(images), padding=True, return_tensors="pt")
        else:
            made = self._processor(images=images, return_tensors="pt")
        return {name: value.to(self._device, self._dtype) if value.is_floating_point() else value.to(self._device)
                for name, value in made.items()}


class _WatchNan:
    """Notes which sentences were chosen from numbers that are none: the largest of NaN is a word like any other."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._broken: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        found = scores.isnan().any(dim=-1)
        self._broken = found if self._broken is None else self._broken | found
        return scores

    def broken(self) -> list[bool]:
        return [False] * self._count if self._broken is None else [bool(value) for value in self._broken.cpu()]


def without_prompt(text: str, prompt: str) -> str:
    """What was said, in one line, without the question that some models repeat."""
    words = " ".join(text.split())
    asked = " ".join(prompt.split())
    return words[len(asked) :].strip() if asked and words.lower().startswith(asked.lower()) else words


def _eight_bit(wanted: Precision, device: torch.device) -> dict[str, object]:
    if wanted is not Precision.INT8:
        return {}
    from importlib.util import find_spec

    if device.type != "cuda" or find_spec("bitsandbytes") is None:
        raise UserError("models.caption.precision=int8 cannot be used", "it needs a GPU and the package bitsandbytes",
                        "Use models.caption.precision=auto")
    from transformers import BitsAndBytesConfig

    return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
