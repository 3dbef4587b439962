"""The denoising UNet: Stable Diffusion's 2-D UNet with layers that look across frames after each of its blocks.

Input is the noisy latent beside the latent of the end frames, conditions are text tokens, image tokens and the fps; output is
the prediction v. It runs in two halves, `encode` and `decode`, because the sketch encoder's residuals enter between them:
what precedes them needs no gradient when sketches are trained.

Source: ToonCrafter (arXiv 2405.17933), which keeps the network of DynamiCrafter (arXiv 2310.12190); constructor arguments and
keys are those of their public configuration and checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from pipeline.errors import UserError
from training.models.attention import TEXT_TOKENS, SpatialTransformer, TemporalTransformer
from training.models.block import Block, Conditions, set_checkpointing
from training.models.resblock import (
    Downsample,
    GroupNorm32,
    ResBlock,
    Upsample,
    embedding_mlp,
    fold,
    sinusoid,
    unfold,
    zero_init,
)

IMAGE_TOKENS_PER_FRAME = 16
INIT_ATTENTION_HEADS = 8     # of the temporal transformer after the first convolution, whatever its channels


@dataclass(frozen=True, slots=True)
class UNetState:
    """What the first half leaves for the second."""

    mid: Tensor                  # output of the middle block, folded
    skips: tuple[Tensor, ...]    # output of each input block, folded
    conditions: Conditions
    dtype: torch.dtype           # of the input; the prediction has it too


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Which layers the blocks of a UNet consist of."""

    model_channels: int
    channel_mult: Sequence[int]
    num_res_blocks: int
    attention_resolutions: Sequence[int]     # down-sampling factors, not sizes
    head_dim: int
    depth: int
    context_dim: int
    use_linear: bool
    dropout: float
    temporal_conv: bool = False
    temporal_attention: bool = False
    image_context: bool = False
    learnable_image_scale: bool = False

    @property
    def embedding_dim(self) -> int:
        return 4 * self.model_channels

    def resblock(self, in_channels: int, out_channels: int) -> ResBlock:
        return ResBlock(in_channels, out_channels, embedding_dim=self.embedding_dim, dropout=self.dropout,
                        temporal_conv=self.temporal_conv)

    def transformers(self, channels: int) -> Iterator[nn.Module]:
        heads = channels // self.head_dim
        yield SpatialTransformer(channels, heads=heads, head_dim=self.head_dim, depth=self.depth, context_dim=self.context_dim,
                                 use_linear=self.use_linear, image_context=self.image_context,
                                 learnable_image_scale=self.learnable_image_scale)
        if self.temporal_attention:
            yield TemporalTransformer(channels, heads=heads, head_dim=self.head_dim, depth=self.depth, use_linear=self.use_linear)

    def level(self, in_channels: int, out_channels: int, factor: int) -> list[nn.Module]:
        layers: list[nn.Module] = [self.resblock(in_channels, out_channels)]
        return layers + (list(self.transformers(out_channels)) if factor in self.attention_resolutions else [])

    def input_blocks(self, in_channels: int) -> tuple[nn.ModuleList, list[int]]:
        """The encoder, and the channels of each block's output."""
        channels, factor = self.model_channels, 1
        blocks = [Block([nn.Conv2d(in_channels, channels, 3, padding=1)], factor=1)]
        skips = [channels]
        for index, multiple in enumerate(self.channel_mult):
            if index:
                blocks.append(Block([Downsample(channels)], factor=factor))
                skips.append(channels)
                factor *= 2
            for _ in range(self.num_res_blocks):
                blocks.append(Block(self.level(channels, multiple * self.model_channels, factor), factor=factor))
                channels = multiple * self.model_channels
                skips.append(channels)
        return nn.ModuleList(blocks), skips

    def middle_block(self) -> Block:
        channels = self.channel_mult[-1] * self.model_channels
        return Block([self.resblock(channels, channels), *self.transformers(channels), self.resblock(channels, channels)],
                     factor=2 ** (len(self.channel_mult) - 1))

    def output_blocks(self, skips: Sequence[int]) -> nn.ModuleList:
        """The decoder: takes the skips from the last to the first, one more block a level than the encoder."""
        remaining, blocks = list(skips), []
        channels = skips[-1]
        for level in reversed(range(len(self.channel_mult))):
            out_channels = self.channel_mult[level] * self.model_channels
            for index in range(self.num_res_blocks + 1):
                layers = self.level(channels + remaining.pop(), out_channels, 2 ** level)
                channels = out_channels
                if level and index == self.num_res_blocks:
                    layers.append(Upsample(channels))
                blocks.append(Block(layers, factor=2 ** level))
        return nn.ModuleList(blocks)


