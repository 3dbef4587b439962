"""Promise: the sketch encoder has the public layout, is silent when fresh, and treats every frame on its own."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from unet_builders import (
    BATCH,
    HEIGHT,
    NUM_FRAMES,
    WIDTH,
    awake,
    inputs,
    listed_shapes,
    public_sketch_encoder,
    relative_error,
    shapes,
    silent_parts,
    tiny_sketch_encoder,
    tiny_unet,
)

from pipeline.errors import UserError
from training.models.block import set_checkpointing
from training.models.resblock import fold
from training.models.sketch_encoder import SketchContext, sketch_context


def sketch_inputs():
    """z_t, hint, timesteps, context of every frame, folded."""
    x, timesteps, context, _ = inputs()
    hint = torch.rand(BATCH * NUM_FRAMES, 1, 8 * HEIGHT, 8 * WIDTH, generator=torch.Generator().manual_seed(4))
    return (fold(x[:, :4]), hint, timesteps.repeat_interleave(NUM_FRAMES),
            sketch_context(context, NUM_FRAMES, SketchContext.TEXT_AND_FRAME_IMAGE))


def test_full_size_sketch_encoder_has_the_public_keys_and_shapes():
    assert shapes(public_sketch_encoder()) == listed_shapes("sketch_encoder_controlnet_sd21_hint1")


def test_full_size_sketch_encoder_has_the_public_number_of_parameters():
    assert sum(parameter.numel() for parameter in public_sketch_encoder().parameters()) == 364_227_952


def test_fresh_sketch_encoder_is_silent_exactly_where_a_branch_ends():
    ends = re.compile(r"zero_convs(\.\d+(\.0)?)?|middle_block_out(\.0)?|input_hint_block\.14|.*\.out_layers\.3|.*\.proj_out")
    sketch = tiny_sketch_encoder()
    assert silent_parts(sketch) == {name for name, part in sketch.named_modules() if ends.fullmatch(name)}


def test_residuals_of_a_fresh_encoder_change_nothing_to_the_bit():
    unet = awake(tiny_unet())
    residuals = tiny_sketch_encoder()(*sketch_inputs())
    assert torch.equal(unet(*inputs(), residuals=residuals), unet(*inputs()))


def test_residuals_fit_what_they_are_added_to():
    state = tiny_unet().encode(*inputs())
    residuals = tiny_sketch_encoder()(*sketch_inputs())
    assert [residual.shape for residual in residuals] == [h.shape for h in (*state.skips, state.mid)]


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(BATCH * NUM_FRAMES)))
def test_permuting_frames_permutes_residuals(order):
    sketch = awake(tiny_sketch_encoder())
    with torch.no_grad():
        expected = sketch(*sketch_inputs())
        found = sketch(*(tensor[order] for tensor in sketch_inputs()))
    for permuted, residual in zip(found, expected, strict=True):
        torch.testing.assert_close(permuted, residual[order], atol=1e-5, rtol=1e-5)


def test_the_hint_of_a_frame_reaches_that_frame_alone():
    sketch = awake(tiny_sketch_encoder())
    z_t, hint, *rest = sketch_inputs()
    blank = hint.clone()
    blank[2] = 0
    for found, expected in zip(sketch(z_t, blank, *rest), sketch(z_t, hint, *rest), strict=True):
        changed = (found != expected).flatten(1).any(1)
        assert changed.tolist() == [frame == 2 for frame in range(BATCH * NUM_FRAMES)]
        assert found[2].any()                              # a frame without a sketch has residuals, too


def test_each_choice_of_tokens_gives_each_frame_its_own():
    context = torch.arange(2 * (77 + 32)).reshape(2, -1, 1)
    text = sketch_context(context, 2, SketchContext.TEXT)
    assert torch.equal(text, context[:, :77].repeat_interleave(2, dim=0))
    everything = sketch_context(context, 2, SketchContext.ALL_TOKENS)
    assert torch.equal(everything, context.repeat_interleave(2, dim=0))
    own = sketch_context(context, 2, SketchContext.TEXT_AND_FRAME_IMAGE)
    assert torch.equal(own[3], torch.cat([context[1, :77], context[1, 93:]]))


def test_image_tokens_per_frame_are_refused_where_there_are_none():
    with pytest.raises(UserError, match="3 frames need 125"):
        sketch_context(torch.zeros(1, 109, 4), 3, SketchContext.TEXT_AND_FRAME_IMAGE)


def transparent(sketch):
    """Makes the output convolutions the identity, so that residuals show the trunk's features."""
    for conv in [*sketch.zero_convs, sketch.middle_block_out]:
        torch.nn.init.dirac_(conv[0].weight)
    return sketch


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_trunk_taken_from_a_unet_computes_what_the_unet_computes(prefix):
    # What S has not is silent here: end frames zero, fps layer fresh, text alone, temporal layers bypassed.
    unet = awake(tiny_unet(), lambda name: not name.startswith("fps_embedding.2"))
    sketch = transparent(tiny_sketch_encoder())
    sketch.load_encoder_half({prefix + name: tensor for name, tensor in unet.state_dict().items()})
    x, timesteps, context, _ = inputs()
    x[:, 4:] = 0
    state = unet.encode(x, timesteps, context[:, :77], bypass_temporal=True)
    z_t, hint, times, _ = sketch_inputs()
    found = sketch(z_t, hint, times, sketch_context(context, NUM_FRAMES, SketchContext.TEXT))
    for residual, h in zip(found, (*state.skips, state.mid), strict=True):
        torch.testing.assert_close(residual, h, atol=1e-5, rtol=1e-5)


