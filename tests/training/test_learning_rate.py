"""Promise: the learning rate is a function of the step: warm-up, then constant, or falling at the steps that are named."""

import torch
from torch import nn
from toy_task import make_engine_config, make_optim

from training.engine import build_engine, learning_rate


def test_rate_falls_from_the_named_steps_on():
    optim = make_optim(learning_rate=1.0, warmup_steps=0, decay_at=[2, 4], decay_factor=0.1)
    assert [round(learning_rate(optim, step), 6) for step in range(6)] == [1.0, 1.0, 0.1, 0.1, 0.01, 0.01]


def test_warm_up_and_fall_multiply():
    optim = make_optim(learning_rate=1.0, warmup_steps=4, decay_at=[2], decay_factor=0.5)
    assert [learning_rate(optim, step) for step in range(5)] == [0.25, 0.5, 0.375, 0.5, 0.5]


def test_without_named_steps_it_stays():
    assert {learning_rate(make_optim(learning_rate=0.5, warmup_steps=0), step) for step in (0, 7, 10**6)} == {0.5}


def test_resumed_engine_goes_on_with_the_rate_of_its_step(tmp_path):
    def make():
        torch.manual_seed(0)
        net = nn.Linear(3, 1)
        return build_engine("net", net, list(net.named_parameters()), engine=make_engine_config(), accumulate=1,
                            device=torch.device("cpu"),
                            optim=make_optim(learning_rate=1e-2, warmup_steps=0, decay_at=[2], decay_factor=0.1))

    def step(engine):
        engine.backward(engine(torch.ones(1, 3)).sum())
        engine.step()
        return engine.learning_rate

    engine = make()
    assert [step(engine) for _ in range(2)] == [1e-2, 1e-2]
    engine.save(tmp_path)
    again = make()
    again.load(tmp_path)
    assert abs(step(again) - 1e-3) < 1e-12