class UNet3D(nn.Module):
    """Predicts v of a noisy latent video. Any number of frames; height and width divisible by the deepest down-sampling.

    Weights may be float32 (also under autocast) or bf16: inputs are cast to them, norms and embeddings stay float32.
    `temporal_length` is the number of frames the weights were trained with and changes nothing. Dropout acts in ResBlocks.
    """

    def __init__(self, *, in_channels: int, out_channels: int, model_channels: int, channel_mult: Sequence[int],
                 num_res_blocks: int, attention_resolutions: Sequence[int], num_head_channels: int, transformer_depth: int = 1,
                 context_dim: int, use_linear: bool = True, temporal_conv: bool = True, temporal_attention: bool = True,
                 temporal_selfatt_only: bool = True, use_relative_position: bool = False, use_causal_attention: bool = False,
                 temporal_length: int = 16, addition_attention: bool = True, image_cross_attention: bool = True,
                 image_cross_attention_scale_learnable: bool = False, fs_condition: bool = True, default_fs: int = 24,
                 dropout: float = 0.1, use_checkpoint: bool = False) -> None:
        super().__init__()
        _refuse_legacy(use_relative_position=use_relative_position, use_causal_attention=use_causal_attention,
                       temporal_attention_on_context=not temporal_selfatt_only)
        layout = Layout(
            model_channels=model_channels, channel_mult=channel_mult, num_res_blocks=num_res_blocks,
            attention_resolutions=attention_resolutions, head_dim=num_head_channels, depth=transformer_depth,
            context_dim=context_dim, use_linear=use_linear, dropout=dropout, temporal_conv=temporal_conv,
            temporal_attention=temporal_attention, image_context=image_cross_attention,
            learnable_image_scale=image_cross_attention and image_cross_attention_scale_learnable)
        self.model_channels, self.default_fs, self.temporal_length = model_channels, default_fs, temporal_length
        self.image_cross_attention = image_cross_attention
        self.down_factor = 2 ** (len(channel_mult) - 1)

        self.time_embed = embedding_mlp(model_channels, layout.embedding_dim)
        self.fps_embedding = embedding_mlp(model_channels, layout.embedding_dim) if fs_condition else None
        self.input_blocks, skips = layout.input_blocks(in_channels)
        # Checkpoints store its projections as 1-D convolutions, unlike those of the other temporal transformers.
        self.init_attn = Block([TemporalTransformer(
            model_channels, heads=INIT_ATTENTION_HEADS, head_dim=num_head_channels, depth=transformer_depth, use_linear=False,
        )], factor=1) if addition_attention else None
        self.middle_block = layout.middle_block()
        self.output_blocks = layout.output_blocks(skips)
        self.out = nn.Sequential(GroupNorm32(model_channels), nn.SiLU(),
                                 zero_init(nn.Conv2d(model_channels, out_channels, 3, padding=1)))
        if self.fps_embedding is not None:
            zero_init(self.fps_embedding[-1])
        set_checkpointing(self, "all" if use_checkpoint else "none")

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor, fs: Tensor | None = None, *,
                residuals: Sequence[Tensor] | None = None, bypass_temporal: bool = False) -> Tensor:
        """The prediction [b, out_channels, t, h, w], in x's dtype.

        x [b, in_channels, t, h, w]; timesteps [b] and fs [b] integers (fs absent: `default_fs`); context [b, n, D], see
        `frame_context`. `residuals`: one per input block, the middle block's last, folded. `bypass_temporal`: no layer looks
        across frames (paper, table 3, row III).
        """
        state = self.encode(x, timesteps, context, fs, bypass_temporal=bypass_temporal)
        return self.decode(state, residuals, bypass_temporal=bypass_temporal)

    def encode(self, x: Tensor, timesteps: Tensor, context: Tensor, fs: Tensor | None = None, *,
               bypass_temporal: bool = False) -> UNetState:
        """Runs the input blocks and the middle block; arguments as in `forward`."""
        num_frames, height, width = x.shape[2:]
        if height % self.down_factor or width % self.down_factor:
            raise UserError(f"a latent of {width}x{height} does not fit the UNet", f"it halves the size to 1/{self.down_factor}",
                            f"Use sides divisible by {8 * self.down_factor} pixels")
        dtype = next(self.input_blocks.parameters()).dtype
        if not self.image_cross_attention:
            context = context[:, :TEXT_TOKENS]
        conditions = Conditions(self._embedding(timesteps, fs).repeat_interleave(num_frames, dim=0),
                                frame_context(context, num_frames).to(dtype), num_frames, bypass_temporal)
        h, skips = fold(x).to(dtype), []
        for index, block in enumerate(self.input_blocks):
            h = block(h, conditions)
            if index == 0 and self.init_attn is not None:
                h = self.init_attn(h, conditions)
            skips.append(h)
        return UNetState(self.middle_block(h, conditions), tuple(skips), conditions, x.dtype)

    def decode(self, state: UNetState, residuals: Sequence[Tensor] | None = None, *, bypass_temporal: bool = False) -> Tensor:
        """Runs the output blocks; each residual is added to what its input block, the last to what the middle block gave."""
        features = [*state.skips, state.mid]
        if residuals is not None:
            features = [h + residual.to(h.dtype) for h, residual in zip(features, residuals, strict=True)]
        conditions = replace(state.conditions, bypass_temporal=bypass_temporal)
        h = features.pop()
        for block in self.output_blocks:
            h = block(torch.cat([h, features.pop()], dim=1), conditions)
        return unfold(self.out(h), conditions.num_frames).to(state.dtype)

    def _embedding(self, timesteps: Tensor, fs: Tensor | None) -> Tensor:
        """[b, E] float32."""
        embedding: Tensor = self.time_embed(sinusoid(timesteps, self.model_channels))
        if self.fps_embedding is None:
            return embedding
        fs = torch.full_like(timesteps, self.default_fs) if fs is None else fs
        return embedding + self.fps_embedding(sinusoid(fs, self.model_channels))


def frame_context(context: Tensor, num_frames: int) -> Tensor:
    """Deals context [b, n, D] out to the frames, [(b t), n', D].

    Exactly 77 + 16 t tokens: every frame gets the 77 of the text and its own 16 of the image. Else: every frame gets all.
    """
    if context.shape[1] != TEXT_TOKENS + IMAGE_TOKENS_PER_FRAME * num_frames:
        return context.repeat_interleave(num_frames, dim=0)
    text = context[:, :TEXT_TOKENS].repeat_interleave(num_frames, dim=0)
    image = context[:, TEXT_TOKENS:].unflatten(1, (num_frames, IMAGE_TOKENS_PER_FRAME)).flatten(0, 1)
    return torch.cat([text, image], dim=1)


def _refuse_legacy(**options: bool) -> None:
    """UserError where an option of older networks in the family is on."""
    for name, value in options.items():
        if value:
            raise UserError(f"{name} is not supported", "no public interpolation model uses it", "Leave it out")
