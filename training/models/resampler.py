"""Image-context projector: a fixed set of learned queries reads the tokens of the first frame's image encoder.

A perceiver resampler (Flamingo, arXiv 2204.14198; this form is DynamiCrafter's, arXiv 2310.12190): `num_queries` queries per
frame for `video_length` frames, together one sequence. Key names are the public checkpoint's.
"""

import math
from typing import cast

import torch
from torch import Tensor, nn


class Resampler(nn.Module):
    """Turns image tokens into context tokens for the cross-attention of the denoising network.

    `video_length` frames get `num_queries` tokens each; None means one image, hence `num_queries` tokens altogether.
    `embedding_dim` is the width of the incoming tokens, `output_dim` that of the context, `dim` the width in between; the
    attention works on heads * dim_head channels, which need not equal `dim`.
    """

    def __init__(self, *, dim: int = 1024, depth: int = 4, dim_head: int = 64, heads: int = 12, num_queries: int = 16,
                 embedding_dim: int = 1280, output_dim: int = 1024, ff_mult: int = 4, video_length: int | None = 16) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.video_length = 1 if video_length is None else video_length
        self.latents = nn.Parameter(torch.randn(1, num_queries * self.video_length, dim) / math.sqrt(dim))
        self.proj_in = nn.Linear(embedding_dim, dim)
        self.proj_out = nn.Linear(dim, output_dim)
        self.norm_out = nn.LayerNorm(output_dim)
        self.layers = nn.ModuleList(
            nn.ModuleList([QueryAttention(dim, dim_head=dim_head, heads=heads), feed_forward(dim, ff_mult)])
            for _ in range(depth))

    def forward(self, tokens: Tensor, num_frames: int | None = None) -> Tensor:
        """Returns the context tokens of `num_frames` frames (None: as many as the model was made for), frame after frame.

        Shapes: tokens [b, n, embedding_dim] -> [b, num_queries * num_frames, output_dim].
        With another number of frames than the model's, frame k of t gets the tokens of frame
        round(k * (video_length - 1) / (t - 1)), halves to even: the ends stay the ends, and each token is exactly the one of a
        full-length clip. The public code does not select and shows every frame all tokens, which it was never trained on.
        """
        # Image towers may run in another precision than this (trained) module.
        x = self.proj_in(tokens.to(self.proj_in.weight.dtype))
        latents = self.latents.expand(len(x), -1, -1)
        for layer in self.layers:
            attention, mlp = cast(nn.ModuleList, layer)
            latents = attention(x, latents) + latents
            latents = mlp(latents) + latents
        context = self.norm_out(self.proj_out(latents))
        if num_frames is None or num_frames == self.video_length:
            return context
        frames = torch.linspace(0, self.video_length - 1, num_frames, dtype=torch.float64).round().long()
        per_frame = context.unflatten(1, (self.video_length, self.num_queries))
        return per_frame[:, frames.to(context.device)].flatten(1, 2)


class QueryAttention(nn.Module):
    """Attention of the queries over [image tokens; queries]; no projection has a bias."""

    def __init__(self, dim: int, *, dim_head: int, heads: int) -> None:
        super().__init__()
        inner = dim_head * heads
        self.heads = heads
        self.scale = dim_head ** -0.25      # on queries and on keys, so that half-precision products stay small
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_kv = nn.Linear(dim, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, dim, bias=False)

    def forward(self, x: Tensor, latents: Tensor) -> Tensor:
        """Shapes: x [b, n, dim], latents [b, m, dim] -> [b, m, dim]. The softmax is taken in float32."""
        x, latents = self.norm1(x), self.norm2(latents)
        q = self._per_head(self.to_q(latents))
        k, v = (self._per_head(half) for half in self.to_kv(torch.cat([x, latents], dim=1)).chunk(2, dim=-1))
        weights = torch.softmax(((q * self.scale) @ (k * self.scale).transpose(-1, -2)).float(), dim=-1).to(v.dtype)
        return self.to_out((weights @ v).transpose(1, 2).flatten(2))

    def _per_head(self, tokens: Tensor) -> Tensor:
        """[b, n, heads * d] -> [b, heads, n, d]."""
        return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def feed_forward(dim: int, mult: int) -> nn.Sequential:
    """Norm, widen, GELU, narrow; the linear layers have no bias (keys 0, 1 and 3)."""
    return nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim * mult, bias=False), nn.GELU(),
                         nn.Linear(dim * mult, dim, bias=False))
