"""Image layers shared by the encoder and the decoder of the KL autoencoder (latent-diffusion family, arXiv 2112.10752).

Names of attributes are those of the public checkpoints. Norms pool 32 groups with eps 1e-6, the activation is x sigmoid(x).
"""

import torch.nn.functional as F
from torch import Tensor, nn

NUM_GROUPS = 32
SPATIAL_EPS = 1e-6


def group_norm(channels: int, eps: float = SPATIAL_EPS) -> nn.GroupNorm:
    """Returns the norm of this family: 32 groups, learned scale and shift."""
    return nn.GroupNorm(NUM_GROUPS, channels, eps=eps)


def to_video(frames: Tensor, num_frames: int) -> Tensor:
    """Unfolds [(b t), c, h, w], batch-major, to [b, c, t, h, w]."""
    return frames.unflatten(0, (-1, num_frames)).transpose(1, 2)


def to_frames(video: Tensor) -> Tensor:
    """Folds [b, c, t, h, w] to [(b t), c, h, w], batch-major."""
    return video.transpose(1, 2).flatten(0, 1)


class ResidualBlock(nn.Module):
    """Two normed 3x3 convolutions with an identity, or a 1x1 convolution where the channels change."""

    def __init__(self, in_channels: int, out_channels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1 = group_norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = group_norm(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else None

    def forward(self, x: Tensor) -> Tensor:
        """[n, in, h, w] -> [n, out, h, w]."""
        hidden = self.conv1(F.silu(self.norm1(x)))
        hidden = self.conv2(self.dropout(F.silu(self.norm2(hidden))))
        return hidden + (x if self.nin_shortcut is None else self.nin_shortcut(x))


class SpatialAttention(nn.Module):
    """Single-head self-attention over the positions of each frame; scale channels^-0.5."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> the same."""
        normed = self.norm(x)
        q, k, v = (layer(normed).flatten(2).transpose(1, 2).unsqueeze(1) for layer in (self.q, self.k, self.v))
        attended = F.scaled_dot_product_attention(q, k, v).squeeze(1)      # [n, h w, c]
        return x + self.proj_out(attended.transpose(1, 2).unflatten(2, x.shape[-2:]))


class Downsample(nn.Module):
    """Halves height and width: a strided 3x3 convolution, padded on the right and the bottom only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> [n, c, h / 2, w / 2], odd sizes rounded down."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Doubles height and width by repetition, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> [n, c, 2 h, 2 w]."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
