"""Promise: the UNet has the public layout, starts silent where it must, and is the same by every way of running it."""

import re

import pytest
import torch
from unet_builders import (
    BATCH,
    HEIGHT,
    NUM_FRAMES,
    WIDTH,
    awake,
    inputs,
    listed_shapes,
    public_unet,
    relative_error,
    shapes,
    silent_parts,
    tiny_unet,
)

from pipeline.errors import UserError
from training.models import attention
from training.models.block import Block, ConditionedLayer
from training.models.resblock import GroupNorm32, sinusoid
from training.models.unet3d import frame_context, set_checkpointing


def is_temporal(name):
    return re.search(r"temopral_conv|init_attn|(input_blocks\.\d+|output_blocks\.\d+|middle_block)\.2\.(norm|proj|trans)", name)


def test_full_size_unet_has_the_public_keys_and_shapes():
    assert shapes(public_unet()) == listed_shapes("unet_512_interp")


def test_full_size_unet_has_the_public_number_of_parameters():
    unet = public_unet()
    assert sum(parameter.numel() for parameter in unet.parameters()) == 1_438_854_980
    assert len(unet.state_dict()) == 1516


def test_fresh_unet_is_silent_exactly_where_a_branch_ends():
    ends = re.compile(r"out\.2|fps_embedding\.2|.*\.out_layers\.3|.*\.proj_out|.*\.temopral_conv\.conv4\.3")
    unet = tiny_unet()
    assert silent_parts(unet) == {name for name, part in unet.named_modules() if ends.fullmatch(name)}


def test_fresh_temporal_layers_change_nothing_to_the_bit():
    unet = awake(tiny_unet(), lambda name: not is_temporal(name))
    found = unet(*inputs())
    assert found.std() > 0.05
    assert torch.equal(found, unet(*inputs(), bypass_temporal=True))


def test_bypassing_temporal_layers_keeps_frames_apart():
    unet = awake(tiny_unet())
    x, *rest = inputs()
    changed = x.clone()
    changed[:, :, 0] += 1
    apart = unet(changed, *rest, bypass_temporal=True) != unet(x, *rest, bypass_temporal=True)
    assert apart[:, :, 0].any() and not apart[:, :, 1:].any()
    assert (unet(changed, *rest) != unet(x, *rest))[:, :, 1:].any()


@pytest.mark.parametrize("num_frames", [12, 16])
def test_each_frame_sees_its_own_image_tokens_for_any_number_of_frames(num_frames):
    unet = awake(tiny_unet())
    x, timesteps, context, fs = inputs(num_frames, 77 + 16 * num_frames, batch=1)
    other = context.clone()
    other[:, 77 + 16 * 5:77 + 16 * 6] += 1                # tokens of frame 5
    changed = (unet(x, timesteps, other, fs, bypass_temporal=True)
               != unet(x, timesteps, context, fs, bypass_temporal=True)).flatten(3).any(3).any(1)[0]
    assert changed.tolist() == [frame == 5 for frame in range(num_frames)]


def test_any_other_number_of_tokens_is_seen_by_every_frame():
    unet = awake(tiny_unet())
    x, timesteps, context, fs = inputs(12, 77 + 16 * 16, batch=1)
    other = context.clone()
    other[:, -1] += 1
    changed = unet(x, timesteps, other, fs, bypass_temporal=True) != unet(x, timesteps, context, fs, bypass_temporal=True)
    assert changed.flatten(3).any(3).any(1).all()


def test_frame_context_deals_tokens_out_batch_major():
    context = torch.arange(2 * (77 + 32)).reshape(2, -1, 1)
    dealt = frame_context(context, 2)
    assert dealt.shape == (4, 93, 1)
    assert torch.equal(dealt[3, :77], context[1, :77])
    assert torch.equal(dealt[3, 77:], context[1, 93:])
    assert torch.equal(frame_context(context, 3), context.repeat_interleave(3, dim=0))


def test_text_alone_is_a_valid_context():
    found = awake(tiny_unet())(*inputs(num_tokens=77))
    assert torch.isfinite(found).all()


def test_without_image_attention_image_tokens_are_ignored():
    unet = awake(tiny_unet(image_cross_attention=False))
    x, timesteps, context, fs = inputs()
    assert not any("_ip" in name for name in unet.state_dict())
    assert torch.equal(unet(x, timesteps, context, fs), unet(x, timesteps, context[:, :77], fs))


