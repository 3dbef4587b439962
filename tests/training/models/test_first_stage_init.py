"""Promise: decoder training starts exactly from a public image autoencoder or temporal decoder, or says why it cannot."""

import pytest
import torch
from tiny_first_stage import TINY, make_autoencoder, make_clip, make_latents

from pipeline.errors import UserError
from training.models.first_stage_init import NEW_PARTS, load_image_autoencoder, load_temporal_decoder
from training.models.kl_blocks import to_frames

NUM_LEVELS, NUM_BLOCKS = len(TINY["ch_mult"]), TINY["num_res_blocks"]


def image_state(autoencoder):
    return {name: value.clone() for name, value in autoencoder.state_dict().items() if not NEW_PARTS.search(name)}


def temporal_state(autoencoder):
    return {name: value.clone() for name, value in autoencoder.state_dict().items() if "attn_refinement" not in name}


def image_decode(autoencoder, z, **options):
    with torch.no_grad():
        return autoencoder.decode(to_frames(z), z.shape[2], skip_temporal=True, **options)


def block_pairs(ours, theirs, *, is_temporal=False):
    """Names of one residual block's layers, ours and in diffusers."""
    spatial = f"{theirs}.spatial_res_block" if is_temporal else theirs
    pairs = [(f"{ours}.{layer}", f"{spatial}.{layer}") for layer in ("norm1", "conv1", "norm2", "conv2")]
    pairs.append((f"{ours}.nin_shortcut", f"{spatial}.conv_shortcut"))
    if is_temporal:
        stack = {"in_layers.0": "norm1", "in_layers.2": "conv1", "out_layers.0": "norm2", "out_layers.3": "conv2"}
        pairs += [(f"{ours}.time_stack.{layer}", f"{theirs}.temporal_res_block.{name}") for layer, name in stack.items()]
    return pairs


def diffusers_names(*, is_temporal, has_old_attention=False):
    """Ours -> diffusers' module names of the tiny autoencoder, spelled out from the two public layouts."""
    attention = ("query", "key", "value", "proj_attn") if has_old_attention else ("to_q", "to_k", "to_v", "to_out.0")
    pairs = [("quant_conv", "quant_conv"), ("post_quant_conv", "post_quant_conv")]
    for part in ("encoder", "decoder"):
        video = is_temporal and part == "decoder"
        pairs += [(f"{part}.conv_in", f"{part}.conv_in"), (f"{part}.conv_out", f"{part}.conv_out")]
        pairs.append((f"{part}.norm_out", f"{part}.conv_norm_out"))
        pairs.append((f"{part}.mid.attn_1.norm", f"{part}.mid_block.attentions.0.group_norm"))
        pairs += [
            (f"{part}.mid.attn_1.{ours}", f"{part}.mid_block.attentions.0.{theirs}")
            for ours, theirs in zip(("q", "k", "v", "proj_out"), attention, strict=True)]
        for ours, theirs in (("block_1", "resnets.0"), ("block_2", "resnets.1")):
            pairs += block_pairs(f"{part}.mid.{ours}", f"{part}.mid_block.{theirs}", is_temporal=video)
    for i in range(NUM_LEVELS):
        for j in range(NUM_BLOCKS):
            pairs += block_pairs(f"encoder.down.{i}.block.{j}", f"encoder.down_blocks.{i}.resnets.{j}")
        pairs.append((f"encoder.down.{i}.downsample.conv", f"encoder.down_blocks.{i}.downsamplers.0.conv"))
        up = f"decoder.up_blocks.{NUM_LEVELS - 1 - i}"
        for j in range(NUM_BLOCKS + 1):
            pairs += block_pairs(f"decoder.up.{i}.block.{j}", f"{up}.resnets.{j}", is_temporal=is_temporal)
        pairs.append((f"decoder.up.{i}.upsample.conv", f"{up}.upsamplers.0.conv"))
    pairs.append(("decoder.conv_out.time_mix_conv", "decoder.time_conv_out"))
    return dict(pairs)


def in_diffusers_names(state, **choices):
    names, found = diffusers_names(**choices), {}
    for name, value in state.items():
        module, kind = name.rsplit(".", 1)
        if kind == "mix_factor":                        # belongs to the block itself, there to a mixer in it
            theirs = names[f"{module}.time_stack.in_layers.0"].replace("temporal_res_block.norm1", "time_mixer")
            found[f"{theirs}.mix_factor"] = value
        else:
            is_attention = ".attn_1." in name and value.ndim == 4
            found[f"{names[module]}.{kind}"] = value[:, :, 0, 0] if is_attention else value
    return found


