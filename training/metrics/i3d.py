"""Inflated Inception (I3D) with the key names of the public Kinetics-400 weights, the features of FVD and KVD.

Source: Carreira and Zisserman (arXiv 1705.07750); layout of piergiaj's PyTorch port. Features are the 400 logits before softmax,
averaged over time. Paddings follow TensorFlow's "same" rule and therefore depend on the size of the input.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NUM_LOGITS = 400
SIDE_PX = 224
# Three strides of two leave 2 time steps for the pooling window; 8 frames would leave 1.
MIN_FRAMES = 9

Triple = tuple[int, int, int]

# Channels of branch 0; branch 1 (reduced, out); branch 2 (reduced, out); projection behind the pool.
BLOCKS: Mapping[str, tuple[int, int, int, int, int, int]] = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}


class InceptionI3d(nn.Module):
    """I3D from RGB clips to logits; `width_divisor` thins every layer but the last, for stand-ins and tests."""

    def __init__(self, *, width_divisor: int = 1) -> None:
        super().__init__()

        def thin(channels: int) -> int:
            return max(1, channels // width_divisor)

        self.Conv3d_1a_7x7 = Unit3d(3, thin(64), (7, 7, 7), (2, 2, 2))
        self.MaxPool3d_2a_3x3 = SamePool3d((1, 3, 3), (1, 2, 2))
        self.Conv3d_2b_1x1 = Unit3d(thin(64), thin(64), (1, 1, 1))
        self.Conv3d_2c_3x3 = Unit3d(thin(64), thin(192), (3, 3, 3))
        self.MaxPool3d_3a_3x3 = SamePool3d((1, 3, 3), (1, 2, 2))
        channels = thin(192)
        for name, sizes in BLOCKS.items():
            if name == "Mixed_4b":
                self.MaxPool3d_4a_3x3 = SamePool3d((3, 3, 3), (2, 2, 2))
            if name == "Mixed_5b":
                self.MaxPool3d_5a_2x2 = SamePool3d((2, 2, 2), (2, 2, 2))
            block = InceptionBlock(channels, [thin(size) for size in sizes])
            self.add_module(name, block)
            channels = block.out_channels
        self.avg_pool = nn.AvgPool3d((2, 7, 7), stride=1)
        self.logits = Unit3d(channels, NUM_LOGITS, (1, 1, 1), is_last=True)

    def forward(self, video: Tensor, on_stage: Callable[[str, Tensor], None] | None = None) -> Tensor:
        """Returns logits [n, 400] of RGB clips [n, 3, t >= 9, 224, 224] in [-1, 1]; `on_stage` sees every stage's output.

        Dropout of the published network acts in training only and is left out. ValueError for too few frames.
        """
        if video.shape[2] < MIN_FRAMES:
            raise ValueError(f"I3D needs at least {MIN_FRAMES} frames, not {video.shape[2]}")
        x = video
        for name, stage in self.named_children():       # in the order of construction, which is the network's
            x = stage(x)
            if on_stage is not None:
                on_stage(name, x)
        return x.mean(dim=(2, 3, 4))


class Unit3d(nn.Module):
    """Convolution without bias, batch norm, ReLU; the last one of the network is a plain convolution with bias."""

    def __init__(self, in_channels: int, out_channels: int, kernel: Triple, stride: Triple = (1, 1, 1), *,
                 is_last: bool = False) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.conv3d = nn.Conv3d(in_channels, out_channels, kernel, stride, bias=is_last)
        self.bn = None if is_last else nn.BatchNorm3d(out_channels, eps=1e-5, momentum=0.001)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv3d(pad_same(x, self.kernel, self.stride))
        return x if self.bn is None else F.relu(self.bn(x))


class SamePool3d(nn.Module):
    """Maximum over a window; the padding is zeros, not minus infinity, which matters to whatever is negative."""

    def __init__(self, kernel: Triple, stride: Triple) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool3d(pad_same(x, self.kernel, self.stride), self.kernel, self.stride)


class InceptionBlock(nn.Module):
    """Four branches side by side; branch 2 is 3 x 3 x 3 too, where the drawing in the paper has 5."""

    def __init__(self, in_channels: int, sizes: Sequence[int]) -> None:
        super().__init__()
        one, three = (1, 1, 1), (3, 3, 3)
        self.b0 = Unit3d(in_channels, sizes[0], one)
        self.b1a = Unit3d(in_channels, sizes[1], one)
        self.b1b = Unit3d(sizes[1], sizes[2], three)
        self.b2a = Unit3d(in_channels, sizes[3], one)
        self.b2b = Unit3d(sizes[3], sizes[4], three)
        self.b3a = SamePool3d(three, one)
        self.b3b = Unit3d(in_channels, sizes[5], one)
        self.out_channels = sizes[0] + sizes[2] + sizes[4] + sizes[5]

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x))], dim=1)


def pad_same(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """Pads [n, c, t, h, w] with zeros so that every axis comes out ceil(size / stride) long; the odd zero goes behind."""
    padding: list[int] = []
    for size, window, step in zip(reversed(x.shape[2:]), reversed(kernel), reversed(stride), strict=True):
        total = max(window - (size % step or step), 0)
        padding += [total // 2, total - total // 2]
    return F.pad(x, padding)


def resize_directly(video: Tensor) -> Tensor:
    """Returns I3D's input [3, t, 224, 224] in [-1, 1] from RGB frames [t, 3, h, w] in [0, 1], whatever their aspect.

    Bilinear with half-pixel centres and without antialiasing, as TATS, LVDM and cd-fvd do: the convention of ToonCrafter's
    authors, so the default.
    """
    resized = F.interpolate(video, size=(SIDE_PX, SIDE_PX), mode="bilinear", align_corners=False)
    return (2 * resized - 1).transpose(0, 1)


def crop_from_short_side(video: Tensor) -> Tensor:
    """Returns I3D's input as VideoGPT makes it: the shorter side to 224, the other rounded up, then the centre.

    On 512 x 320 this sees another field of view than resize_directly: never mix the two.
    """
    height, width = video.shape[-2:]
    short = min(height, width)
    # Exact in integers; a float quotient may round up by one pixel.
    size = (-(-height * SIDE_PX // short), -(-width * SIDE_PX // short))
    resized = F.interpolate(video, size=size, mode="bilinear", align_corners=False)
    top, left = (size[0] - SIDE_PX) // 2, (size[1] - SIDE_PX) // 2
    return (2 * resized[..., top:top + SIDE_PX, left:left + SIDE_PX] - 1).transpose(0, 1)


PREPROCESSING: Mapping[str, Callable[[Tensor], Tensor]] = {
    "direct224": resize_directly,
    "shortside224crop": crop_from_short_side,
}
