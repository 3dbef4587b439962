"""CLIP_img and CLIP_txt: cosines of CLIP embeddings, frame against frame and frame against caption.

As in ToonCrafter's table: plain cosine, neither times 100 nor clamped (torchmetrics' CLIPScore is both). Its model is not stated;
its numbers fit OpenAI's ViT-B/32, the default here. Preprocessing is CLIP's own: the shorter side to 224, then the centre, so a
wide frame loses its sides. Resizing is bicubic with antialiasing on floats, where Pillow would round to 8 bits in between.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from typing import Protocol as Interface

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.metrics.feature_weights import STAND_IN, exact_convolutions, fill, frozen, randomise, read_weights
from training.metrics.metric import Definition, Direction, Frames, PerClipMetric, Score

if TYPE_CHECKING:
    import open_clip

SIDE_PX = 224
MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
# Public name -> open_clip's architecture: OpenAI's models were trained with the quick approximation of GELU.
ARCHITECTURES: Mapping[str, str] = {"vit_b_32": "ViT-B-32-quickgelu", "vit_l_14": "ViT-L-14-quickgelu"}


class Embedder(Interface):
    """Pictures and captions to vectors of one space."""

    name: str

    def images(self, pixels: Tensor) -> Tensor:
        """[n, 3, 224, 224], normalised with CLIP's mean and deviation -> [n, d]."""

    def texts(self, captions: Sequence[str]) -> Tensor:
        """-> [n, d]."""


class ClipScores(PerClipMetric):
    """Both scores from one pass; frames pass in batches."""

    def __init__(self, embedder: Embedder, weights: str, *, frames: Frames = Frames.ALL, frames_per_batch: int = 16,
                 device: torch.device | str = "cpu") -> None:
        super().__init__(frames=frames, weights=weights)
        self._embedder, self._device, self._frames_per_batch = embedder, device, frames_per_batch
        self.definitions = (
            Definition("clip_img", Direction.HIGHER, -1, 1, f"clip_img_{embedder.name}_cosine",
                       "subject and style, frame by frame; hardly sees blur or small motion"),
            Definition("clip_txt", Direction.HIGHER, -1, 1, f"clip_txt_{embedder.name}_cosine",
                       "agreement with the caption; blind to the order of frames; read it beside the truth's"),
        )

    def score(self, truth: Tensor, generated: Tensor, caption: str) -> tuple[Score, ...]:
        drawn, made = self._images(truth), self._images(generated)
        text = self._embedder.texts([caption]).double().cpu()
        return (Score(frame_cosines(made, drawn).mean().item()),
                Score(frame_cosines(made, text).mean().item(), frame_cosines(drawn, text).mean().item()))

    def _images(self, video: Tensor) -> Tensor:
        with exact_convolutions():
            batches = [self._embedder.images(preprocess(batch.to(self._device, torch.float32))).double().cpu()
                       for batch in video.split(self._frames_per_batch)]
        return torch.cat(batches)


def frame_cosines(a: Tensor, b: Tensor) -> Tensor:
    """Returns the cosines of vectors [..., d], float64 in [-1, 1]; shapes broadcast."""
    a, b = (F.normalize(vectors.double(), dim=-1) for vectors in (a, b))
    return (a * b).sum(-1)


def preprocess(video: Tensor) -> Tensor:
    """Returns CLIP's input [n, 3, 224, 224] from RGB pictures [n, 3, h, w] in [0, 1]."""
    height, width = video.shape[-2:]
    short = min(height, width)
    size = (height * SIDE_PX // short, width * SIDE_PX // short)
    resized = F.interpolate(video, size=size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    # torchvision's centre crop rounds the half pixel to even; so do we.
    top, left = round((size[0] - SIDE_PX) / 2), round((size[1] - SIDE_PX) / 2)
    crop = resized[..., top:top + SIDE_PX, left:left + SIDE_PX]
    mean, deviation = (torch.tensor(values, device=video.device).view(1, 3, 1, 1) for values in (MEAN, DEVIATION))
    return (crop - mean) / deviation


class OpenClipEmbedder:
    """A CLIP model built by open_clip without reading a file; `fill` gives it weights."""

    def __init__(self, name: str, device: torch.device | str = "cpu") -> None:
        import open_clip

        architecture = ARCHITECTURES[name]
        self.name = name
        self.model: open_clip.CLIP = frozen(open_clip.create_model(architecture, pretrained=None, load_weights=False), device)
        self._tokenize = open_clip.get_tokenizer(architecture)
        self._device = device

    @torch.no_grad()
    def images(self, pixels: Tensor) -> Tensor:
        return self.model.encode_image(pixels)

    @torch.no_grad()
    def texts(self, captions: Sequence[str]) -> Tensor:
        return self.model.encode_text(self._tokenize(list(captions)).to(self._device))


class StandInEmbedder:
    """Random convolutions for pictures, a random direction per caption: CLIP_txt is noise, and the protocol says so."""

    name = "stand_in"
    width = 64

    def __init__(self, seed: int = 0, device: torch.device | str = "cpu") -> None:
        network = nn.Sequential(nn.Conv2d(3, 16, 8, 8), nn.ReLU(), nn.Conv2d(16, 32, 4, 4), nn.ReLU(), nn.Flatten(),
                                nn.Linear(32 * 7 * 7, self.width))
        randomise(network, seed)
        self._network, self._seed = frozen(network, device), seed

    @torch.no_grad()
    def images(self, pixels: Tensor) -> Tensor:
        return self._network(pixels)

    def texts(self, captions: Sequence[str]) -> Tensor:
        seeds = (int.from_bytes(hashlib.sha256(f"{self._seed} {caption}".encode()).digest()[:6], "big") for caption in captions)
        return torch.stack([torch.randn(self.width, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def load_clip(name: str, reference: str, device: torch.device | str = "cpu") -> tuple[Embedder, str]:
    """Returns a CLIP model of ARCHITECTURES with weights in open_clip's layout (safetensors or state dict) and their id."""
    tensors, weights = read_weights(reference, f"CLIP_img and CLIP_txt ({name})")
    embedder = OpenClipEmbedder(name, device)
    fill(embedder.model, tensors, source=reference)
    return embedder, weights


def stand_in_clip(seed: int = 0, device: torch.device | str = "cpu") -> tuple[Embedder, str]:
    """Returns the stand-in and the mark that says so."""
    return StandInEmbedder(seed, device), f"{STAND_IN}: clip seed {seed}"
