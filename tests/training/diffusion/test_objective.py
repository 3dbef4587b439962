"""Promise: the loss is the mean squared error of each sample alone, and conditions are dropped as often as published."""

import pytest
import torch

from training.diffusion.objective import condition_drop, diffusion_loss, draw_noise
from training.diffusion.schedule import make_schedule


def make_batch(num=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return draw_noise((num, 4, 2, 3, 3), generator), draw_noise((num, 4, 2, 3, 3), generator), torch.tensor([0, 500, 999])[:num]


@pytest.mark.parametrize("parameterization", ["v", "eps"])
def test_perfect_prediction_has_no_loss_and_an_offset_costs_its_square(parameterization):
    schedule = make_schedule(parameterization=parameterization)
    z0, noise, t = make_batch()
    target = schedule.target(schedule.scale(z0, t), noise, t)
    assert torch.equal(diffusion_loss(schedule, lambda x_t, t: target, z0, noise, t), torch.zeros(3))
    offset = torch.tensor([0.0, 1.0, 2.0]).view(3, 1, 1, 1, 1)
    torch.testing.assert_close(diffusion_loss(schedule, lambda x_t, t: target + offset, z0, noise, t),
                               torch.tensor([0.0, 1.0, 4.0]))


def test_latents_are_rescaled_before_noise_is_added():
    schedule = make_schedule()
    z0, noise, t = make_batch()
    seen = []
    diffusion_loss(schedule, lambda x_t, t: seen.append(x_t) or x_t, z0, noise, t)
    # At step 500 the rescale has reached 0.7.
    abar = schedule.abar[500].item()
    torch.testing.assert_close(seen[0][1], abar ** 0.5 * 0.7 * z0[1] + (1 - abar) ** 0.5 * noise[1])


def test_loss_of_a_sample_does_not_depend_on_its_batch():
    schedule = make_schedule()
    z0, noise, t = make_batch()
    whole = diffusion_loss(schedule, lambda x_t, t: x_t * 0.5, z0, noise, t)
    alone = [diffusion_loss(schedule, lambda x_t, t: x_t * 0.5, z0[i:i + 1], noise[i:i + 1], t[i:i + 1]) for i in range(3)]
    torch.testing.assert_close(whole, torch.cat(alone))


def test_loss_is_float32_of_a_half_precision_network():
    schedule = make_schedule()
    z0, noise, t = make_batch()
    network = torch.nn.Linear(3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        loss = diffusion_loss(schedule, lambda x_t, t: network(x_t), z0, noise, t)
    assert loss.dtype == torch.float32
    loss.mean().backward()
    assert network.weight.grad.abs().max() > 0


def test_offset_noise_shifts_whole_channels_and_leaves_the_rest_of_the_draw():
    plain = draw_noise((2, 4, 3, 5, 5), torch.Generator().manual_seed(1))
    shifted = draw_noise((2, 4, 3, 5, 5), torch.Generator().manual_seed(1), offset_strength=0.1)
    shift = shifted - plain
    assert shift.std(dim=(-1, -2)).max() < 1e-6
    assert 0.05 < shift[..., 0, 0].std() < 0.2


def test_conditions_are_dropped_one_twentieth_each_way():
    drops = [condition_drop((index + 0.5) / 1000, 0.05) for index in range(1000)]
    assert [drops.count(kind) for kind in ((True, False), (True, True), (False, True), (False, False))] == [50, 50, 50, 850]


def test_probability_zero_drops_nothing():
    assert condition_drop(0.0, 0.0) == (False, False)
