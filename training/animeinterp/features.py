"""VGG-19 features of colour pieces: each piece is the mean of the feature maps over its pixels, at four strides.

Source: arXiv 2104.02495, section 4.1 (super-pixel pooling of VGG-19); the release taps other layers, see TAPS. Weights are
torchvision's ImageNet file, by reference, or a seeded stand-in: a thin random network, which still tells colours and their
surroundings apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor, nn

from pipeline import weights
from training.animeinterp.behaviour import EXACT, Behaviour, Effort

# The layer of each tap within torchvision's `features`.
TAPS: Mapping[Behaviour, tuple[int, int, int, int]] = {
    Behaviour.PAPER: (3, 8, 17, 26),            # relu1_2, relu2_2, relu3_4, relu4_4
    Behaviour.RELEASED: (1, 6, 11, 20),         # relu1_1, relu2_1, relu3_1, relu4_1
}
STAGES = ((2, 64), (2, 128), (4, 256), (4, 512))
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STAND_IN_DIVISOR = 8


class Vgg19Features(nn.Module):
    """The four feature maps of a picture; weights mean nothing until loaded or drawn.

    Keys are `features.*` as in torchvision, up to the last tap. `identity` names weights and layers in keys of caches.
    """

    def __init__(self, behaviour: Behaviour = Behaviour.RELEASED, *, width_divisor: int = 1, identity: str = "unset") -> None:
        super().__init__()
        self.taps = TAPS[behaviour]
        self.identity = f"{identity}, taps {self.taps}"
        layers: list[nn.Module] = []
        channels = 3
        for num_convolutions, full_width in STAGES:
            layers += [nn.MaxPool2d(2)] if layers else []
            for _ in range(num_convolutions):
                layers += [nn.Conv2d(channels, full_width // width_divisor, 3, padding=1), nn.ReLU()]
                channels = full_width // width_divisor
        self.features = nn.Sequential(*layers[:self.taps[-1] + 1])

    def forward(self, image: Tensor) -> list[Tensor]:
        """Returns maps [n, c_i, h / 2^i, w / 2^i] of normalised RGB pictures [n, 3, h, w]."""
        found = []
        for index, layer in enumerate(self.features):
            image = layer(image)
            if index in self.taps:
                found.append(image)
        return found

    @torch.inference_mode()
    def pooled(self, bgr_u8: NDArray[np.uint8], labels: NDArray[np.int32], effort: Effort = EXACT) -> NDArray[np.float64]:
        """Returns the features [K, N] of the pieces 0 .. K - 1 of a picture [h, w, 3], given their labels [h, w]."""
        for _ in range(effort.halvings):
            half = (bgr_u8.shape[1] // 2, bgr_u8.shape[0] // 2)
            bgr_u8 = np.asarray(cv2.resize(bgr_u8, half, interpolation=cv2.INTER_AREA), np.uint8)
        rgb = (bgr_u8[..., ::-1] / np.float32(255) - np.array(MEAN, np.float32)) / np.array(DEVIATION, np.float32)
        weight = next(self.parameters())
        image = torch.from_numpy(rgb).permute(2, 0, 1)[None].to(weight.device, memory_format=torch.channels_last)
        with torch.autocast(weight.device.type, torch.bfloat16, enabled=effort.is_bfloat16):
            maps = self(image)
        return pool([found[0] for found in maps], labels, first_halvings=effort.halvings)


def pool(maps: Sequence[Tensor], labels: NDArray[np.int32], *, first_halvings: int = 0) -> NDArray[np.float64]:
    """Returns the mean of each map [c, h / 2^i, w / 2^i] over each label, scales joined: [K, sum of c].

    Label maps keep odd rows and columns at each halving; a label that is lost on the way has zeros there. The first map
    lies `first_halvings` halvings below the labels.
    """
    num = int(labels.max()) + 1
    for _ in range(first_halvings):
        labels = labels[1::2, 1::2]
    found = []
    for channels in maps:
        values = channels.permute(1, 2, 0).float().cpu().reshape(-1, channels.shape[0]).numpy()
        assert len(values) == labels.size, f"features of {tuple(channels.shape[1:])} on labels of {labels.shape}"
        found.append(_means(values, labels.ravel(), num))
        labels = labels[1::2, 1::2]
    return np.concatenate(found, axis=1)


def _means(values: NDArray[np.float32], labels: NDArray[np.int32], num: int) -> NDArray[np.float64]:
    """Returns the means [num, c] of values [p, c] over labels [p]: runs of one label first, so that float32 sums stay short."""
    starts = np.concatenate([[0], np.flatnonzero(np.diff(labels)) + 1])
    ends = np.append(starts, len(labels))
    runs = csr_array((np.ones(len(labels), np.float32), np.arange(len(labels)), ends), shape=(len(starts), len(labels))) @ values
    owners = labels[starts]
    into = csr_array((np.ones(len(starts)), (owners, np.arange(len(starts)))), shape=(num, len(starts)))
    areas = np.bincount(labels, minlength=num)
    return np.asarray(into @ runs.astype(np.float64)) / np.maximum(areas, 1)[:, None]


def load_vgg19(reference: str, behaviour: Behaviour = Behaviour.RELEASED) -> Vgg19Features:
    """Returns the network with the weights of torchvision's VGG-19 file. UserError where it is absent or holds another."""
    path = weights.resolve(reference)
    network = Vgg19Features(behaviour, identity=f"vgg19 sha256:{weights.digest(path)}")
    # Deeper layers and the classifier are not used; a file that lacks what is used fails to load.
    tensors = {name: tensor for name, tensor in weights.read_tensors(path).items()
               if name.startswith("features.") and int(name.split(".")[1]) < len(network.features)}
    weights.load_into(network, tensors, source=reference)
    return network.eval().requires_grad_(False)


def stand_in_vgg19(behaviour: Behaviour = Behaviour.RELEASED, *, seed: int = 0, width_divisor: int = STAND_IN_DIVISOR,
                   ) -> Vgg19Features:
    """Returns a thin network of random weights that depend on the seed alone; its matches compare with no published ones."""
    network = Vgg19Features(behaviour, width_divisor=width_divisor, identity=f"stand-in vgg19/{width_divisor} seed {seed}")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * (2 / parameter[0].numel()) ** 0.5)
            else:
                parameter.zero_()
    return network.eval().requires_grad_(False)
