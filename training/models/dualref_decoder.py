"""Dual-reference 3D decoder: latents to pixels with the encoder's features of the two end frames and pseudo-3D convolutions.

ToonCrafter (arXiv 2405.17933), section on the dual-reference-based 3D decoder. Hybrid-attention residual (HAR) refinement injects
the references: by cross-attention at the shallow levels, by zero-initialised convolutions at the deep ones. Pseudo-3D (P3D)
stacks mix frames; their structure is the Stable-Video-Diffusion temporal decoder's (arXiv 2311.15127), whose weights fit by name.
A fresh decoder is exactly its image part: HAR adds zero, the stacks add zero, the temporal output convolution passes through
(the last is our choice, the public code leaves it at random).
"""

from collections.abc import Callable, Sequence
from enum import StrEnum

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from training.models.kl_blocks import ResidualBlock, SpatialAttention, Upsample, group_norm, to_frames, to_video

References = tuple[Tensor, ...]     # per encoder level [b, C_i, 2, H_i, W_i], then the encoder's conv_in output; 0 first, 1 last

NUM_HEADS, HEAD_WIDTH = 8, 64       # of the refinement, whatever the channels
TEMPORAL_EPS = 1e-5


class LastLayer(StrEnum):
    """Which weight counts as the decoder's last layer for the adaptive weight of the adversarial loss."""

    CONV_OUT = "conv_out"               # the 2-D convolution, as in the image autoencoder family
    TIME_MIX_CONV = "time_mix_conv"     # the temporal convolution behind it, truly the last


class TimeStack(nn.Module):
    """Residual pair of convolutions over neighbouring frames; the second starts at zero, so a fresh stack is the identity."""

    def __init__(self, channels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(group_norm(channels, TEMPORAL_EPS), nn.SiLU(), temporal_conv(channels))
        self.out_layers = nn.Sequential(
            group_norm(channels, TEMPORAL_EPS), nn.SiLU(), nn.Dropout(dropout), temporal_conv(channels))
        self.reset_to_identity()

    def reset_to_identity(self) -> None:
        for parameter in self.out_layers[3].parameters():
            nn.init.zeros_(parameter)

    def residual(self, video: Tensor) -> Tensor:
        """[b, c, t, h, w] -> what the stack adds to its input, same shape. The norms pool over all frames."""
        return self.out_layers(self.in_layers(video))


class P3DBlock(ResidualBlock):
    """Image residual block, then a time stack merged by a learned factor a = sigmoid(mix_factor), one half at the start.

    a (v + stack(v)) + (1 - a) v is computed as v + a stack(v): the same number with less memory, and exactly v for a zero stack.
    """

    def __init__(self, in_channels: int, out_channels: int, dropout: float = 0.0) -> None:
        super().__init__(in_channels, out_channels, dropout)
        self.time_stack = TimeStack(out_channels, dropout)
        self.mix_factor = nn.Parameter(torch.zeros(1))

    def reset_to_image_block(self) -> None:
        """Makes the block equal to its image part again."""
        nn.init.zeros_(self.mix_factor)
        self.time_stack.reset_to_identity()

    def forward(self, x: Tensor, num_frames: int, skip_temporal: bool = False) -> Tensor:  # type: ignore[override]
        """[(b t), in, h, w] -> [(b t), out, h, w]."""
        x = super().forward(x)
        if skip_temporal:
            return x
        residual = self.time_stack.residual(to_video(x, num_frames))
        return x + torch.sigmoid(self.mix_factor) * to_frames(residual)


class CrossAttentionRefinement(nn.Module):
    """Adds what each position finds in both references: normed queries, keys and values from the references as they are."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = NUM_HEADS * HEAD_WIDTH
        self.norm = group_norm(channels)
        self.to_q = nn.Linear(channels, inner, bias=False)
        self.to_k = nn.Linear(channels, inner, bias=False)
        self.to_v = nn.Linear(channels, inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, channels))     # a list of one in the checkpoints
        self.reset_to_zero()

    def reset_to_zero(self) -> None:
        for parameter in self.to_out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, reference: Tensor, num_frames: int, frames_per_slice: int | None = None) -> Tensor:
        """x [(b t), c, h, w], reference [b, c, 2, h', w'] -> [(b t), c, h, w].

        All frames of a sample share its keys. `frames_per_slice` handles that many frames of each sample at a time: the
        result is the same, the memory for normed tokens, queries and scores shrinks with it.
        """
        tokens = reference.flatten(2).transpose(1, 2)               # [b, 2 h' w', c]
        k, v = self._heads(self.to_k(tokens)), self._heads(self.to_v(tokens))
        slices = x.unflatten(0, (-1, num_frames)).split(frames_per_slice or num_frames, dim=1)
        return torch.cat([self._refine(frames, k, v) for frames in slices], dim=1).flatten(0, 1)

    def _refine(self, frames: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """frames [b, s, c, h, w]; k, v [b, heads, m, width] -> [b, s, c, h, w]."""
        num, size = frames.shape[1], frames.shape[-2:]
        normed = self.norm(frames.flatten(0, 1)).unflatten(0, (-1, num))
        q = self._heads(self.to_q(normed.flatten(3).transpose(2, 3).flatten(1, 2)))     # every position of all s frames
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        added = self.to_out(attended).unflatten(1, (num, -1)).transpose(2, 3)           # [b, s, c, h w]
        return frames + added.unflatten(3, size)

    @staticmethod
    def _heads(tokens: Tensor) -> Tensor:
        return tokens.unflatten(2, (NUM_HEADS, HEAD_WIDTH)).transpose(1, 2)


class ZeroConvRefinement(nn.Module):
    """Adds the convolved first reference to the first frame and the last to the last; the convolution starts at zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)
        self.reset_to_zero()

    def reset_to_zero(self) -> None:
        for parameter in self.conv.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, reference: Tensor, num_frames: int, ends: tuple[bool, bool] = (True, True)) -> Tensor:
        """x [(b t), c, h, w], reference [b, c, 2, h, w] -> [(b t), c, h, w], x is left as it was.

        `ends` says whether the first and the last of these frames are the clip's: elsewhere nothing is added.
        """
        if not any(ends):
            return x
        added = to_video(self.conv(to_frames(reference)), 2).transpose(1, 2)            # [b, 2, c, h, w]
        frames = list(x.unflatten(0, (-1, num_frames)).unbind(1))
        for position, (index, is_end) in enumerate(zip((0, -1), ends, strict=True)):
            if is_end:
                frames[index] = frames[index] + added[:, position]
        return torch.stack(frames, dim=1).flatten(0, 1)


