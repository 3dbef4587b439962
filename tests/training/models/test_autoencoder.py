"""Promise: the autoencoder has the public layout, treats samples apart, and its memory savings change no number."""

import json
import os
from functools import cache
from pathlib import Path

import pytest
import torch
from tiny_first_stage import TINY, make_autoencoder, make_clip, make_latents

from training.models.autoencoder import DualRefAutoencoder, Posterior
from training.models.dualref_decoder import LastLayer, P3DBlock, ZeroConvRefinement
from training.models.kl_blocks import ResidualBlock, to_frames, to_video

SPEC_DIR = Path(os.environ.get("SPEC_DIR", Path(__file__).parents[3].parent / "shared" / "spec"))
FULL = {
    "double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128, "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0}


def stored_layout(name):
    path = SPEC_DIR / "state_dict" / name
    if not path.exists():
        pytest.skip(f"no {name}: set SPEC_DIR to the folder that has state_dict/")
    return {key: tuple(entry["shape"]) for key, entry in json.loads(path.read_text(encoding="utf-8")).items()}


@cache
def full_size():
    with torch.device("meta"):
        return DualRefAutoencoder(ddconfig=FULL)


def decode_tiny(autoencoder, **options):
    clip, z = make_clip(), make_latents()
    return autoencoder.decode(to_frames(z), 5, autoencoder.references(clip[:, :, [0, -1]]), **options)


def test_full_size_has_exactly_the_public_keys_and_shapes():
    found = {name: tuple(value.shape) for name, value in full_size().state_dict().items()}
    assert found == stored_layout("first_stage_dualref.json")


def test_full_size_has_the_public_number_of_parameters():
    assert sum(parameter.numel() for parameter in full_size().parameters()) == 99_941_907


def test_plain_image_autoencoder_is_a_strict_subset():
    found = {name: tuple(value.shape) for name, value in full_size().state_dict().items()}
    plain = stored_layout("first_stage_plain_kl.json")
    assert len(plain) == 248
    assert plain.items() < found.items()


def test_posterior_clamps_and_samples_mean_plus_std_times_noise():
    moments = torch.tensor([[1.0, 2.0, 100.0, -100.0]]).reshape(1, 4, 1, 1)
    posterior = Posterior.from_moments(moments)
    assert posterior.logvar.flatten().tolist() == [20.0, -30.0]
    noise = torch.tensor([0.5, 1e6]).reshape(1, 2, 1, 1)
    expected = torch.tensor([1 + 0.5 * 22026.4658, 2 + 1e6 * 3.05902e-7])       # exp(10), exp(-15)
    torch.testing.assert_close(posterior.sample(noise).flatten(), expected)
    assert torch.equal(posterior.mode(), moments[:, :2])


@torch.no_grad()
@pytest.mark.parametrize("num_frames", [2, 3, 5])
def test_encoding_a_clip_equals_encoding_its_frames_and_references(num_frames):
    autoencoder, clip = make_autoencoder(), make_clip(num_frames=num_frames)
    encoding = autoencoder.encode_clip(clip)
    torch.testing.assert_close(encoding.posterior.mean, autoencoder.encode(to_frames(clip)).mean)
    for found, expected in zip(encoding.references, autoencoder.references(clip[:, :, [0, -1]]), strict=True):
        assert torch.equal(found, expected)


