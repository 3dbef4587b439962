"""The sizes of all networks under one name: the published models, and a tiny set whose parts fit together.

Source: the public inference configurations of ToonCrafter and DynamiCrafter (spec sections 1.1, 2.1, 3, 4, 7.2) and
OpenCLIP's ViT-H-14. `tiny` is ours: the same structure everywhere, for tests and dry runs on a CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from pipeline.errors import UserError, nearest

# Everything a network's constructor is told, by its argument's name.
Settings = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class ScheduleSettings:
    """Arguments of training.diffusion.schedule.make_schedule; `base_scale` is that of the dynamic rescale."""

    timesteps: int = 1000
    linear_start: float = 0.00085
    linear_end: float = 0.012
    zero_terminal_snr: bool = True
    parameterization: str = "v"
    dynamic_rescale: bool = True
    base_scale: float = 0.7
    turning_step: int = 400


@dataclass(frozen=True, slots=True)
class PresetInfo:
    """What belongs to a preset beside the networks. Latents are 8 times smaller than pictures."""

    name: str
    width_px: int
    height_px: int
    num_frames: int
    default_fs: int            # the fps condition where none is given
    context_width: int
    schedule: ScheduleSettings

    @property
    def latent_size(self) -> tuple[int, int]:
        """(height, width), as in the public configurations."""
        return self.height_px // 8, self.width_px // 8

    @property
    def base_scale(self) -> float:
        return self.schedule.base_scale


@dataclass(frozen=True, slots=True)
class Preset:
    info: PresetInfo
    networks: Mapping[str, Settings] = field(default_factory=dict)


_UNET = {
    "in_channels": 8, "out_channels": 4, "model_channels": 320, "channel_mult": (1, 2, 4, 4), "num_res_blocks": 2,
    "attention_resolutions": (4, 2, 1), "num_head_channels": 64, "transformer_depth": 1, "context_dim": 1024,
    "use_linear": True, "temporal_conv": True, "temporal_attention": True, "temporal_selfatt_only": True,
    "use_relative_position": False, "use_causal_attention": False, "temporal_length": 16, "addition_attention": True,
    "image_cross_attention": True, "image_cross_attention_scale_learnable": False, "fs_condition": True, "default_fs": 24,
    "dropout": 0.1,
}
_SKETCH = {
    "in_channels": 4, "hint_channels": 1, "model_channels": 320, "channel_mult": (1, 2, 4, 4), "num_res_blocks": 2,
    "attention_resolutions": (4, 2, 1), "num_head_channels": 64, "transformer_depth": 1, "context_dim": 1024,
}
_DDCONFIG = {
    "double_z": True, "z_channels": 4, "in_channels": 3, "out_ch": 3, "ch": 128, "ch_mult": (1, 2, 4, 4),
    "num_res_blocks": 2, "attn_resolutions": (), "dropout": 0.0,
}
_FULL: dict[str, Settings] = {
    "unet3d": _UNET,
    "dualref_autoencoder": {"ddconfig": _DDCONFIG, "embed_dim": 4, "cross_attention_levels": (2, 3)},
    "resampler": {"dim": 1024, "depth": 4, "dim_head": 64, "heads": 12, "num_queries": 16, "embedding_dim": 1280,
                  "output_dim": 1024, "ff_mult": 4, "video_length": 16},
    "sketch_encoder": _SKETCH,
    "openclip_text": {"context_length": 77, "vocab_size": 49408, "width": 1024, "heads": 16, "layers": 24, "embed_dim": 1024},
    "openclip_image": {"image_size": 224, "layers": 32, "width": 1280, "head_width": 80, "patch_size": 14, "embed_dim": 1024,
                       "context_length": 77, "vocab_size": 49408, "text_width": 1024},
    "discriminator": {"input_channels": 3, "ndf": 64, "n_layers": 3},
}
_TINY_TRUNK = {"model_channels": 32, "channel_mult": (1, 2), "num_res_blocks": 1, "attention_resolutions": (1, 2),
               "num_head_channels": 8, "context_dim": 32}
_TINY: dict[str, Settings] = {
    "unet3d": {**_UNET, **_TINY_TRUNK},
    # Four levels as in the published one: pictures are 8 times larger than latents, and all five references exist.
    "dualref_autoencoder": {"ddconfig": {**_DDCONFIG, "ch": 32, "ch_mult": (1, 1, 2, 2), "num_res_blocks": 1},
                            "embed_dim": 4, "cross_attention_levels": (2, 3)},
    "resampler": {"dim": 32, "depth": 2, "dim_head": 8, "heads": 4, "num_queries": 16, "embedding_dim": 32,
                  "output_dim": 32, "ff_mult": 4, "video_length": 16},
    "sketch_encoder": {**_SKETCH, **_TINY_TRUNK},
    "openclip_text": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 2, "embed_dim": 32},
    "openclip_image": {"image_size": 224, "layers": 2, "width": 32, "head_width": 8, "patch_size": 14, "embed_dim": 32,
                       "context_length": 77, "vocab_size": 49408, "text_width": 32},
    "discriminator": {"input_channels": 3, "ndf": 16, "n_layers": 3},
}

PRESETS: Mapping[str, Preset] = MappingProxyType({
    "tooncrafter_512": Preset(PresetInfo("tooncrafter_512", 512, 320, 16, 24, 1024, ScheduleSettings()), _FULL),
    # The public 1024 model has the same networks; only conditions and schedule differ.
    "tooncrafter_1024": Preset(
        PresetInfo("tooncrafter_1024", 1024, 576, 16, 10, 1024, ScheduleSettings(base_scale=0.3)),
        {**_FULL, "unet3d": {**_UNET, "default_fs": 10}}),
    "tiny": Preset(PresetInfo("tiny", 64, 48, 16, 24, 32, ScheduleSettings()), _TINY),
})


def preset_named(preset: str) -> Preset:
    """Returns the preset; UserError with the nearest name."""
    if preset not in PRESETS:
        near = nearest(preset, PRESETS)
        fix = f"Did you mean {near}?" if near else f"There are: {', '.join(PRESETS)}"
        raise UserError(f"{preset} is no preset of networks", fix=fix)
    return PRESETS[preset]


def preset_info(preset: str) -> PresetInfo:
    """Returns picture size, conditions and schedule of a preset; UserError with the nearest name."""
    return preset_named(preset).info
