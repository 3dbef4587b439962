"""Promise: the autoencoder with the dual-reference decoder reproduces stored float32 outputs, whatever the configuration."""

import pytest
import torch
from cases import cases

from training.models.autoencoder import LATENT_SCALE, DualRefAutoencoder, Posterior
from training.models.decoding import decode_video, second_decode_indices
from training.models.kl_blocks import to_frames


def build(case):
    autoencoder = DualRefAutoencoder(
        ddconfig=case.record["ddconfig"], embed_dim=case.record["embed_dim"],
        cross_attention_levels=case.record["cross_attention_levels"]).eval()
    autoencoder.load_state_dict(case.weights, strict=True)
    return autoencoder


def stored_references(case):
    return tuple(case.tensors[f"ref_context.{i}"] for i in range(len(case.record["ddconfig"]["ch_mult"]) + 1))


@pytest.mark.parametrize("case", cases("vae_dualref"))
@torch.no_grad()
def test_encoder_moments_and_references_agree(case):
    autoencoder, x = build(case), case.tensors["x"]
    moments = autoencoder.moments(to_frames(x))
    case.check(moments, "moments")
    case.check(Posterior.from_moments(moments).std, "posterior_std")
    encoding = autoencoder.encode_clip(x)
    case.check(encoding.posterior.mean, case.tensors["moments"].chunk(2, dim=1)[0])
    case.check(encoding.posterior.std, "posterior_std")
    alone = autoencoder.references(x[:, :, [0, -1]])
    assert len(alone) == len(encoding.references) == len(stored_references(case))
    for i in range(len(alone)):
        case.check(alone[i], f"ref_context.{i}")
        case.check(encoding.references[i], f"ref_context.{i}")


@pytest.mark.parametrize(("name", "has_references", "options"), [
    ("dec_har_p3d", True, {}),
    ("dec_har_only", True, {"skip_temporal": True}),
    ("dec_p3d_only", False, {}),
    ("dec_plain", False, {"skip_temporal": True}),
    ("dec_plain_post_quant", False, {"skip_temporal": True, "post_quant": True}),
])
@pytest.mark.parametrize("case", cases("vae_dualref"))
@torch.no_grad()
def test_each_decoder_variant_agrees(case, name, has_references, options):
    references = stored_references(case) if has_references else None
    case.check(build(case).decode(case.tensors["z"], case.record["frames"], references, **options), name)


@pytest.mark.parametrize("case", cases("vae_dualref"))
@torch.no_grad()
def test_second_decode_agrees(case):
    z = case.tensors["splice_z"] * LATENT_SCALE
    references = tuple(reference[:1] for reference in stored_references(case))
    autoencoder = build(case)
    case.check(decode_video(autoencoder, z, references, second_decode=False), "splice_full")
    case.check(decode_video(autoencoder, z, references), "splice_out")
    assert second_decode_indices(z.shape[2]) == case.record["splice_keep_indices"]


@pytest.mark.parametrize("case", cases("vae_dualref"))
@torch.no_grad()
def test_activations_inside_the_decoder_agree(case):
    names = [name for name in case.tensors if name.startswith("act/")]
    if not names:
        pytest.skip(f"{case.path.stem} stores no activations")
    decoder = build(case).decoder
    places = {"act/conv_in": decoder.conv_in, "act/mid": decoder.mid.block_2}
    places |= {f"act/up.{i}": level.block[-1] for i, level in enumerate(decoder.up)}
    places |= {f"act/refine.{i}": module for i, module in enumerate(decoder.attn_refinement)}
    found = {}
    for name, module in places.items():
        module.register_forward_hook(lambda _module, _inputs, output, name=name: found.__setitem__(name, output))
    decoder(case.tensors["z"], case.record["frames"], stored_references(case))
    for name in names:
        case.check(found[name], name)
