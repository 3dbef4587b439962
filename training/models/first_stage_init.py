"""Starting points of decoder training: a Stable Diffusion image autoencoder or a Stable-Video-Diffusion temporal decoder.

ToonCrafter (arXiv 2405.17933) starts from "the vanilla image decoder": the 248 tensors of the SD VAE fit by name, the rest is
put so that the decoder equals its image part. Whether the release started from SVD's temporal decoder (arXiv 2311.15127) is not
published; its structure is the same without HAR, so that is offered too. Both functions take the original latent-diffusion names
and those of diffusers (AutoencoderKL with either spelling of its attention, AutoencoderKLTemporalDecoder).
"""

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from pipeline.errors import UserError
from training.models.autoencoder import DualRefAutoencoder

FIRST_STAGE_PREFIX = "first_stage_model."       # inside a whole-model checkpoint
NEW_PARTS = re.compile(r"\.(time_stack|mix_factor|time_mix_conv|attn_refinement)\b")
HAR_PART = re.compile(r"\.attn_refinement\.")
PARTS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")

# diffusers name, ours; applied one after the other to the beginning or the middle of a name
_RENAMES = (
    (r"\.mid_block\.resnets\.0\.", ".mid.block_1."),
    (r"\.mid_block\.resnets\.1\.", ".mid.block_2."),
    (r"\.mid_block\.attentions\.0\.", ".mid.attn_1."),
    (r"\.down_blocks\.(\d+)\.resnets\.", r".down.\1.block."),
    (r"\.down_blocks\.(\d+)\.downsamplers\.0\.", r".down.\1.downsample."),
    (r"\.up_blocks\.(\d+)\.resnets\.", r".up.\1.block."),
    (r"\.up_blocks\.(\d+)\.upsamplers\.0\.", r".up.\1.upsample."),
    (r"\.conv_shortcut\.", ".nin_shortcut."),
    (r"\.conv_norm_out\.", ".norm_out."),
    (r"\.group_norm\.", ".norm."),
    (r"\.(?:to_)?q(?:uery)?\.", ".q."),
    (r"\.(?:to_)?k(?:ey)?\.", ".k."),
    (r"\.(?:to_)?v(?:alue)?\.", ".v."),
    (r"\.(?:to_out\.0|proj_attn)\.", ".proj_out."),
    (r"\.spatial_res_block\.", "."),
    (r"\.temporal_res_block\.norm1\.", ".time_stack.in_layers.0."),
    (r"\.temporal_res_block\.conv1\.", ".time_stack.in_layers.2."),
    (r"\.temporal_res_block\.norm2\.", ".time_stack.out_layers.0."),
    (r"\.temporal_res_block\.conv2\.", ".time_stack.out_layers.3."),
    # diffusers mixes (1 - a) spatial + a temporal in this decoder, as we do: the factor carries over unchanged
    (r"\.time_mixer\.mix_factor$", ".mix_factor"),
    (r"\.time_conv_out\.", ".conv_out.time_mix_conv."),
)


def load_image_autoencoder(
    autoencoder: DualRefAutoencoder, state: Mapping[str, Tensor], *, source: str, fold_post_quant: bool = False,
) -> None:
    """Fills encoder, image part of the decoder and both 1x1 convolutions; HAR and P3D are put to adding nothing.

    The video decoder skips post_quant_conv, which SD's weights need. By default decoder.conv_in is loaded as it is in the file,
    and training has to make up for the skipped convolution; `fold_post_quant` multiplies it into decoder.conv_in (exact but
    for the outermost latents, where the padding misses its bias) and leaves post_quant_conv an identity, so that decoding with
    and without it agree. Which of the two the authors did is not published.
    Raises UserError where a tensor is missing, superfluous or of another shape; `source` names the file.
    """
    found = original_names(state, len(autoencoder.decoder.up))
    wanted = {name: value for name, value in autoencoder.state_dict().items() if not NEW_PARTS.search(name)}
    extra = [name for name in found if name not in wanted]
    if any(NEW_PARTS.search(name) for name in extra):
        raise UserError(
            f"{source} is not an image autoencoder", f"it has video tensors such as {_some(extra)}",
            "Start from the weights of an SD 2.1 VAE here, or load this file as a temporal decoder.")
    _refuse_unfit(found, wanted, extra, source, "the image autoencoder of SD 2.1")
    autoencoder.load_state_dict({name: found[name] for name in wanted}, strict=False)
    autoencoder.decoder.reset_to_image_decoder()
    if fold_post_quant:
        _fold_post_quant(autoencoder)