def test_trunk_is_taken_from_a_stable_diffusion_unet_and_the_rest_stays_fresh():
    image_unet = awake(tiny_sketch_encoder()).state_dict()             # a 2-D UNet's encoder half has the trunk's names
    fresh = ("zero_convs", "middle_block_out", "input_hint_block")
    sketch = tiny_sketch_encoder()
    before = {name: tensor.clone() for name, tensor in sketch.state_dict().items()}
    sketch.load_encoder_half({name: tensor for name, tensor in image_unet.items() if not name.startswith(fresh)})
    for name, tensor in sketch.state_dict().items():
        assert torch.equal(tensor, (before if name.startswith(fresh) else image_unet)[name])


def test_weights_that_do_not_fit_are_refused_in_a_sentence():
    narrow = tiny_unet(model_channels=64).state_dict()
    with pytest.raises(UserError, match=r"0 tensors are missing, .* have another shape, first time_embed\.0\.weight"):
        tiny_sketch_encoder().load_encoder_half(narrow)
    with pytest.raises(UserError, match=r"first time_embed\.0\.weight"):
        tiny_sketch_encoder().load_encoder_half({})


def test_recomputing_activations_gives_the_same_gradients():
    sketch = awake(tiny_sketch_encoder(dropout=0.5)).train()

    def gradients(which):
        set_checkpointing(sketch, which)
        torch.manual_seed(5)
        sketch.zero_grad()
        sum(residual.square().mean() for residual in sketch(*sketch_inputs())).backward()
        return [parameter.grad.clone() for parameter in sketch.parameters()]

    for found, expected in zip(gradients("all"), gradients("none"), strict=True):
        assert torch.equal(found, expected)


def test_bf16_weights_stay_within_two_hundredths():
    sketch = awake(tiny_sketch_encoder())
    expected = sketch(*sketch_inputs())
    for found, residual in zip(sketch.bfloat16()(*sketch_inputs()), expected, strict=True):
        assert relative_error(found, residual) < 2e-2


@pytest.mark.parametrize("option", [{"legacy": True}, {"use_spatial_transformer": False}])
def test_older_layouts_are_refused(option):
    with pytest.raises(UserError, match="legacy"):
        tiny_sketch_encoder(**option)
