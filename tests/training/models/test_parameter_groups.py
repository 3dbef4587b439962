"""Promise: every tensor is in exactly one group, and the groups are as large as those of the public model."""

import json
import math

import pytest
from unet_builders import SPEC_DIR, listed_shapes, public_sketch_encoder, public_unet, tiny_unet

from pipeline.errors import UserError
from training.models.attention import TemporalTransformer
from training.models.parameter_groups import TEMPORAL_GROUPS, group_names, group_of, groups
from training.models.resblock import TemporalConvBlock

# (tensors, parameters) of the public 512 x 320 interpolation model.
UNET = {
    "spatial_other": (682, 863_871_684), "spatial_image_kv": (32, 25_559_040), "time_embed": (4, 2_050_560),
    "fps_embed": (4, 2_050_560), "temporal_conv": (352, 266_891_520), "temporal_attn": (416, 272_850_880),
    "temporal_init_attn": (26, 5_580_736),
}
FIRST_STAGE = {
    "encoder": (106, 34_163_592), "quant_conv": (2, 72), "post_quant_conv": (2, 20), "dec_image": (138, 49_490_179),
    "dec_har_cross_attn": (14, 2_100_224), "dec_har_zero_conv": (6, 98_816), "dec_p3d_time_stack": (112, 14_088_960),
    "dec_p3d_mix_factor": (14, 14), "dec_p3d_time_mix_conv": (2, 30),
}
PROJECTOR = (51, 48_787_456)


def sizes(model, shapes):
    """Group -> (tensors, parameters)."""
    found = {group: (0, 0) for group in group_names(model) if group != "lora"}      # no published network has updates
    for name, shape in shapes.items():
        tensors, parameters = found[group_of(model, name)]
        found[group_of(model, name)] = tensors + 1, parameters + math.prod(shape)
    return found


def test_groups_of_the_full_size_unet_have_the_public_sizes():
    unet = public_unet()
    assert sizes("unet3d", {name: parameter.shape for name, parameter in unet.named_parameters()}) == UNET
    assert sum(UNET[group][1] for group in TEMPORAL_GROUPS) == 545_323_136


def test_rectification_trains_the_public_number_of_parameters():
    trained = [UNET[group] for group in ("spatial_other", "spatial_image_kv", "time_embed")] + [PROJECTOR]
    assert sum(parameters for _, parameters in trained) == 940_268_740


def test_groups_of_the_public_first_stage_have_the_public_sizes():
    assert sizes("dualref_autoencoder", listed_shapes("first_stage_dualref")) == FIRST_STAGE


def test_projector_and_sketch_encoder_are_one_group_each():
    assert sizes("resampler", listed_shapes("image_proj_resampler")) == {"projector": PROJECTOR}
    sketch = {name: parameter.shape for name, parameter in public_sketch_encoder().named_parameters()}
    assert sizes("sketch_encoder", sketch) == {"sketch": (340, 364_227_952)}


def test_sizes_agree_with_the_published_table():
    path = SPEC_DIR / "state_dict" / "parameter_groups.json"
    if not path.exists():
        pytest.skip(f"no table of group sizes {path.name}: set SPEC_DIR to its folder's parent")
    for part, expected in (("unet", UNET), ("first_stage", FIRST_STAGE)):
        table = json.loads(path.read_text())[part]
        assert {name: (entry["tensors"], entry["parameters"]) for name, entry in table.items()} == expected


@pytest.mark.parametrize("options", [{}, {"temporal_attention": False}, {"image_cross_attention_scale_learnable": True},
                                     {"attention_resolutions": (2,)}, {"channel_mult": (1, 2, 2)}])
def test_names_tell_temporal_layers_as_their_classes_do(options):
    unet = tiny_unet(**options)
    expected = {f"{path}.{name}" for path, part in unet.named_modules()
                if isinstance(part, TemporalConvBlock | TemporalTransformer) for name, _ in part.named_parameters()}
    found = groups("unet3d", unet)
    assert {name for group in TEMPORAL_GROUPS for name in found[group]} == expected
    assert sorted(name for names in found.values() for name in names) == sorted(name for name, _ in unet.named_parameters())


def test_learnable_image_scale_belongs_to_the_image_branch():
    found = groups("unet3d", tiny_unet(image_cross_attention_scale_learnable=True))
    assert any(name.endswith("alpha") for name in found["spatial_image_kv"])
    assert not any(name.endswith("alpha") for name in found["spatial_other"])


@pytest.mark.parametrize(("model", "name"), [("unet3d", "model.diffusion_model.out.0.weight"), ("unet3d", "label_emb.weight"),
                                             ("dualref_autoencoder", "decoder.new_part.weight"),
                                             ("dualref_autoencoder", "loss.logvar")])
def test_a_name_the_model_cannot_have_is_an_error(model, name):
    with pytest.raises(UserError, match="belongs to no parameter group"):
        group_of(model, name)


def test_a_misspelt_model_is_answered_with_the_nearest_name():
    with pytest.raises(UserError, match="Did you mean resampler"):
        group_of("resampelr", "latents")
