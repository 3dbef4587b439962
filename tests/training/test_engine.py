"""Promise: the plain engine is AdamW as written in a textbook, and no engine updates by a gradient that is not finite."""

import copy

import pytest
import torch
from torch import nn
from toy_task import Net, make_engine_config, make_optim

from pipeline.errors import UserError
from training.config import Precision
from training.engine import NonFiniteGradient, autocast_forward, build_engine

CPU = torch.device("cpu")


def make_engine(module, accumulate=1, precision="fp32", **optim):
    trainable = [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
    return build_engine("net", module, trainable, optim=make_optim(**optim), engine=make_engine_config(precision=precision),
                        accumulate=accumulate, device=CPU)


def make_net():
    net = Net().eval()  # no dropout
    net.kept.requires_grad_(False)
    return net


def inputs(index):
    return torch.randn(3, 24, generator=torch.Generator().manual_seed(index))


def test_updates_are_those_of_adamw_by_hand():
    net, expected = make_net(), make_net()
    parameters = [parameter for parameter in expected.parameters() if parameter.requires_grad]
    means, squares = ([torch.zeros_like(parameter) for parameter in parameters] for _ in range(2))
    engine = make_engine(net, accumulate=2, weight_decay=0.1, grad_clip=0.3, warmup_steps=2)
    for step in range(3):
        gradients = [torch.zeros_like(parameter) for parameter in parameters]
        for micro in range(2):
            x = inputs(2 * step + micro)
            engine.backward(engine(x).square().mean())
            engine.step()
            for total, found in zip(gradients, torch.autograd.grad(expected(x).square().mean(), parameters), strict=True):
                total += found / 2
        norm = torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()
        assert engine.grad_norm == pytest.approx(float(norm), rel=1e-5)
        rate = 1e-2 * min(1, (step + 1) / 2)
        assert engine.learning_rate == pytest.approx(rate)
        with torch.no_grad():
            for parameter, gradient, mean, square in zip(parameters, gradients, means, squares, strict=True):
                gradient *= min(1.0, 0.3 / float(norm))
                mean.mul_(0.9).add_(0.1 * gradient)
                square.mul_(0.99).add_(0.01 * gradient**2)
                parameter *= 1 - rate * 0.1
                parameter -= rate * (mean / (1 - 0.9 ** (step + 1))) / ((square / (1 - 0.99 ** (step + 1))).sqrt() + 1e-8)
    for (name, found), (_, wanted) in zip(net.named_parameters(), expected.named_parameters(), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5, msg=name)


def test_weights_change_at_the_last_micro_batch_only():
    net = make_net()
    engine = make_engine(net, accumulate=3)
    before = net.first.weight.detach().clone()
    for micro in range(3):
        engine.backward(engine(inputs(micro)).square().mean())
        assert not engine.is_idle()
        engine.step()
        assert torch.equal(net.first.weight, before) == (micro < 2)
    assert engine.is_idle()
    assert engine.num_updates == 1


def test_gradient_that_is_not_finite_changes_nothing():
    net = make_net()
    engine = make_engine(net)
    before = copy.deepcopy(net.state_dict())
    engine.backward(engine(inputs(0)).sum() * float("inf"))
    with pytest.raises(NonFiniteGradient, match="net have norm"):
        engine.step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert engine.num_updates == 0


def test_bf16_keeps_parameters_and_gradients_in_fp32():
    net = make_net()
    engine = make_engine(net, precision="bf16")
    found = engine(inputs(0))
    assert found.dtype == torch.bfloat16
    engine.backward(found.float().square().mean())
    assert net.first.weight.grad.dtype == torch.float32
    engine.step()
    assert {tensor.dtype for tensor in engine.weights().values()} == {torch.float32}


def test_autocast_holds_beside_the_engine_too():
    net = nn.Linear(2, 2)
    autocast_forward(net, CPU, Precision.BF16)
    assert net(torch.ones(1, 2)).dtype == torch.bfloat16
    assert not torch.is_autocast_enabled("cpu")


def test_saved_engine_goes_on_with_the_same_bits(tmp_path):
    def train(engine, first, last):
        for index in range(first, last):
            engine.backward(engine(inputs(index)).square().mean())
            engine.step()

    whole, cut, resumed = (make_engine(make_net()) for _ in range(3))
    train(whole, 0, 4)
    train(cut, 0, 2)
    cut.save(tmp_path)
    resumed.load(tmp_path)
    train(resumed, 2, 4)
    assert resumed.num_updates == 4
    assert all(torch.equal(tensor, resumed.weights()[name]) for name, tensor in whole.weights().items())


def test_frozen_parameters_are_not_in_the_saved_state(tmp_path):
    make_engine(make_net()).save(tmp_path)
    small = (tmp_path / "rank_00.safetensors").stat().st_size
    net = Net()
    make_engine(net).save(tmp_path)
    assert (tmp_path / "rank_00.safetensors").stat().st_size - small >= net.kept.weight.numel() * 4


def test_state_of_another_network_is_refused(tmp_path):
    make_engine(make_net()).save(tmp_path)
    with pytest.raises(UserError, match="does not fit"):
        make_engine(nn.Sequential(nn.BatchNorm1d(3))).load(tmp_path)
    (tmp_path / "rank_00.safetensors").write_bytes(b"short")
    with pytest.raises(UserError, match="cannot be read"):
        make_engine(make_net()).load(tmp_path)


def test_offload_without_deepspeed_is_refused():
    with pytest.raises(UserError, match=r"engine\.cpu_offload=true needs DeepSpeed"):
        build_engine("net", Net(), [], optim=make_optim(), engine=make_engine_config(cpu_offload=True), accumulate=1, device=CPU)