@torch.no_grad()
def test_a_sample_alone_decodes_as_in_its_batch():
    autoencoder, clip, z = make_autoencoder(), make_clip(), make_latents()
    references = autoencoder.references(clip[:, :, [0, -1]])
    together = autoencoder.decode(to_frames(z), 5, references)
    for sample in range(2):
        part = slice(sample, sample + 1)
        alone = autoencoder.decode(to_frames(z[part]), 5, tuple(reference[part] for reference in references))
        torch.testing.assert_close(alone, together[5 * sample:5 * sample + 5], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_fresh_refinement_changes_no_bit():
    autoencoder, z = make_autoencoder(is_fresh=True), make_latents()
    assert torch.equal(decode_tiny(autoencoder), autoencoder.decode(to_frames(z), 5))
    assert not torch.equal(decode_tiny(make_autoencoder()), make_autoencoder().decode(to_frames(z), 5))


@torch.no_grad()
def test_fresh_decoder_equals_the_image_decoder():
    autoencoder, z = make_autoencoder(is_fresh=True), to_frames(make_latents())
    image = autoencoder.decode(z, 5, skip_temporal=True)
    torch.testing.assert_close(autoencoder.decode(z, 5), image, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(autoencoder.decode(z[3:4], 1, skip_temporal=True), image[3:4], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_fresh_p3d_block_equals_its_image_block_for_any_merge_factor():
    torch.manual_seed(0)
    block, image = P3DBlock(32, 64), ResidualBlock(32, 64)
    image.load_state_dict({name: value for name, value in block.state_dict().items() if "time" not in name and "mix" not in name})
    x = torch.randn(6, 32, 4, 4)
    block.mix_factor.fill_(1.7)
    assert torch.equal(block(x, 3), image(x))


@torch.no_grad()
def test_zero_conv_touches_only_the_clips_end_frames_and_not_its_input():
    refinement = ZeroConvRefinement(4)
    refinement.conv.weight.copy_(torch.eye(4)[:, :, None, None])
    x, reference = torch.zeros(6, 4, 1, 1), torch.tensor([1.0, 2.0]).expand(2, 4, 2)[..., None, None]
    found = to_video(refinement(x, reference, 3), 3)[:, :, :, 0, 0]
    assert torch.equal(found, torch.tensor([1.0, 0.0, 2.0]).expand(2, 4, 3))
    first_only = to_video(refinement(x, reference, 3, (True, False)), 3)[:, :, :, 0, 0]
    assert torch.equal(first_only, torch.tensor([1.0, 0.0, 0.0]).expand(2, 4, 3))
    assert torch.equal(refinement(x, reference, 3, (False, False)), x)
    assert not x.any()


@torch.no_grad()
@pytest.mark.parametrize("frames_per_slice", [1, 2, 3])
def test_attention_in_slices_gives_the_same_pixels(frames_per_slice):
    autoencoder = make_autoencoder()
    whole = decode_tiny(autoencoder)
    seen = []
    autoencoder.decoder.attn_refinement[2].to_q.register_forward_pre_hook(
        lambda _module, inputs: seen.append(inputs[0].shape[1]))
    autoencoder.decoder.attention_frames_per_slice = frames_per_slice
    torch.testing.assert_close(decode_tiny(autoencoder), whole, atol=1e-5, rtol=1e-5)
    assert max(seen) == frames_per_slice * 6 * 8        # level 2 is half of 24x32 pixels / 2


def test_checkpointing_changes_no_gradient():
    gradients, recomputed = {}, []
    for use_checkpoint in (False, True):
        autoencoder = make_autoencoder()
        autoencoder.decoder.use_checkpoint = use_checkpoint
        calls = []
        autoencoder.decoder.up[0].block[0].register_forward_pre_hook(lambda _module, _inputs, calls=calls: calls.append(1))
        decode_tiny(autoencoder).square().mean().backward()
        recomputed.append(len(calls))
        gradients[use_checkpoint] = {
            name: value.grad for name, value in autoencoder.decoder.named_parameters() if value.grad is not None}
    assert recomputed == [1, 2]
    assert gradients[True].keys() == gradients[False].keys() == dict(autoencoder.decoder.named_parameters()).keys()
    for name in gradients[True]:
        torch.testing.assert_close(gradients[True][name], gradients[False][name], atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_post_quant_conv_is_left_out_unless_asked_for():
    autoencoder = make_autoencoder()
    plain = decode_tiny(autoencoder)
    autoencoder.post_quant_conv.weight.mul_(3.0)
    assert torch.equal(decode_tiny(autoencoder), plain)
    assert not torch.allclose(decode_tiny(autoencoder, post_quant=True), plain)


@torch.no_grad()
def test_skip_temporal_leaves_frames_independent():
    autoencoder, z = make_autoencoder(), to_frames(make_latents())
    changed = z.clone()
    changed[2] += 1.0
    apart = autoencoder.decode(z, 5, skip_temporal=True), autoencoder.decode(changed, 5, skip_temporal=True)
    mixed = autoencoder.decode(z, 5), autoencoder.decode(changed, 5)
    assert torch.equal(apart[0][[0, 1, 3, 4]], apart[1][[0, 1, 3, 4]])
    assert not torch.allclose(mixed[0][[1, 3]], mixed[1][[1, 3]])


@torch.no_grad()
def test_bf16_decoding_stays_within_two_percent():
    exact = decode_tiny(make_autoencoder())
    autoencoder = make_autoencoder().bfloat16()
    references = autoencoder.references(make_clip()[:, :, [0, -1]].bfloat16())
    found = autoencoder.decode(to_frames(make_latents()).bfloat16(), 5, references)
    assert found.dtype == torch.bfloat16
    assert (found.float() - exact).norm() / exact.norm() < 2e-2


def test_last_layer_is_the_chosen_convolution():
    decoder = make_autoencoder().decoder
    assert decoder.last_layer(LastLayer.CONV_OUT) is decoder.conv_out.weight
    assert decoder.last_layer("time_mix_conv") is decoder.conv_out.time_mix_conv.weight


def test_references_of_another_batch_are_refused():
    autoencoder = make_autoencoder()
    with pytest.raises(ValueError, match="references of 2 samples were given for latents of 1"):
        autoencoder.decode(to_frames(make_latents(num_samples=1)), 5, autoencoder.references(make_clip()[:, :, [0, -1]]))
    with pytest.raises(ValueError, match="not whole clips of 4 frames"):
        autoencoder.decode(to_frames(make_latents(num_samples=1)), 4)


@torch.no_grad()
@pytest.mark.parametrize(("change", "levels"), [
    ({"ch_mult": [1, 2, 4], "num_res_blocks": 2}, [1, 2]), ({"ch_mult": [1, 1, 2, 2, 4]}, [3, 4]), ({"ch_mult": [1, 2]}, [])])
def test_other_depths_and_levels_of_attention_decode(change, levels):
    torch.manual_seed(0)
    autoencoder = DualRefAutoencoder(ddconfig=TINY | change, cross_attention_levels=levels)
    encoding = autoencoder.encode_clip(make_clip(height=32, width=48))
    assert len(encoding.references) == len(change["ch_mult"]) + 1
    assert autoencoder.decode(encoding.posterior.mode(), 5, encoding.references).shape == (10, 3, 32, 48)


@pytest.mark.parametrize("change", [{"attn_resolutions": [16]}, {"double_z": False}, {"ch_mult": [2, 2]}])
def test_layouts_without_public_weights_are_refused(change):
    with pytest.raises(ValueError, match="ddconfig"):
        DualRefAutoencoder(ddconfig=TINY | change)
