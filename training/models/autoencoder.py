"""KL autoencoder of the first stage: image encoder with posterior, and the dual-reference 3D decoder.

The encoder is Stable Diffusion's (arXiv 2112.10752): frame by frame, so clips are folded to images. It also gives the features
of a clip's two end frames to which the decoder refers. Attention exists only in the middle stage, as in all public weights of
this family. Parameter names and shapes are those of the public checkpoint without its prefix `first_stage_model.`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.models.dualref_decoder import DualRefDecoder, Middle, References
from training.models.kl_blocks import Downsample, ResidualBlock, group_norm, to_frames, to_video

LATENT_SCALE = 0.18215                  # the diffusion model works on LATENT_SCALE * z
LOGVAR_RANGE = (-30.0, 20.0)


@dataclass(frozen=True, slots=True)
class Posterior:
    """Diagonal Gaussian over unscaled latents: mean and clamped log-variance, each [n, z, h, w]."""

    mean: Tensor
    logvar: Tensor

    @classmethod
    def from_moments(cls, moments: Tensor) -> "Posterior":
        """Splits [n, 2 z, h, w] into mean and log-variance, the latter clamped to [-30, 20]."""
        mean, logvar = moments.chunk(2, dim=1)
        return cls(mean=mean, logvar=logvar.clamp(*LOGVAR_RANGE))

    @property
    def std(self) -> Tensor:
        return torch.exp(0.5 * self.logvar)

    def sample(self, noise: Tensor) -> Tensor:
        """Returns mean + std * noise; the caller draws the noise, shaped like the mean."""
        return self.mean + self.std * noise

    def mode(self) -> Tensor:
        return self.mean


@dataclass(frozen=True, slots=True)
class ClipEncoding:
    """What one pass of the encoder over a clip gives: posterior of all frames, folded, and the end frames' features."""

    posterior: Posterior
    references: References


class EncoderLevel(nn.Module):
    """One resolution of the encoder: residual blocks and, except at the smallest, the step down."""

    def __init__(self, channels: Sequence[int], dropout: float, *, has_downsample: bool) -> None:
        super().__init__()
        self.block = nn.ModuleList(ResidualBlock(channels[i], channels[i + 1], dropout) for i in range(len(channels) - 1))
        self.downsample = Downsample(channels[-1]) if has_downsample else None


