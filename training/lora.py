"""Low-rank updates (LoRA, arXiv 2106.09685) of the UNet's spatial attention, for rectification with less memory.

The paper trains all spatial weights; this is ours, for machines where that does not fit. The layers are peft's. Names on disk
stay upstream's: the updates are merged into the weights they belong to, or written apart under peft's names.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from training.config import LoraConfig
from training.models.unet3d import UNet3D

# Queries, keys, values and outputs of spatial transformers, which stand at index 1 of their blocks.
TARGETS = (r"(input_blocks\.\d+|output_blocks\.\d+|middle_block)\.1\.transformer_blocks\.\d+\.attn[12]\."
           r"(to_q|to_k|to_v|to_k_ip|to_v_ip|to_out\.0)")
ADAPTER = "default"


def add_lora(unet: UNet3D, config: LoraConfig) -> None:
    """Puts updates of rank config.rank, scaled by alpha / rank, beside the spatial attention's weights; they begin at zero."""
    from peft import LoraConfig as PeftConfig
    from peft import inject_adapter_in_model

    inject_adapter_in_model(PeftConfig(
        r=config.rank, lora_alpha=config.alpha,  # type: ignore[arg-type]  # it is divided by the rank: any number will do
        target_modules=TARGETS, lora_dropout=0.0), unet)


def exported(weights: Mapping[str, Tensor], config: LoraConfig) -> dict[str, Tensor]:
    """Weights of a network with updates under the names without them: merged, or with merge_on_export off kept apart."""
    scale = config.alpha / config.rank
    found: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if ".base_layer." not in name:
            if ".lora_" not in name or not config.merge_on_export:
                found[name] = tensor
            continue
        plain = name.replace(".base_layer.", ".")
        layer = name.partition(".base_layer.")[0]
        if config.merge_on_export and name.endswith(".weight"):
            down, up = (weights[f"{layer}.lora_{part}.{ADAPTER}.weight"] for part in "AB")
            tensor = tensor + scale * (up @ down)
        found[plain] = tensor
    return found
