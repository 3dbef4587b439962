"""LPIPS v0.1: distance of two pictures in the feature space of a classification network.

Source: Zhang et al. (arXiv 1801.03924); equal to the PyPI package of its authors, which the decoder's loss and the tables share
here. The package itself is not used: it needs a download to build, and its backbones would be read without a digest.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.metrics.feature_weights import STAND_IN, exact_convolutions, fill, frozen, randomise, read_weights
from training.metrics.metric import Definition, Direction, Frames, PerClipMetric, Score

# The last layer of each tap within torchvision's `features`, and the channels there.
TAPS: Mapping[str, tuple[tuple[int, int], ...]] = {
    "alex": ((1, 64), (4, 192), (7, 384), (9, 256), (11, 256)),
    "vgg": ((3, 64), (8, 128), (15, 256), (22, 512), (29, 512)),
    "squeeze": ((1, 64), (4, 128), (7, 256), (9, 384), (10, 384), (11, 512), (12, 512)),
}
STAND_IN_DIVISOR = 8            # all widths are multiples of it
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)


class Lpips(nn.Module):
    """The distance as a differentiable module; weights mean nothing until loaded or drawn.

    Keys: `features.*` as in torchvision, `heads.0` ... with shape [channels], at least 0. `width_divisor` thins every layer, for
    stand-ins.
    """

    def __init__(self, net: str, *, width_divisor: int = 1) -> None:
        super().__init__()
        self.net = net
        self.features = _backbone(net, width_divisor)
        self.heads = nn.ParameterList(torch.zeros(channels // width_divisor) for _, channels in TAPS[net])

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Returns the distances [n] of RGB pictures [n, 3, h, w] in [-1, 1] (not [0, 1]: EISAI's numbers come from that)."""
        return torch.stack(self.per_layer(x, y)).sum(0)

    def per_layer(self, x: Tensor, y: Tensor) -> list[Tensor]:
        """Returns the spatial mean of each layer's distance, [n] each."""
        return [layer.mean(dim=(1, 2)) for layer in self._maps(x, y)]

    def spatial(self, x: Tensor, y: Tensor) -> Tensor:
        """Returns a map [n, h, w]: the layers' maps, enlarged bilinearly, and added. Its mean differs a little from forward."""
        layers = (F.interpolate(layer[:, None], size=x.shape[-2:], mode="bilinear", align_corners=False)
                  for layer in self._maps(x, y))
        return torch.cat(list(layers), dim=1).sum(1)

    def _maps(self, x: Tensor, y: Tensor) -> list[Tensor]:
        features = zip(self._taps(x), self._taps(y), self.heads, strict=True)
        return [layer_distance(a, b, head) for a, b, head in features]

    def _taps(self, x: Tensor) -> list[Tensor]:
        shift, scale = (torch.tensor(values, dtype=x.dtype, device=x.device).view(1, 3, 1, 1) for values in (SHIFT, SCALE))
        x = (x - shift) / scale
        wanted = {index for index, _ in TAPS[self.net]}
        found = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in wanted:
                found.append(x)
        return found


def layer_distance(a: Tensor, b: Tensor, head: Tensor) -> Tensor:
    """Returns the weighted squared distance [n, h, w] of features [n, c, h, w] normalised over channels; head [c] >= 0."""
    difference = _normalised(a) - _normalised(b)
    return torch.einsum("nchw,c->nhw", difference.square(), head)


class LpipsMetric(PerClipMetric):
    """LPIPS averaged over frames; frames pass in batches."""

    def __init__(self, network: Lpips, weights: str, *, frames: Frames = Frames.ALL, frames_per_batch: int = 8,
                 device: torch.device | str = "cpu") -> None:
        super().__init__(frames=frames, weights=weights)
        self._network = frozen(network, device)
        self._device = device
        self._frames_per_batch = frames_per_batch
        self.definitions = (
            Definition(f"lpips_{network.net}", Direction.LOWER, 0, math.inf, f"lpips_v0.1_{network.net}",
                       "appearance of single frames against the truth: harsh on motion that is plausible but another"),
        )

    def score(self, truth: Tensor, generated: Tensor, caption: str) -> tuple[Score, ...]:
        found = []
        with exact_convolutions():
            for x, y in zip(generated.split(self._frames_per_batch), truth.split(self._frames_per_batch), strict=True):
                x, y = (2 * batch.to(self._device, torch.float32) - 1 for batch in (x, y))
                found.append(self._network(x, y).double().cpu())
        return (Score(torch.cat(found).mean().item()),)


