"""The sketch encoder S: a copy of the UNet's 2-D encoder that turns sketches into residuals for the frozen UNet.

ToonCrafter (arXiv 2405.17933), sketch-based generation guidance: F_i = S(s_i, z_i, t), each frame on its own, as in ControlNet
(arXiv 2302.05543). Hints are strokes 1 on background 0; a frame without a sketch has an all-zero hint and still gets residuals.
The paper gives S no text, while its trunk attends to tokens: which ones is not published. `SketchContext` is the choice; the
public weights are used with all tokens, own training takes the text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

import torch
from torch import Tensor, nn

from pipeline.errors import UserError
from training.models.attention import TEXT_TOKENS
from training.models.block import Conditions, set_checkpointing
from training.models.resblock import embedding_mlp, sinusoid, zero_init
from training.models.unet3d import IMAGE_TOKENS_PER_FRAME, Layout, frame_context

HINT_CHANNELS = (16, 16, 32, 32, 96, 96, 256)    # every second convolution after the first halves the size: 8x in all
FRESH_PARTS = ("input_hint_block.", "zero_convs.", "middle_block_out.")      # what a UNet has nothing to give to
LAYOUT_PREFIX = "model.diffusion_model."         # of the UNet in whole-model checkpoints


class SketchContext(StrEnum):
    """The tokens the sketch encoder's frames attend to."""

    TEXT = "text"                                    # the caption
    TEXT_AND_FRAME_IMAGE = "text_and_frame_image"    # the caption and the frame's own image tokens
    ALL_TOKENS = "all_tokens"                        # every token of the sample


class SketchEncoder(nn.Module):
    """Residuals for each input block and the middle block of a UNet of the same layout; all zero in a fresh model.

    Arguments are those of the public ControlNet configuration: `image_size` changes nothing; the network always has
    spatial transformers, and `legacy` head counts do not occur in the Stable Diffusion 2 family.
    """

    def __init__(self, *, in_channels: int = 4, hint_channels: int = 1, model_channels: int, channel_mult: Sequence[int],
                 num_res_blocks: int, attention_resolutions: Sequence[int], num_head_channels: int, transformer_depth: int = 1,
                 context_dim: int, use_linear_in_transformer: bool = True, dropout: float = 0.0, use_checkpoint: bool = False,
                 image_size: int | None = None, use_spatial_transformer: bool = True, legacy: bool = False) -> None:
        super().__init__()
        if legacy or not use_spatial_transformer:
            raise UserError("the sketch encoder needs use_spatial_transformer=true and legacy=false",
                            "the Stable Diffusion 2 trunk it copies is made so", "Leave both out")
        layout = Layout(
            model_channels=model_channels, channel_mult=channel_mult, num_res_blocks=num_res_blocks,
            attention_resolutions=attention_resolutions, head_dim=num_head_channels, depth=transformer_depth,
            context_dim=context_dim, use_linear=use_linear_in_transformer, dropout=dropout)
        self.model_channels = model_channels
        self.time_embed = embedding_mlp(model_channels, layout.embedding_dim)
        self.input_hint_block = _hint_stem(hint_channels, model_channels)
        self.input_blocks, channels = layout.input_blocks(in_channels)
        self.zero_convs = nn.ModuleList(_zero_conv(each) for each in channels)
        self.middle_block = layout.middle_block()
        self.middle_block_out = _zero_conv(channels[-1])
        set_checkpointing(self, "all" if use_checkpoint else "none")

    def forward(self, z_t: Tensor, hint: Tensor, timesteps: Tensor, context: Tensor) -> list[Tensor]:
        """One residual per input block, then that of the middle block, each [n, c, h', w'] with the features' channels and size.

        z_t [n, in_channels, h, w] noisy latents of single frames; hint [n, hint_channels, 8 h, 8 w] in [0, 1];
        timesteps [n]; context [n, k, D], see `sketch_context`.
        """
        dtype = next(self.input_blocks.parameters()).dtype
        embedding = self.time_embed(sinusoid(timesteps, self.model_channels))
        conditions = Conditions(embedding, context.to(dtype), num_frames=1)
        h = z_t.to(dtype)
        residuals = []
        for index, (block, zero_conv) in enumerate(zip(self.input_blocks, self.zero_convs, strict=True)):
            h = block(h, conditions)
            if index == 0:
                h = h + self.input_hint_block(hint.to(dtype))
            residuals.append(zero_conv(h))
        return [*residuals, self.middle_block_out(self.middle_block(h, conditions))]

    @torch.no_grad()
    def load_encoder_half(self, state: Mapping[str, Tensor]) -> None:
        """Copies the trunk from a UNet's tensors, Stable Diffusion 2.1's or `UNet3D`'s; the other parts stay as they are.

        Keys may carry the prefix of whole-model checkpoints. Of a first convolution that also reads the end frames, the
        channels of the noisy latent are taken. UserError where a tensor is missing or has another shape.
        """
        prefix = LAYOUT_PREFIX if any(name.startswith(LAYOUT_PREFIX) for name in state) else ""
        # A UNet3D has its temporal transformer between the middle block's spatial one and the last residual block.
        last = 3 if f"{prefix}middle_block.3.in_layers.0.weight" in state else 2
        missing, misshapen = [], []
        for name, parameter in self.named_parameters():
            if name.startswith(FRESH_PARTS):
                continue
            source = prefix + name.replace("middle_block.2.", f"middle_block.{last}.")
            if source not in state:
                missing.append(source)
                continue
            found = state[source]
            if name == "input_blocks.0.0.weight":
                found = found[:, :parameter.shape[1]]
            if found.shape != parameter.shape:
                misshapen.append(source)
                continue
            parameter.copy_(found)
        if missing or misshapen:
            raise UserError("the sketch encoder cannot start from these weights",
                            f"{len(missing)} tensors are missing, {len(misshapen)} have another shape, "
                            f"first {(missing + misshapen)[0]}",
                            "Give Stable Diffusion 2.1's UNet or a UNet of this project with the same channels")


def sketch_context(context: Tensor, num_frames: int, choice: SketchContext) -> Tensor:
    """The tokens of `choice` for each frame, [(b t), k, D], out of a sample's context [b, n, D]: text, then image tokens."""
    if choice is SketchContext.TEXT:
        context = context[:, :TEXT_TOKENS]
    if choice is not SketchContext.TEXT_AND_FRAME_IMAGE:
        return context.repeat_interleave(num_frames, dim=0)
    needed = TEXT_TOKENS + IMAGE_TOKENS_PER_FRAME * num_frames
    if context.shape[1] != needed:
        raise UserError(f"a context of {context.shape[1]} tokens has no image tokens per frame",
                        f"{num_frames} frames need {needed}", f"Use {SketchContext.ALL_TOKENS} or {SketchContext.TEXT}")
    return frame_context(context, num_frames)


def _hint_stem(hint_channels: int, out_channels: int) -> nn.Sequential:
    """Convolutions from pixels to the latent's size, the last of them zero."""
    layers: list[nn.Module] = []
    channels = hint_channels
    for index, width in enumerate(HINT_CHANNELS):
        stride = 2 if index in (2, 4, 6) else 1
        layers += [nn.Conv2d(channels, width, 3, padding=1, stride=stride), nn.SiLU()]
        channels = width
    return nn.Sequential(*layers, zero_init(nn.Conv2d(channels, out_channels, 3, padding=1)))


def _zero_conv(channels: int) -> nn.Sequential:
    return nn.Sequential(zero_init(nn.Conv2d(channels, channels, 1)))
