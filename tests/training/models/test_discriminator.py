"""Promise: the adversarial part starts and weighs as its family does, and last-layer gradients need no graph of the decoder."""

import pytest
import torch
from tiny_first_stage import make_autoencoder, make_clip, make_latents
from torch import nn

from training.models.discriminator import PatchDiscriminator, adaptive_weight, hinge_d_loss, last_layer_gradient
from training.models.dualref_decoder import LastLayer
from training.models.kl_blocks import to_frames


def test_start_is_the_familys():
    torch.manual_seed(0)
    discriminator = PatchDiscriminator()
    convolutions = [layer for layer in discriminator.main if isinstance(layer, nn.Conv2d)]
    norms = [layer for layer in discriminator.main if isinstance(layer, nn.BatchNorm2d)]
    assert [layer.out_channels for layer in convolutions] == [64, 128, 256, 512, 1]
    assert [layer.stride[0] for layer in convolutions] == [2, 2, 2, 1, 1]
    assert [layer.bias is not None for layer in convolutions] == [True, False, False, False, True]
    weights = torch.cat([layer.weight.flatten() for layer in convolutions])
    assert abs(weights.mean().item()) < 1e-3 and abs(weights.std().item() - 0.02) < 1e-3
    scales = torch.cat([layer.weight for layer in norms])
    assert abs(scales.mean().item() - 1.0) < 5e-3 and abs(scales.std().item() - 0.02) < 5e-3
    assert not torch.cat([layer.bias for layer in norms]).any()


def test_width_stops_growing_at_eight_times():
    widths = [layer.out_channels for layer in PatchDiscriminator(ndf=4, n_layers=5).main if isinstance(layer, nn.Conv2d)]
    assert widths == [4, 8, 16, 32, 32, 32, 1]


def test_hinge_loss_ignores_what_is_beyond_the_margin():
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 1.0])
    assert hinge_d_loss(real, fake).item() == pytest.approx(0.5 * (0.25 + 1.0))


@pytest.mark.parametrize(("rec", "adv", "expected"), [(3.0, 1.5, 0.5 * 3.0 / 1.5001), (5.0, 0.0, 0.5 * 1e4), (0.0, 2.0, 0.0)])
def test_adaptive_weight_is_the_clamped_ratio_of_norms(rec, adv, expected):
    gradients = torch.tensor([rec, 0.0], requires_grad=True), torch.tensor([0.0, -adv], requires_grad=True)
    weight = adaptive_weight(*gradients, 0.5)
    assert weight.item() == pytest.approx(expected, rel=1e-6)
    assert not weight.requires_grad


def capture(autoencoder, *, skip_temporal):
    """Decoded frames with their graph, and what the last layer received."""
    captured = []
    handle = autoencoder.decoder.conv_out.register_forward_pre_hook(lambda _module, inputs: captured.append(inputs[0].detach()))
    references = autoencoder.references(make_clip()[:, :, [0, -1]])
    rec = autoencoder.decode(to_frames(make_latents()), 5, references, skip_temporal=skip_temporal)
    handle.remove()
    return rec, captured[0]


@pytest.mark.parametrize(("choice", "skip_temporal"), [
    (LastLayer.CONV_OUT, False), (LastLayer.CONV_OUT, True), (LastLayer.TIME_MIX_CONV, False)])
@pytest.mark.parametrize("use_checkpoint", [False, True])
def test_local_gradient_equals_autograd(choice, skip_temporal, use_checkpoint):
    autoencoder = make_autoencoder()
    autoencoder.decoder.use_checkpoint = use_checkpoint
    rec, captured_input = capture(autoencoder, skip_temporal=skip_temporal)
    torch.manual_seed(3)
    discriminator = PatchDiscriminator(ndf=8, n_layers=2)
    leaf = rec.detach().requires_grad_()
    for loss in (lambda x: (x - 0.3).abs().mean(), lambda x: -discriminator(x).mean()):
        output_gradient, = torch.autograd.grad(loss(leaf), leaf)
        found = last_layer_gradient(
            autoencoder.decoder, captured_input, output_gradient, choice, num_frames=5, skip_temporal=skip_temporal)
        expected, = torch.autograd.grad(loss(rec), autoencoder.decoder.last_layer(choice), retain_graph=True)
        torch.testing.assert_close(found, expected, atol=1e-7, rtol=1e-4)
    assert all(parameter.grad is None for parameter in autoencoder.decoder.parameters())


def test_local_gradient_works_without_grad_mode_and_in_float32():
    autoencoder = make_autoencoder()
    rec, captured_input = capture(autoencoder, skip_temporal=False)
    gradient = torch.ones_like(rec)
    exact = last_layer_gradient(autoencoder.decoder, captured_input, gradient, LastLayer.CONV_OUT, num_frames=5)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = last_layer_gradient(autoencoder.decoder, captured_input, gradient, LastLayer.CONV_OUT, num_frames=5)
    assert torch.equal(found, exact)


def test_a_bypassed_last_layer_is_refused():
    autoencoder = make_autoencoder()
    rec, captured_input = capture(autoencoder, skip_temporal=True)
    with pytest.raises(ValueError, match="bypassed by skip_temporal"):
        last_layer_gradient(
            autoencoder.decoder, captured_input, rec.detach(), LastLayer.TIME_MIX_CONV, num_frames=5, skip_temporal=True)