@pytest.mark.parametrize("spelling", ["original", "whole_model", "diffusers", "old_diffusers"])
def test_image_weights_fit_in_every_public_spelling(spelling):
    given = make_autoencoder(seed=5)
    state = image_state(given)
    if spelling == "whole_model":
        state = {f"first_stage_model.{name}": value for name, value in state.items()}
        state["model.diffusion_model.x"] = torch.zeros(1)
    elif spelling != "original":
        state = in_diffusers_names(state, is_temporal=False, has_old_attention=spelling == "old_diffusers")
    autoencoder = make_autoencoder(seed=6)
    load_image_autoencoder(autoencoder, state, source="vae.safetensors")
    found = image_state(autoencoder)
    assert found.keys() == image_state(given).keys()
    assert all(torch.equal(found[name], value) for name, value in image_state(given).items())


@torch.no_grad()
def test_from_an_image_autoencoder_the_decoder_equals_its_image_part():
    given, autoencoder, z = make_autoencoder(seed=5), make_autoencoder(seed=6), make_latents()
    load_image_autoencoder(autoencoder, image_state(given), source="vae.safetensors")
    references = autoencoder.references(make_clip()[:, :, [0, -1]])
    found = autoencoder.decode(to_frames(z), 5, references)
    torch.testing.assert_close(found, image_decode(given, z), atol=1e-6, rtol=1e-6)
    assert not autoencoder.decoder.up[0].block[0].mix_factor.any()


def test_folding_makes_the_video_decoder_agree_with_the_ordinary_image_decoder():
    given, autoencoder = make_autoencoder(seed=5), make_autoencoder(seed=6)
    load_image_autoencoder(autoencoder, image_state(given), source="vae.safetensors", fold_post_quant=True)
    z = to_frames(make_latents(height=6, width=6))
    with torch.no_grad():
        expected, found = given.decoder.conv_in(given.post_quant_conv(z)), autoencoder.decoder.conv_in(z)
    torch.testing.assert_close(found[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], atol=1e-5, rtol=1e-5)
    z = make_latents()
    torch.testing.assert_close(image_decode(autoencoder, z, post_quant=True), image_decode(autoencoder, z))


@pytest.mark.parametrize("is_diffusers", [False, True])
def test_temporal_decoder_fits_and_leaves_the_encoder(is_diffusers):
    given, autoencoder, z = make_autoencoder(seed=5), make_autoencoder(seed=6), make_latents()
    before = {name: value.clone() for name, value in autoencoder.state_dict().items() if not name.startswith("decoder.")}
    state = temporal_state(given)
    if is_diffusers:
        state = in_diffusers_names({name: value for name, value in state.items() if "post_quant" not in name}, is_temporal=True)
    load_temporal_decoder(autoencoder, state, source="svd.safetensors")
    with torch.no_grad():
        references = autoencoder.references(make_clip()[:, :, [0, -1]])
        found, expected = autoencoder.decode(to_frames(z), 5, references), given.decode(to_frames(z), 5)
    assert torch.equal(found, expected)
    assert all(torch.equal(autoencoder.state_dict()[name], value) for name, value in before.items())


def test_wrong_files_are_refused_in_one_sentence():
    autoencoder = make_autoencoder()
    state = image_state(autoencoder)
    with pytest.raises(UserError, match=r"1 missing: encoder\.conv_in\.weight"):
        load_image_autoencoder(autoencoder, {k: v for k, v in state.items() if k != "encoder.conv_in.weight"}, source="a")
    with pytest.raises(UserError, match=r"1 of another shape: decoder\.conv_in\.bias \(file 7, model 64\)"):
        load_image_autoencoder(autoencoder, state | {"decoder.conv_in.bias": torch.zeros(7)}, source="a")
    with pytest.raises(UserError, match=r"1 unexpected: decoder\.extra"):
        load_image_autoencoder(autoencoder, state | {"decoder.extra": torch.zeros(7)}, source="a")
    with pytest.raises(UserError, match="not an image autoencoder"):
        load_image_autoencoder(autoencoder, autoencoder.state_dict(), source="a")
    with pytest.raises(UserError, match="not a temporal decoder"):
        load_temporal_decoder(autoencoder, state, source="a")
    broken = temporal_state(autoencoder)
    del broken["decoder.up.0.block.0.mix_factor"]
    with pytest.raises(UserError, match=r"1 missing: decoder\.up\.0\.block\.0\.mix_factor"):
        load_temporal_decoder(autoencoder, broken, source="a")


def test_a_refused_file_changes_nothing():
    autoencoder = make_autoencoder()
    before = {name: value.clone() for name, value in autoencoder.state_dict().items()}
    state = temporal_state(make_autoencoder(seed=5)) | {"decoder.extra": torch.zeros(1)}
    with pytest.raises(UserError, match=r"decoder\.extra"):
        load_temporal_decoder(autoencoder, state, source="a")
    assert all(torch.equal(autoencoder.state_dict()[name], value) for name, value in before.items())
