"""Promise: discriminator, hinge loss and adaptive weight reproduce stored values, whatever the configuration."""

import pytest
import torch
import torch.nn.functional as F
from cases import cases

from training.models.discriminator import PatchDiscriminator, adaptive_weight, hinge_d_loss


def build(case):
    """A discriminator with the case's weights and running statistics as stored."""
    discriminator = PatchDiscriminator(**case.record["discriminator"])
    discriminator.load_state_dict(case.weights, strict=True)
    return discriminator


def reconstruct(case, last_layer):
    return torch.tanh(F.conv2d(case.tensors["feat"], last_layer, padding=1))


@pytest.mark.parametrize("case", cases("decoder_gan"))
@torch.no_grad()
def test_logits_agree_in_both_modes(case):
    real, rec = case.tensors["real"], case.tensors["rec"]
    case.check(reconstruct(case, case.tensors["last_layer"]), "rec")
    evaluated = build(case).eval()
    case.check(evaluated(real), "logits_real_eval")
    case.check(evaluated(rec), "logits_fake_eval")
    case.check(build(case).train()(rec), "logits_fake_train")
    training = build(case).train()
    case.check(training(real), "logits_real_train")
    case.check(training(rec), "logits_fake_train_after_real")


@pytest.mark.parametrize("case", cases("decoder_gan"))
def test_losses_gradients_and_weights_agree(case):
    scalars, real = case.record["scalars"], case.tensors["real"]

    def check(found, name):
        case.check(found, torch.tensor(scalars[name], dtype=torch.float32))

    last_layer = case.tensors["last_layer"].clone().requires_grad_()
    rec = reconstruct(case, last_layer)
    l1_mean = (real - rec).abs().mean()
    l1_sum = (real - rec).abs().sum() / real.shape[0]
    g_loss = -build(case).train()(rec).mean()
    grad_mean, grad_sum, grad_g = (
        torch.autograd.grad(loss, last_layer, retain_graph=True)[0] for loss in (l1_mean, l1_sum, g_loss))
    check(g_loss, "g_loss")
    check(l1_mean, "l1_mean")
    check(l1_sum, "l1_sum_per_sample")
    case.check(grad_mean, "grad_nll_mean")
    case.check(grad_g, "grad_g")
    check(adaptive_weight(grad_mean, grad_g, scalars["disc_weight"]), "adaptive_weight_for_mean")
    check(adaptive_weight(grad_sum, grad_g, scalars["disc_weight"]), "adaptive_weight_for_sum")


@pytest.mark.parametrize("case", cases("decoder_gan"))
@torch.no_grad()
def test_hinge_losses_agree(case):
    tensors, scalars = case.tensors, case.record["scalars"]
    training = hinge_d_loss(tensors["logits_real_train"], tensors["logits_fake_train_after_real"])
    evaluated = hinge_d_loss(tensors["logits_real_eval"], tensors["logits_fake_eval"])
    case.check(training, torch.tensor(scalars["hinge_d_loss_train"]))
    case.check(evaluated, torch.tensor(scalars["hinge_d_loss_eval"]))