class Encoder(nn.Module):
    """Image encoder to 2 z_channels moments (before quant_conv)."""

    def __init__(
        self, *, z_channels: int, in_channels: int, ch: int, ch_mult: Sequence[int], num_res_blocks: int, dropout: float = 0.0,
    ) -> None:
        super().__init__()
        widths = [ch * factor for factor in ch_mult]
        self.conv_in = nn.Conv2d(in_channels, ch, 3, padding=1)
        entering = [ch, *widths[:-1]]
        self.down = nn.ModuleList(
            EncoderLevel([entering[i]] + [widths[i]] * num_res_blocks, dropout, has_downsample=i < len(widths) - 1)
            for i in range(len(widths)))
        self.mid = Middle(widths[-1], ResidualBlock, dropout)
        self.norm_out = group_norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], 2 * z_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[n, in, H, W] in [-1, 1] -> [n, 2 z, h, w]."""
        return self.finish(self.descend(x))

    def descend(self, x: Tensor, features: list[Tensor] | None = None) -> Tensor:
        """Runs the levels, not the middle stage; appends to `features`, if given, what the decoder refers to.

        These are the last block's output of each level before its step down, then the output of conv_in.
        """
        stem = x = self.conv_in(x)
        for level in self.down:
            assert isinstance(level, EncoderLevel)
            for block in level.block:
                x = block(x)
            if features is not None:
                features.append(x)
            if level.downsample is not None:
                x = level.downsample(x)
        if features is not None:
            features.append(stem)
        return x

    def finish(self, x: Tensor) -> Tensor:
        """Middle stage and output of what `descend` returned."""
        x = self.mid.block_2(self.mid.attn_1(self.mid.block_1(x)))
        return self.conv_out(F.silu(self.norm_out(x)))


class DualRefAutoencoder(nn.Module):
    """Encoder, 1x1 convolutions around the latent, and the dual-reference decoder.

    `ddconfig` has the keys of the public configurations: z_channels, in_channels, out_ch, ch, ch_mult, num_res_blocks, dropout;
    `resolution` is carried there, too, but decides nothing where no level has attention.
    Raises ValueError for a `ddconfig` with attention in the levels or without log-variance: no weights of that form exist; and
    for a first level wider than conv_in, whose features could not be added after the decoder's last norm.
    """

    def __init__(
        self, *, ddconfig: Mapping[str, Any], embed_dim: int = 4, cross_attention_levels: Sequence[int] = (2, 3),
        use_checkpoint: bool = False, attention_frames_per_slice: int | None = None,
    ) -> None:
        super().__init__()
        if ddconfig.get("attn_resolutions") or not ddconfig.get("double_z", True) or ddconfig["ch_mult"][0] != 1:
            raise ValueError(f"ddconfig needs empty attn_resolutions, double_z true, ch_mult from 1 on, found {dict(ddconfig)}")
        z_channels, dropout = ddconfig["z_channels"], ddconfig.get("dropout", 0.0)
        ch, ch_mult, num_res_blocks = ddconfig["ch"], tuple(ddconfig["ch_mult"]), ddconfig["num_res_blocks"]
        self.encoder = Encoder(
            z_channels=z_channels, in_channels=ddconfig["in_channels"], ch=ch, ch_mult=ch_mult, num_res_blocks=num_res_blocks,
            dropout=dropout)
        self.decoder = DualRefDecoder(
            z_channels=z_channels, out_ch=ddconfig["out_ch"], ch=ch, ch_mult=ch_mult, num_res_blocks=num_res_blocks,
            dropout=dropout, cross_attention_levels=cross_attention_levels, use_checkpoint=use_checkpoint,
            attention_frames_per_slice=attention_frames_per_slice)
        self.quant_conv = nn.Conv2d(2 * z_channels, 2 * embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(embed_dim, z_channels, 1)

    def moments(self, x: Tensor) -> Tensor:
        """[n, 3, H, W] in [-1, 1] -> mean and unclamped log-variance [n, 2 z, h, w]."""
        return self.quant_conv(self.encoder(x))

    def encode(self, x: Tensor) -> Posterior:
        """Encodes images [n, 3, H, W] in [-1, 1]; latents are not scaled."""
        return Posterior.from_moments(self.moments(x))

    def references(self, end_frames: Tensor) -> References:
        """Returns the encoder's features of first and last frames.

        [b, 3, 2, H, W] in [-1, 1] -> one [b, C_i, 2, H_i, W_i] per level, then conv_in's output.
        """
        features: list[Tensor] = []
        self.encoder.descend(to_frames(end_frames), features)
        return tuple(to_video(feature, 2) for feature in features)

    def encode_clip(self, frames: Tensor) -> ClipEncoding:
        """Encodes clips [b, 3, t, H, W] in [-1, 1], t >= 2, running the end frames through the encoder once for both uses."""
        num_frames = frames.shape[2]
        features: list[Tensor] = []
        ends = self.encoder.finish(self.encoder.descend(to_frames(frames[:, :, [0, -1]]), features))
        parts = ends.unflatten(0, (-1, 2)).split(1, dim=1)
        if num_frames > 2:
            middle = self.encoder(to_frames(frames[:, :, 1:-1])).unflatten(0, (-1, num_frames - 2))
            parts = (parts[0], middle, parts[1])
        moments = self.quant_conv(torch.cat(parts, dim=1).flatten(0, 1))
        return ClipEncoding(Posterior.from_moments(moments), tuple(to_video(feature, 2) for feature in features))

    def decode(
        self, z: Tensor, num_frames: int, references: References | None = None, *,
        skip_temporal: bool = False, post_quant: bool = False,
    ) -> Tensor:
        """Decodes unscaled latents [(b t), z, h, w] to pixels [(b t), 3, H, W] about [-1, 1].

        The video decoder was trained without post_quant_conv; `post_quant` applies it, as the ordinary image decoder needs.
        """
        return self.decoder(self.post_quant_conv(z) if post_quant else z, num_frames, references, skip_temporal=skip_temporal)
