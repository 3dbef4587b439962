"""Which part of a model each tensor belongs to, told by its name, so that a training says in a few words what it changes.

Names follow the checkpoints' keys. Toon rectification (ToonCrafter, arXiv 2405.17933, table 3) trains "spatial layers and the
projector", freezes "temporal layers"; the paper does not say where the embeddings of time and fps and the image branch of
cross-attention belong, so they are groups of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import nn

from pipeline.errors import UserError, nearest

# The first pattern found at the start of a name decides; a name none fits is an error, never a default.
_PATTERNS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "unet3d": (
        (r".*\.lora_[AB]\.", "lora"),              # of training/lora.py; no published network has them
        (r"time_embed\.", "time_embed"),
        (r"fps_embedding\.", "fps_embed"),
        (r"init_attn\.", "temporal_init_attn"),
        (r"\w+_blocks?\..*\btemopral_conv\.", "temporal_conv"),
        # A spatial transformer is at index 1; what may be at 2 besides the temporal one has none of these parts.
        (r"(input_blocks\.\d+|output_blocks\.\d+|middle_block)\.2\.(norm|proj_in|proj_out|transformer_blocks)\.",
         "temporal_attn"),
        (r"\w+_blocks?\..*\.attn2\.(to_k_ip\.|to_v_ip\.|alpha$)", "spatial_image_kv"),
        (r"(input_blocks|middle_block|output_blocks|out)\.", "spatial_other"),
    ),
    "dualref_autoencoder": (
        (r"encoder\.", "encoder"),
        (r"quant_conv\.", "quant_conv"),
        (r"post_quant_conv\.", "post_quant_conv"),
        (r"decoder\..*\btime_stack\.", "dec_p3d_time_stack"),
        (r"decoder\..*\bmix_factor$", "dec_p3d_mix_factor"),
        (r"decoder\.conv_out\.time_mix_conv\.", "dec_p3d_time_mix_conv"),
        (r"decoder\.attn_refinement\.\d+\.conv\.", "dec_har_zero_conv"),
        (r"decoder\.attn_refinement\.\d+\.(norm|to_q|to_k|to_v|to_out)\.", "dec_har_cross_attn"),
        (r"decoder\.(conv_in|mid|up|norm_out|conv_out)\.", "dec_image"),
    ),
    "resampler": ((r"", "projector"),),
    "sketch_encoder": ((r"", "sketch"),),
    "discriminator": ((r"", "discriminator"),),
    "animeinterp": (
        (r"flownet\.attention2\.", "flow_confidence"),
        (r"flownet\.(fnet|update_block)\.", "flow"),
        (r"feat_ext\.", "features"),
        (r"synnet\.", "synthesis"),
        (r"importance\.", "importance"),
    ),
}
TEMPORAL_GROUPS = ("temporal_conv", "temporal_attn", "temporal_init_attn")


def group_names(model: str) -> tuple[str, ...]:
    """Every group of a model, in a fixed order."""
    return tuple(dict.fromkeys(group for _, group in _patterns(model)))


def group_of(model: str, name: str) -> str:
    """The group of the tensor `name` (a key without a prefix) of a model; UserError for a name the model cannot have."""
    for pattern, group in _patterns(model):
        if re.match(pattern, name):
            return group
    raise UserError(f"{name} belongs to no parameter group of {model}", "no layer of the model has such a name",
                    "Take off prefixes of its file, or give it a group in training/models/parameter_groups.py")


def groups(model: str, module: nn.Module) -> dict[str, list[str]]:
    """The names of the module's parameters by group, in the module's order; groups without parameters are empty lists."""
    found: dict[str, list[str]] = {group: [] for group in group_names(model)}
    for name, _ in module.named_parameters():
        found[group_of(model, name)].append(name)
    return found


def _patterns(model: str) -> tuple[tuple[str, str], ...]:
    if model not in _PATTERNS:
        meant = nearest(model, _PATTERNS)
        raise UserError(f"{model} has no parameter groups", f"models are {', '.join(_PATTERNS)}",
                        f"Did you mean {meant}?" if meant else "")
    return _PATTERNS[model]
