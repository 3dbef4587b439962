"""Attention of the UNet: spatial transformers that read text and image tokens, temporal ones along each pixel's frames.

Attention is the exact softmax of torch's `scaled_dot_product_attention`; any other exact kernel gives the same result.
Names of submodules are keys of the public checkpoints.
Source: spec of the public model; the image branch of cross-attention follows IP-Adapter (arXiv 2308.06721).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.models.block import ConditionedLayer, Conditions
from training.models.resblock import GroupNorm32, fold, unfold, zero_init

TEXT_TOKENS = 77             # of a CLIP caption; the first tokens of every context
# CUDA kernels lay a batch along a grid axis that ends here (pytorch issue 146704); to temporal attention every pixel of
# every sample is a sequence of its own.
MAX_SEQUENCES = 65_535


class Attention(nn.Module):
    """Multi-head attention: of x [n, l, dim] on itself, or on context tokens [n, m, context_dim].

    With `image_context`, tokens from the 78th on have keys and values of their own, and what they give is added to what
    the text gives; with `learnable_image_scale` times tanh(alpha) + 1, which is 1 in a fresh model.
    """

    def __init__(self, dim: int, *, heads: int, head_dim: int, context_dim: int | None = None,
                 image_context: bool = False, learnable_image_scale: bool = False) -> None:
        super().__init__()
        inner = heads * head_dim
        self.heads = heads
        self.image_context = image_context
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_k = nn.Linear(context_dim or dim, inner, bias=False)
        self.to_v = nn.Linear(context_dim or dim, inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, dim))
        if image_context:
            self.to_k_ip = nn.Linear(context_dim or dim, inner, bias=False)
            self.to_v_ip = nn.Linear(context_dim or dim, inner, bias=False)
        self.alpha = nn.Parameter(torch.tensor(0.0)) if learnable_image_scale else None

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        q = self.to_q(x)
        context = x if context is None else context
        if not self.image_context:
            return self.to_out(self._attend(q, self.to_k(context), self.to_v(context)))
        text, image = context[:, :TEXT_TOKENS], context[:, TEXT_TOKENS:]
        found = self._attend(q, self.to_k(text), self.to_v(text))
        if image.shape[1]:
            from_image = self._attend(q, self.to_k_ip(image), self.to_v_ip(image))
            found = found + (from_image if self.alpha is None else (self.alpha.tanh() + 1) * from_image)
        return self.to_out(found)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Softmax attention per head of q [n, l, inner] on k, v [n, m, inner]."""
        q, k, v = (tokens.unflatten(2, (self.heads, -1)).transpose(1, 2) for tokens in (q, k, v))
        if len(q) <= MAX_SEQUENCES:
            found = F.scaled_dot_product_attention(q, k, v)
        else:
            parts = zip(*(tokens.split(MAX_SEQUENCES) for tokens in (q, k, v)), strict=True)
            found = torch.cat([F.scaled_dot_product_attention(*part) for part in parts])
        return found.transpose(1, 2).flatten(2)


class GEGLU(nn.Module):
    """A linear map of which one half is gated by the exact gelu of the other (arXiv 2002.05202)."""

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """GEGLU to four times the width and back."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        # Checkpoints count a dropout at index 1 that is never active.
        self.net = nn.Sequential(GEGLU(dim, 4 * dim), nn.Identity(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class TransformerBlock(nn.Module):
    """Self-attention, attention on the context (on itself where `context_dim` is None), feed-forward; each added to x."""

    def __init__(self, dim: int, *, heads: int, head_dim: int, context_dim: int | None = None,
                 image_context: bool = False, learnable_image_scale: bool = False) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn1 = Attention(dim, heads=heads, head_dim=head_dim)
        self.attn2 = Attention(dim, heads=heads, head_dim=head_dim, context_dim=context_dim,
                               image_context=image_context, learnable_image_scale=learnable_image_scale)
        self.ff = FeedForward(dim)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(ConditionedLayer):
    """The pixels of each frame attend to each other and to the context; the identity in a fresh model."""

    def __init__(self, channels: int, *, heads: int, head_dim: int, depth: int, context_dim: int, use_linear: bool,
                 image_context: bool, learnable_image_scale: bool) -> None:
        super().__init__()
        inner = heads * head_dim
        self.norm = GroupNorm32(channels, eps=1e-6)
        self.proj_in = _pointwise(channels, inner, trailing=0 if use_linear else 2)
        self.transformer_blocks = nn.ModuleList(
            TransformerBlock(inner, heads=heads, head_dim=head_dim, context_dim=context_dim,
                             image_context=image_context, learnable_image_scale=learnable_image_scale)
            for _ in range(depth))
        self.proj_out = zero_init(_pointwise(inner, channels, trailing=0 if use_linear else 2))

    def compute(self, x: Tensor, conditions: Conditions) -> Tensor:
        tokens = self.proj_in(self.norm(x).flatten(2).transpose(1, 2))
        for block in self.transformer_blocks:
            tokens = block(tokens, conditions.context)
        return x + self.proj_out(tokens).transpose(1, 2).reshape(x.shape)


class TemporalTransformer(ConditionedLayer):
    """The frames of each pixel attend to each other, twice; no position, no mask, no context. The identity in a fresh model."""

    def __init__(self, channels: int, *, heads: int, head_dim: int, depth: int, use_linear: bool) -> None:
        super().__init__()
        inner = heads * head_dim
        self.norm = GroupNorm32(channels, eps=1e-6)
        self.proj_in = _pointwise(channels, inner, trailing=0 if use_linear else 1)
        self.transformer_blocks = nn.ModuleList(
            TransformerBlock(inner, heads=heads, head_dim=head_dim) for _ in range(depth))
        self.proj_out = zero_init(_pointwise(inner, channels, trailing=0 if use_linear else 1))

    def compute(self, x: Tensor, conditions: Conditions) -> Tensor:
        if conditions.bypass_temporal:
            return x
        video = unfold(x, conditions.num_frames)
        batch, _, _, height, width = video.shape
        # [b, c, t, h, w] -> [(b h w), t, c]; the norm's statistics span the frames.
        tokens = self.proj_in(self.norm(video).permute(0, 3, 4, 2, 1).flatten(0, 2))
        for block in self.transformer_blocks:
            tokens = block(tokens)
        change = self.proj_out(tokens).unflatten(0, (batch, height, width)).permute(0, 4, 3, 1, 2)
        return fold(video + change)


class _PointwiseConvolution(nn.Linear):
    """A linear map whose weight is stored [out, in, 1, ...], as convolutions of kernel size 1 are in the checkpoints."""

    def __init__(self, in_channels: int, out_channels: int, *, trailing: int) -> None:
        super().__init__(in_channels, out_channels)
        self.weight = nn.Parameter(self.weight.detach()[(..., *(None,) * trailing)])

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.flatten(1), self.bias)


def _pointwise(in_channels: int, out_channels: int, *, trailing: int) -> nn.Linear:
    """Maps tokens [..., in_channels] to [..., out_channels]; `trailing` ones end the shape of the stored weight."""
    if trailing == 0:
        return nn.Linear(in_channels, out_channels)
    return _PointwiseConvolution(in_channels, out_channels, trailing=trailing)
