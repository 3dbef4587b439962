"""FVD and KVD: distances between two sets of clips in the feature space of I3D.

FVD: arXiv 1812.01717. Conventions are LVDM's, whose authors overlap with ToonCrafter's, which does not state its own: frames
resized straight to 224 x 224, logits, unbiased covariance for FVD, the cubic kernel with 1 / 400 for KVD. Few clips bias FVD
upward: below 400 the covariance is singular, 2048 are advised, and only equal numbers of clips may be compared.
"""

import math

import torch
from torch import Tensor, nn

from pipeline.errors import UserError
from training.metrics.distances import frechet_distance, kernel_distance
from training.metrics.feature_weights import STAND_IN, exact_convolutions, fill, frozen, randomise, read_weights
from training.metrics.i3d import MIN_FRAMES, PREPROCESSING, InceptionI3d
from training.metrics.metric import ClipPair, Definition, Direction, Frames, Measured, Result

# An eighth of the width costs about a sixtieth of the time.
STAND_IN_DIVISOR = 8


class VideoDistances:
    """FVD and KVD from one pass; keeps 400 numbers per clip, and pictures of at most `clips_per_batch` pairs."""

    def __init__(self, network: nn.Module, weights: str, *, preprocessing: str = "direct224", frames: Frames = Frames.ALL,
                 clips_per_batch: int = 4, device: torch.device | str = "cpu") -> None:
        self._network = frozen(network, device)
        self._device = device
        self._preprocess = PREPROCESSING[preprocessing]
        self._measured = Measured(frames, weights)
        self._clips_per_batch = clips_per_batch
        self._waiting: list[Tensor] = []                # truth and generated alternate
        self._features: list[Tensor] = []
        self.definitions = (
            Definition("fvd", Direction.LOWER, 0, math.inf, f"fvd_i3d_logits_{preprocessing}_unbiased_f64",
                       "content, sharpness and, less, motion of the whole set; blind to which clip is which"),
            Definition("kvd", Direction.LOWER, -math.inf, math.inf, f"kvd_i3d_logits_{preprocessing}_poly3_unbiased_f64",
                       "as fvd, unbiased in the number of clips; slightly negative for equal sets"),
        )

    def update(self, pair: ClipPair) -> None:
        """Takes a clip; UserError where it is too short for I3D."""
        videos = self._measured.select(pair)
        if len(videos[0]) < MIN_FRAMES:
            raise UserError(f"FVD cannot be measured on {len(videos[0])} frames", f"I3D needs at least {MIN_FRAMES}",
                            "Measure longer clips, or leave FVD and KVD out")
        self._waiting += [self._preprocess(video.to(self._device, torch.float32)) for video in videos]
        if len(self._waiting) >= 2 * self._clips_per_batch:
            self._extract()

    def results(self) -> tuple[Result, ...]:
        """UserError for fewer than two clips: one has no covariance."""
        protocols = [self._measured.protocol(definition.implementation) for definition in self.definitions]
        if self._measured.num_clips < 2:
            raise UserError("FVD cannot be measured on one clip", "a distribution needs at least 2; 2048 are advised",
                            "Add clips to the evaluation set, or leave FVD and KVD out")
        self._extract()
        features = torch.cat(self._features)
        truth, generated = features[0::2], features[1::2]
        values = frechet_distance(generated, truth), kernel_distance(generated, truth)
        return tuple(Result(*parts) for parts in zip(self.definitions, values, protocols, strict=True))

    @torch.no_grad()
    def _extract(self) -> None:
        if self._waiting:
            with exact_convolutions():
                self._features.append(self._network(torch.stack(self._waiting)).double().cpu())
            self._waiting.clear()


def load_i3d(reference: str) -> tuple[InceptionI3d, str]:
    """Returns I3D with public Kinetics-400 weights (the state dict, not the TorchScript file) and their id."""
    tensors, weights = read_weights(reference, "FVD and KVD")
    network = InceptionI3d()
    fill(network, tensors, source=reference)
    return network, weights


def stand_in_i3d(seed: int = 0) -> tuple[InceptionI3d, str]:
    """Returns a thin I3D with random weights and the mark that says so."""
    network = InceptionI3d(width_divisor=STAND_IN_DIVISOR)
    randomise(network, seed)
    return network, f"{STAND_IN}: i3d/{STAND_IN_DIVISOR} seed {seed}"