def test_absent_fps_means_the_default_one():
    unet = awake(tiny_unet(default_fs=10))
    x, timesteps, context, fs = inputs()
    assert torch.equal(unet(x, timesteps, context), unet(x, timesteps, context, torch.full_like(fs, 10)))
    assert not torch.equal(unet(x, timesteps, context), unet(x, timesteps, context, fs))


def test_learnable_image_scale_is_one_at_first_and_one_plus_tanh_later():
    plain, scaled = awake(tiny_unet()), tiny_unet(image_cross_attention_scale_learnable=True)
    absent = scaled.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert absent and all(name.endswith("1.transformer_blocks.0.attn2.alpha") for name in absent)
    assert torch.equal(scaled(*inputs()), plain(*inputs()))
    x, timesteps, context, fs = inputs()
    for name, parameter in scaled.named_parameters():
        if name.endswith("alpha"):
            parameter.data.fill_(-20.0)                   # tanh(-20) + 1 = 0: the image is not heard
    assert torch.equal(scaled(x, timesteps, context, fs), plain(x, timesteps, context[:, :77], fs))


@pytest.mark.parametrize("option", [{"use_relative_position": True}, {"use_causal_attention": True},
                                    {"temporal_selfatt_only": False}])
def test_legacy_options_are_refused(option):
    with pytest.raises(UserError, match="not supported"):
        tiny_unet(**option)


def test_convolutional_projections_keep_their_stored_shape_and_agree_with_linear_ones():
    linear, convolutional = awake(tiny_unet()), tiny_unet(use_linear=False)
    expected = shapes(convolutional)
    assert expected["input_blocks.1.1.proj_in.weight"] == (32, 32, 1, 1)
    assert expected["input_blocks.1.2.proj_in.weight"] == (32, 32, 1)
    convolutional.load_state_dict({name: tensor.reshape(expected[name]) for name, tensor in linear.state_dict().items()})
    assert torch.equal(convolutional(*inputs()), linear(*inputs()))


def test_switched_off_parts_have_no_weights():
    names = tiny_unet(temporal_conv=False, temporal_attention=False, addition_attention=False, fs_condition=False).state_dict()
    assert not [name for name in names if is_temporal(name) or "fps" in name]


def test_halves_make_the_whole():
    unet = awake(tiny_unet())
    assert torch.equal(unet.decode(unet.encode(*inputs())), unet(*inputs()))
    bypassed = unet.decode(unet.encode(*inputs(), bypass_temporal=True), bypass_temporal=True)
    assert torch.equal(bypassed, unet(*inputs(), bypass_temporal=True))


def test_each_half_bypasses_temporal_layers_by_its_own_argument():
    unet = awake(tiny_unet())
    found = [unet.decode(unet.encode(*inputs(), bypass_temporal=first), bypass_temporal=second)
             for first in (False, True) for second in (False, True)]
    assert all(not torch.equal(found[i], found[j]) for i in range(4) for j in range(i))


def test_residuals_learn_although_the_first_half_runs_without_gradient():
    unet = awake(tiny_unet()).requires_grad_(False)
    with torch.no_grad():
        state = unet.encode(*inputs())
    residuals = [torch.zeros_like(h, requires_grad=True) for h in (*state.skips, state.mid)]
    unet.decode(state, residuals).square().sum().backward()
    assert all(residual.grad is not None and residual.grad.any() for residual in residuals)


def test_float32_residuals_enter_a_bf16_unet():
    unet = awake(tiny_unet()).bfloat16()
    state = unet.encode(*inputs())
    residuals = [torch.zeros(h.shape) for h in (*state.skips, state.mid)]
    assert torch.equal(unet.decode(state, residuals), unet.decode(state))


def test_a_residual_too_few_is_an_error():
    unet = tiny_unet()
    state = unet.encode(*inputs())
    with pytest.raises(ValueError, match="argument"):
        unet.decode(state, state.skips)


def test_a_size_that_cannot_be_halved_is_refused_in_a_sentence():
    x, *rest = inputs()
    with pytest.raises(UserError, match="divisible by 16 pixels"):
        tiny_unet()(x[..., :5], *rest)


def gradients(unet):
    torch.manual_seed(5)                                   # of dropout
    unet.zero_grad()
    x, *rest = inputs()
    unet(x.requires_grad_(), *rest).square().mean().backward()
    return {name: parameter.grad.clone() for name, parameter in unet.named_parameters()} | {"x": x.grad}