def load_temporal_decoder(autoencoder: DualRefAutoencoder, state: Mapping[str, Tensor], *, source: str) -> None:
    """Fills the whole decoder except HAR, which is put to adding nothing, from an SVD first stage.

    Encoder and 1x1 convolutions are not touched, whatever the file has: latents and references come from the image autoencoder,
    so load that one first. Raises UserError where a tensor is missing or of another shape, or where decoder tensors are left.
    """
    found = original_names(state, len(autoencoder.decoder.up))
    decoder_state = {f"decoder.{name}": value for name, value in autoencoder.decoder.state_dict().items()}
    wanted = {name: value for name, value in decoder_state.items() if not HAR_PART.search(name)}
    extra = [name for name in found if name.startswith("decoder.") and name not in wanted]
    if not any(NEW_PARTS.search(name) for name in found):
        raise UserError(
            f"{source} is not a temporal decoder", "it has no time stacks, merge factors or temporal output convolution",
            "Use the first stage of Stable Video Diffusion, or start from the image autoencoder.")
    _refuse_unfit(found, wanted, extra, source, "the temporal decoder of Stable Video Diffusion")
    autoencoder.decoder.reset_to_image_decoder()        # HAR to zero; what else it resets is filled now
    autoencoder.load_state_dict({name: found[name] for name in wanted}, strict=False)


def original_names(state: Mapping[str, Tensor], num_levels: int) -> dict[str, Tensor]:
    """Returns first-stage tensors under the original names, without prefix.

    Whatever else the file has is dropped: other models of a whole-model checkpoint, a training checkpoint's losses.
    """
    if any(name.startswith(FIRST_STAGE_PREFIX) for name in state):
        state = {
            name.removeprefix(FIRST_STAGE_PREFIX): value for name, value in state.items() if name.startswith(FIRST_STAGE_PREFIX)}
    state = {name: value for name, value in state.items() if name.startswith(PARTS)}
    if not any("mid_block." in name for name in state):
        return state
    found = {}
    for name, value in state.items():
        ours = name
        for pattern, replacement in _RENAMES:
            ours = re.sub(pattern, replacement, ours)
        if name.startswith("decoder.up_blocks."):       # diffusers counts from the smallest size, the original from the largest
            ours = re.sub(r"\.up\.(\d+)\.", lambda match: f".up.{num_levels - 1 - int(match[1])}.", ours)
        is_linear = ".attn_1." in ours and value.ndim == 2
        found[ours] = value[:, :, None, None] if is_linear else value       # linear layers there, 1x1 convolutions here
    return found


def _refuse_unfit(
    found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], extra: list[str], source: str, expected: str,
) -> None:
    missing = [name for name in wanted if name not in found]
    unfit = [
        f"{name} (file {_shape(found[name])}, model {_shape(value)})"
        for name, value in wanted.items() if name in found and found[name].shape != value.shape]
    if missing or extra or unfit:
        details = [
            f"{len(names)} {word}: {_some(names)}"
            for names, word in ((missing, "missing"), (extra, "unexpected"), (unfit, "of another shape")) if names]
        raise UserError(f"{source} does not fit model dualref_autoencoder", "; ".join(details), f"Expected is {expected}.")


def _fold_post_quant(autoencoder: DualRefAutoencoder) -> None:
    post, conv = autoencoder.post_quant_conv, autoencoder.decoder.conv_in
    assert post.bias is not None and conv.bias is not None
    with torch.no_grad():
        matrix = post.weight[:, :, 0, 0]
        conv.bias.add_(torch.einsum("oihw,i->o", conv.weight, post.bias))
        conv.weight.copy_(torch.einsum("oihw,ij->ojhw", conv.weight, matrix))
        post.weight.copy_(torch.eye(*matrix.shape)[:, :, None, None])
        post.bias.zero_()


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:3]) + (" and others" if len(names) > 3 else "")


def _shape(tensor: Tensor) -> str:
    return "x".join(str(side) for side in tensor.shape) or "scalar"
