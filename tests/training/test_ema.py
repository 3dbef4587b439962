"""Promise: averaged weights are what a plain loop over the weights gives, and measuring them disturbs nothing.

The same under ZeRO: tests/distributed/test_zero_stages.py compares each stage's averages with the plain engine's.
"""

import torch
from test_engine import inputs, make_engine, make_net

from training.ema import Ema


def train(engine, average=None, num_steps=4):
    for index in range(num_steps):
        engine.backward(engine(inputs(index)).square().mean())
        engine.step()
        if average is not None:
            average.update()


def test_average_is_that_of_a_plain_loop():
    engine, seen = make_engine(make_net()), []
    average = Ema(engine, 0.5)
    seen.append(engine.weights()["last.bias"])
    for index in range(3):
        engine.backward(engine(inputs(index)).square().mean())
        engine.step()
        average.update()
        seen.append(engine.weights()["last.bias"])
    # ((w0/2 + w1/2)/2 + w2/2)/2 + w3/2
    expected = seen[0] / 8 + seen[1] / 8 + seen[2] / 4 + seen[3] / 2
    torch.testing.assert_close(average.weights()["last.bias"], expected, atol=1e-7, rtol=1e-6)


def test_looking_at_the_average_changes_no_bit_of_the_training():
    left, right = make_engine(make_net()), make_engine(make_net())
    average = Ema(left, 0.9)
    train(left, average, 2)
    train(right, None, 2)
    average.weights()
    train(left, average, 2)
    train(right, None, 2)
    assert all(torch.equal(tensor, right.weights()[name]) for name, tensor in left.weights().items())


def test_frozen_weights_are_in_the_average_as_they_are():
    engine = make_engine(make_net())
    average = Ema(engine, 0.9)
    train(engine, average)
    assert torch.equal(average.weights()["kept.weight"], make_net().state_dict()["kept.weight"])


def test_saved_average_goes_on(tmp_path):
    engine = make_engine(make_net())
    average = Ema(engine, 0.9)
    train(engine, average)
    average.save(tmp_path)
    other = Ema(make_engine(make_net()), 0.9)
    other.load(tmp_path)
    assert all(torch.equal(left, right) for left, right in zip(average.averages, other.averages, strict=True))
