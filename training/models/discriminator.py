"""Adversarial part of decoder training: patch discriminator, hinge loss and the adaptive weight between the two losses.

The family of VQGAN (arXiv 2012.09841) and latent diffusion (arXiv 2112.10752): a 2-D PatchGAN (arXiv 1611.07004) that judges
frames one by one. Parameter names are those of the public code.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.models.dualref_decoder import DualRefDecoder, LastLayer
from training.models.kl_blocks import to_frames, to_video

MAX_WEIGHT = 1e4
MAX_WIDTH_FACTOR = 8


class PatchDiscriminator(nn.Module):
    """Says for overlapping patches of a frame how real they look; high is real.

    In training mode each call is normalised by its own batch, so real and decoded frames belong into separate calls, and each
    call, the generator's too, moves the running statistics. Those are used in evaluation mode only, which training never needs.
    """

    def __init__(self, *, input_channels: int = 3, ndf: int = 64, n_layers: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(input_channels, ndf, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        width = ndf
        for depth in range(1, n_layers + 1):
            wider = ndf * min(2**depth, MAX_WIDTH_FACTOR)
            stride = 2 if depth < n_layers else 1
            layers += [nn.Conv2d(width, wider, 4, stride=stride, padding=1, bias=False), nn.BatchNorm2d(wider), nn.LeakyReLU(0.2)]
            width = wider
        self.main = nn.Sequential(*layers, nn.Conv2d(width, 1, 4, stride=1, padding=1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws convolutions from N(0, 0.02) and norm scales from N(1, 0.02); convolution biases keep torch's default."""
        for layer in self.main:
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, 0.0, 0.02)
            elif isinstance(layer, nn.BatchNorm2d):
                nn.init.normal_(layer.weight, 1.0, 0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, frames: Tensor) -> Tensor:
        """[n, channels, H, W] in [-1, 1] -> logits [n, 1, h, w], one per patch."""
        return self.main(frames)


def hinge_d_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Returns the discriminator's loss of given logits: half of mean relu(1 - real) + mean relu(1 + fake)."""
    return 0.5 * (F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean())


def adaptive_weight(grad_rec: Tensor, grad_adv: Tensor, disc_weight: float) -> Tensor:
    """Returns disc_weight * clamp(|grad_rec| / (|grad_adv| + 1e-4), 0, 1e4), a scalar without history (VQGAN eq. 7).

    The gradients are those of the reconstruction and the adversarial loss with respect to the decoder's last layer.
    """
    ratio = grad_rec.detach().norm() / (grad_adv.detach().norm() + 1e-4)
    return ratio.clamp(0.0, MAX_WEIGHT) * disc_weight


def last_layer_gradient(
    decoder: DualRefDecoder, captured_input: Tensor, output_gradient: Tensor, choice: LastLayer, *,
    num_frames: int, skip_temporal: bool = False,
) -> Tensor:
    """Returns the gradient of a loss with respect to the last layer's weight from its gradient on the decoder's output.

    captured_input [(b t), c, H, W] is what `decoder.conv_out` received in the forward pass (a forward pre-hook sees it),
    output_gradient [(b t), 3, H, W] the loss's gradient on the pixels, `num_frames` and `skip_temporal` those of the pass.
    Only the two output convolutions are run again, in float32, so that losses on a detached reconstruction suffice: the graph
    of the decoder, and any engine around it, is not entered. Nothing is added to .grad.
    Raises ValueError for time_mix_conv with `skip_temporal`: a layer that was not used has no gradient.
    """
    choice = LastLayer(choice)
    if choice is LastLayer.TIME_MIX_CONV and skip_temporal:
        raise ValueError("time_mix_conv is bypassed by skip_temporal, so it cannot be the last layer; use conv_out")
    name = "weight" if choice is LastLayer.CONV_OUT else "time_mix_conv.weight"
    parameters = {key: value.detach().float() for key, value in decoder.conv_out.named_parameters()}
    weight = parameters[name].requires_grad_()
    with torch.enable_grad(), torch.autocast(captured_input.device.type, enabled=False):
        output = _output(captured_input.detach().float(), parameters, num_frames, skip_temporal)
        gradient, = torch.autograd.grad(output, weight, output_gradient.detach().float())
    return gradient


def _output(x: Tensor, parameters: Mapping[str, Tensor], num_frames: int, skip_temporal: bool) -> Tensor:
    """What OutputConv computes, without calling the module: ZeRO-3 would fetch, and then give back, weights at every call."""
    pixels = F.conv2d(x, parameters["weight"], parameters["bias"], padding=1)
    if skip_temporal:
        return pixels
    video = F.conv3d(to_video(pixels, num_frames), parameters["time_mix_conv.weight"], parameters["time_mix_conv.bias"],
                     padding=(1, 0, 0))
    return to_frames(video)