class OutputConv(nn.Conv2d):
    """3x3 convolution to pixels, then a convolution over neighbouring frames that starts as a pass-through."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)
        self.time_mix_conv = temporal_conv(out_channels)
        self.reset_to_identity()

    def reset_to_identity(self) -> None:
        nn.init.zeros_(self.time_mix_conv.weight)
        nn.init.zeros_(_bias(self.time_mix_conv))
        with torch.no_grad():
            self.time_mix_conv.weight[:, :, 1].copy_(torch.eye(self.out_channels)[:, :, None, None])

    def forward(self, x: Tensor, num_frames: int, skip_temporal: bool = False) -> Tensor:  # type: ignore[override]
        """[(b t), in, h, w] -> [(b t), out, h, w]."""
        x = super().forward(x)
        return x if skip_temporal else to_frames(self.time_mix_conv(to_video(x, num_frames)))


class Level(nn.Module):
    """One resolution of the decoder: P3D blocks and, except at full size, the step to the next."""

    def __init__(self, channels: Sequence[int], dropout: float, *, has_upsample: bool) -> None:
        super().__init__()
        self.block = nn.ModuleList(P3DBlock(channels[i], channels[i + 1], dropout) for i in range(len(channels) - 1))
        self.upsample = Upsample(channels[-1]) if has_upsample else None


class Middle(nn.Module):
    """Residual block, attention, residual block at the smallest size."""

    def __init__(self, channels: int, block: Callable[[int, int, float], ResidualBlock], dropout: float) -> None:
        super().__init__()
        self.block_1 = block(channels, channels, dropout)
        self.attn_1 = SpatialAttention(channels)
        self.block_2 = block(channels, channels, dropout)


class DualRefDecoder(nn.Module):
    """Decoder of the first stage; switches: references absent means no HAR, `skip_temporal` means no P3D.

    `attention_frames_per_slice` and `use_checkpoint` may be set at any time and do not change results or gradients: the first
    bounds the memory of cross-attention refinement, the second recomputes blocks and refinements in the backward pass.
    """

    def __init__(
        self, *, z_channels: int, out_ch: int, ch: int, ch_mult: Sequence[int], num_res_blocks: int, dropout: float = 0.0,
        cross_attention_levels: Sequence[int] = (2, 3), use_checkpoint: bool = False,
        attention_frames_per_slice: int | None = None,
    ) -> None:
        super().__init__()
        self.use_checkpoint = use_checkpoint
        self.attention_frames_per_slice = attention_frames_per_slice
        self.cross_attention_levels = frozenset(cross_attention_levels)
        self.num_levels = len(ch_mult)
        widths = [ch * factor for factor in ch_mult]
        self.conv_in = nn.Conv2d(z_channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1], P3DBlock, dropout)
        entering = [*widths[1:], widths[-1]]                        # channels that come from the level before
        self.up = nn.ModuleList(
            Level([entering[i]] + [widths[i]] * (num_res_blocks + 1), dropout, has_upsample=i > 0)
            for i in range(self.num_levels))
        self.attn_refinement = nn.ModuleList(
            CrossAttentionRefinement(width) if i in self.cross_attention_levels else ZeroConvRefinement(width)
            for i, width in enumerate([*widths, widths[0]]))        # the last follows the final norm
        self.norm_out = group_norm(widths[0])
        self.conv_out = OutputConv(widths[0], out_ch)

    @property
    def upscale(self) -> int:
        """Pixels per latent position, along one side."""
        return 2 ** (self.num_levels - 1)

    def last_layer(self, choice: LastLayer) -> nn.Parameter:
        """Returns the weight on which the adaptive weight of the adversarial loss is taken."""
        weight = self.conv_out.weight if LastLayer(choice) is LastLayer.CONV_OUT else self.conv_out.time_mix_conv.weight
        assert isinstance(weight, nn.Parameter)
        return weight

    def reset_to_image_decoder(self) -> None:
        """Puts HAR and P3D back to adding nothing; the image part stays as it is."""
        for module in self.modules():
            if isinstance(module, P3DBlock):
                module.reset_to_image_block()
            elif isinstance(module, CrossAttentionRefinement | ZeroConvRefinement):
                module.reset_to_zero()
        self.conv_out.reset_to_identity()

    def forward(
        self, z: Tensor, num_frames: int, references: References | None = None, *,
        skip_temporal: bool = False, ends: tuple[bool, bool] = (True, True),
    ) -> Tensor:
        """Decodes unscaled latents to pixels about [-1, 1], not clipped.

        z [(b t), z_channels, h, w] -> [(b t), out_ch, H, W] with H = upscale * h. `ends`: see ZeroConvRefinement.
        References may cover another region than z where they are attended to, not where they are added.
        Raises ValueError where frames or references do not divide into the same samples.
        """
        _check_samples(z, num_frames, references)
        x = self._run(self.mid.block_1, self.conv_in(z), num_frames, skip_temporal)
        x = self._run(self.mid.block_2, self.mid.attn_1(x), num_frames, skip_temporal)
        for i in reversed(range(self.num_levels)):
            level = self.up[i]
            assert isinstance(level, Level)
            for block in level.block:
                x = self._run(block, x, num_frames, skip_temporal)
            x = self._refine(i, x, num_frames, references, ends)
            if level.upsample is not None:
                x = self._run(level.upsample, x)
        x = F.silu(self.norm_out(x))
        x = self._refine(self.num_levels, x, num_frames, references, ends)
        return self.conv_out(x, num_frames, skip_temporal)

    def _refine(self, i: int, x: Tensor, num_frames: int, references: References | None, ends: tuple[bool, bool]) -> Tensor:
        if references is None:
            return x
        is_attention = i in self.cross_attention_levels
        option = self.attention_frames_per_slice if is_attention else ends
        return self._run(self.attn_refinement[i], x, references[i], num_frames, option)

    def _run(self, module: nn.Module, *inputs: Tensor | int | bool | tuple[bool, bool] | None) -> Tensor:
        if self.use_checkpoint and torch.is_grad_enabled():
            return checkpoint(module, *inputs, use_reentrant=False)
        return module(*inputs)


def temporal_conv(channels: int) -> nn.Conv3d:
    """Returns a convolution over three neighbouring frames; outside the clip it sees zeros."""
    return nn.Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0))


def _bias(layer: nn.Conv3d) -> Tensor:
    assert layer.bias is not None
    return layer.bias


def _check_samples(z: Tensor, num_frames: int, references: References | None) -> None:
    samples, rest = divmod(z.shape[0], num_frames)
    if rest:
        raise ValueError(f"{z.shape[0]} folded latents are not whole clips of {num_frames} frames")
    if references is not None and references[0].shape[0] != samples:
        raise ValueError(f"references of {references[0].shape[0]} samples were given for latents of {samples}")