def load_lpips(net: str, *, backbone: str, heads: str) -> tuple[Lpips, str]:
    """Returns LPIPS from torchvision's ImageNet file (`backbone`) and the authors' linear heads, and the id of both."""
    purpose = f"LPIPS ({net})"
    network = Lpips(net)
    body, body_id = read_weights(backbone, purpose)
    linear, linear_id = read_weights(heads, purpose)
    tensors = {key: tensor for key, tensor in body.items() if key.startswith("features.")}    # the classifier is not used
    tensors |= heads_from_package(linear)
    fill(network, tensors, source=f"{backbone} with {heads}")
    return network, f"{body_id} + {linear_id}"


def heads_from_package(linear: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the package's `lin0.model.1.weight` [1, c, 1, 1] to `heads.0` [c]; other keys stay and fail to load."""
    suffix = ".model.1.weight"
    return {f"heads.{key.removeprefix('lin').removesuffix(suffix)}" if key.endswith(suffix) else key: tensor.flatten()
            for key, tensor in linear.items()}


def stand_in_lpips(net: str = "alex", seed: int = 0) -> tuple[Lpips, str]:
    """Returns LPIPS with a thin random backbone and equal heads, and the mark that says so."""
    network = Lpips(net, width_divisor=STAND_IN_DIVISOR)
    randomise(network, seed)
    with torch.no_grad():
        for head in network.heads:
            head.fill_(1 / len(TAPS[net]))
    return network, f"{STAND_IN}: lpips {net}/{STAND_IN_DIVISOR} seed {seed}"


def _normalised(features: Tensor) -> Tensor:
    # vector_norm has a zero gradient at zero; the square root of a sum of squares would give NaN to a loss.
    return features / (torch.linalg.vector_norm(features, dim=1, keepdim=True) + 1e-10)


def _backbone(net: str, divisor: int) -> nn.Sequential:
    """torchvision's `features` up to the last tap. Built here: importing torchvision takes longer than the distance."""
    layers = {"alex": _alex, "vgg": _vgg16, "squeeze": _squeeze}[net](divisor)
    assert len(layers) == TAPS[net][-1][0] + 1
    return nn.Sequential(*layers)


def _alex(divisor: int) -> list[nn.Module]:
    a, b, c, d = (width // divisor for width in (64, 192, 384, 256))
    return [nn.Conv2d(3, a, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(a, b, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(b, c, 3, padding=1), nn.ReLU(),
            nn.Conv2d(c, d, 3, padding=1), nn.ReLU(),
            nn.Conv2d(d, d, 3, padding=1), nn.ReLU()]


def _vgg16(divisor: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    channels = 3
    for num_convolutions, full_width in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
        layers += [nn.MaxPool2d(2)] if layers else []
        for _ in range(num_convolutions):
            layers += [nn.Conv2d(channels, full_width // divisor, 3, padding=1), nn.ReLU()]
            channels = full_width // divisor
    return layers


def _squeeze(divisor: int) -> list[nn.Module]:
    channels = 64 // divisor
    layers: list[nn.Module] = [nn.Conv2d(3, channels, 3, 2), nn.ReLU()]
    for widths in (((16, 64), (16, 64)), ((32, 128), (32, 128)), ((48, 192), (48, 192), (64, 256), (64, 256))):
        layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
        for squeezed, expanded in widths:
            layers.append(_Fire(channels, squeezed // divisor, expanded // divisor))
            channels = 2 * expanded // divisor
    return layers


class _Fire(nn.Module):
    """SqueezeNet's block: few channels, then two kinds of many."""

    def __init__(self, in_channels: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x))
        return F.relu(torch.cat([self.expand1x1(x), self.expand3x3(x)], dim=1))