@pytest.mark.parametrize("which", ["all", "selective"])
def test_recomputing_activations_gives_the_same_gradients_with_dropout(which):
    unet = awake(tiny_unet(dropout=0.5)).train()
    expected = gradients(unet)
    set_checkpointing(unet, which)
    found = gradients(unet)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_less_is_kept_the_more_is_recomputed():
    unet = awake(tiny_unet(channel_mult=(1, 1, 2, 2))).train()
    x, *rest = inputs()
    x = torch.nn.functional.pad(x, (0, 2, 0, 4))           # 8 x 8: three halvings

    def kept():
        tensors = {}
        with torch.autograd.graph.saved_tensors_hooks(lambda t: tensors.setdefault(t.data_ptr(), t), lambda t: t):
            unet(x, *rest)
        return sum(t.numel() for t in tensors.values())

    sums = []
    for which in ("none", "selective", "all"):
        set_checkpointing(unet, which)
        sums.append(kept())
    assert sums[0] > sums[1] > sums[2]


def test_selective_recomputing_takes_the_high_resolutions():
    unet = tiny_unet(channel_mult=(1, 1, 2, 2))

    def factors():
        return {block.factor for block in unet.modules() if isinstance(block, Block)
                for layer in block if isinstance(layer, ConditionedLayer) and layer.checkpointing}

    for which, expected in {"all": {1, 2, 4, 8}, "selective": {1, 2}, "none": set()}.items():
        set_checkpointing(unet, which)
        assert factors() == expected
    set_checkpointing(unet, "selective", selective_factors=(1,))
    assert factors() == {1}
    with pytest.raises(UserError, match="Did you mean selective"):
        set_checkpointing(unet, "selectiv")


def test_bf16_weights_stay_within_two_hundredths():
    unet = awake(tiny_unet())
    expected = unet(*inputs())
    found = unet.bfloat16()(*inputs())
    assert found.dtype == torch.float32                    # as the input
    assert 0 < relative_error(found, expected) < 2e-2


def test_autocast_stays_within_two_hundredths_and_trains():
    unet = awake(tiny_unet())
    expected = unet(*inputs())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = unet(*inputs())
    assert found.dtype == torch.float32
    assert 0 < relative_error(found, expected) < 2e-2
    found.square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in unet.parameters())


@pytest.mark.parametrize("autocast", [True, False])
def test_embedding_of_time_is_float32_whatever_the_weights(autocast):
    unet = awake(tiny_unet()).bfloat16()
    exact = awake(tiny_unet())
    exact.load_state_dict({name: tensor.float() for name, tensor in unet.state_dict().items()})
    x, timesteps, context, fs = inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        found = unet.encode(x, timesteps, context, fs).conditions.embedding
    assert torch.equal(found, exact.encode(x, timesteps, context, fs).conditions.embedding)


def test_norm_of_bf16_features_is_computed_in_float32():
    norm = GroupNorm32(32)
    x = (100 + torch.randn(2, 32, 16, 16)).bfloat16()       # bf16 statistics of this would be far off
    expected = torch.nn.functional.group_norm(x.float(), 32, eps=1e-5)
    assert norm(x).dtype == torch.bfloat16
    assert relative_error(norm.bfloat16()(x), expected) < 4e-3           # rounding of the result alone


def test_norms_within_a_frame_see_no_other_frame():
    x = torch.randn(4, 32, 5, 5)
    assert torch.equal(GroupNorm32(32)(x)[:1], GroupNorm32(32)(x[:1]))


def test_sinusoid_has_cosines_first_and_pads_odd_sizes():
    found = sinusoid(torch.tensor([0, 3]), 5)
    # Frequencies 1 and 10000 ** (-1 / 2) = 0.01.
    expected = torch.tensor([[1, 1, 0, 0, 0], [3.0, 0.03, 3.0, 0.03, 0]])
    expected[1, :2], expected[1, 2:4] = expected[1, :2].cos(), expected[1, 2:4].sin()
    torch.testing.assert_close(found, expected)


def test_more_sequences_than_a_kernel_takes_are_attended_in_parts(monkeypatch):
    unet = awake(tiny_unet())
    expected = unet(*inputs())
    monkeypatch.setattr(attention, "MAX_SEQUENCES", 5)     # the tiny model has 48 pixels and 6 frames
    torch.testing.assert_close(unet(*inputs()), expected, atol=1e-5, rtol=1e-5)


def test_output_has_the_shape_of_the_latent():
    assert tiny_unet()(*inputs()).shape == (BATCH, 4, NUM_FRAMES, HEIGHT, WIDTH)
