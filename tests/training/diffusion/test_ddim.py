"""Promise: sampling never breaks on a step count, keeps the public sampler's habits, and a seed gives its video in any batch."""

import math

import pytest
import torch

from pipeline.errors import UserError
from training.diffusion import ddim
from training.diffusion.schedule import make_schedule

SHAPE = (2, 2, 3, 3)


def shrink(x, t):
    """A stand-in network."""
    return 0.4 * x - 0.1 * torch.tanh(x)


def run(schedule=None, *, seeds=(3, 4), predict=shrink, noise=None, steps=5, eta=1.0, **settings):
    noise = noise or ddim.seeded_noise(seeds, SHAPE)
    return ddim.sample(schedule or make_schedule(), predict, noise(ddim.START), steps=steps, eta=eta, noise=noise, **settings)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("spacing", list(ddim.Spacing))
def test_no_step_count_gives_a_value_that_is_not_finite(spacing, eta):
    schedule = make_schedule()
    x_start, noise = torch.randn(1, 2, 2), torch.randn(1, 2, 2)
    for steps in range(1, 101):
        plan = ddim.trajectory(schedule, steps, spacing, eta=eta)
        assert plan.towards_noise.isfinite().all(), steps
        found = ddim.sample(schedule, shrink, x_start, steps=steps, spacing=spacing, eta=eta, noise=lambda index: noise)
        assert found.isfinite().all(), steps


def test_the_root_below_zero_is_real_for_some_step_count():
    """The clamp is needed: exact arithmetic gives 0 there, floating point less."""
    rests = [1 - plan.abar_previous - plan.sigmas.square() for steps in range(2, 101)
             for plan in [ddim.trajectory(make_schedule(), steps, "uniform_trailing", eta=1.0)]]
    assert any((rest < 0).any() for rest in rests)


@pytest.mark.parametrize("spacing", list(ddim.Spacing))
def test_visited_steps_ascend_inside_the_schedule_for_every_count(spacing):
    schedule = make_schedule()
    for steps in range(1, 1001):
        found = ddim.timesteps(schedule, steps, spacing)
        assert len(found) >= min(steps, 999) and found == sorted(set(found))
        assert found[0] >= 0 and found[-1] <= 999
        if spacing is ddim.Spacing.UNIFORM_TRAILING:
            assert found[-1] == 999 and len(found) == steps


def test_uniform_spacing_that_passes_the_end_takes_the_last_step():
    # 1000 // 3 = 333: 0, 333, 666, 999, each plus 1
    assert ddim.timesteps(make_schedule(), 3, "uniform") == [1, 334, 667, 999]


def test_trailing_spacing_rounds_halves_to_even():
    # 16 steps are 62.5 apart: 62.5 -> 62, 187.5 -> 188, 312.5 -> 312, then minus 1
    found = ddim.timesteps(make_schedule(), 16, "uniform_trailing")
    assert found[:6:2] == [61, 187, 311]


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_impossible_step_counts_are_refused_in_a_sentence(steps):
    with pytest.raises(UserError, match="1 to 1000"):
        ddim.timesteps(make_schedule(), steps, "uniform_trailing")


def test_last_step_goes_to_the_first_abar_and_still_adds_noise():
    schedule = make_schedule()
    plan = ddim.trajectory(schedule, 50, "uniform_trailing", eta=1.0)
    assert plan.abar_previous[0] == schedule.abar[0] != 1
    assert plan.sigmas[0] > 0
    quiet = ddim.seeded_noise((1,), SHAPE)
    x_start = quiet(ddim.START)

    def noise(size):
        return lambda index: torch.full((1, *SHAPE), size if index == 4 else 0.0)

    with_noise, without = (ddim.sample(schedule, shrink, x_start, steps=5, eta=1.0, noise=noise(size)) for size in (1.0, 0.0))
    last = ddim.trajectory(schedule, 5, "uniform_trailing", eta=1.0).sigmas[0].item()
    torch.testing.assert_close(with_noise - without, torch.full_like(without, last), atol=1e-5, rtol=1e-4)


def test_rescale_stops_at_the_smallest_step_unless_it_is_finished():
    schedule = make_schedule()
    kept = ddim.trajectory(schedule, 50, "uniform_trailing", eta=1.0)
    assert kept.scale[0].item() == pytest.approx(0.98571, abs=1e-5)
    assert kept.scale_previous[0] == kept.scale[0]
    seen = {}
    for finish in (False, True):
        run(schedule, eta=0.0, finish_rescale=finish, on_step=lambda index, x, x0, finish=finish: seen.update({finish: x0}))
    factor = schedule.scales[199].item()        # 5 trailing steps end at step 199
    torch.testing.assert_close(seen[True] * factor, seen[False])


def test_a_network_that_knows_the_latent_is_followed_to_it():
    schedule = make_schedule()
    z0 = torch.randn(1, *SHAPE)

    def knows(x, t):
        abar = schedule.abar[t].float().view(-1, 1, 1, 1, 1)
        eps = (x - abar.sqrt() * schedule.scale(z0, t)) / (1 - abar).sqrt()
        return schedule.v_target(schedule.scale(z0, t), eps, t)

    seen = []
    run(schedule, seeds=(3,), predict=knows, steps=20, eta=0.0, finish_rescale=True, on_step=lambda *step: seen.append(step[2]))
    torch.testing.assert_close(seen[-1], z0, atol=1e-4, rtol=1e-4)


def test_a_seed_gives_the_same_video_in_any_batch():
    together = run(seeds=(3, 4, 5))
    for index, seed in enumerate((3, 4, 5)):
        assert torch.equal(run(seeds=(seed,))[0], together[index])
    assert not torch.equal(together[0], together[1])


def test_seeded_noise_is_standard_and_new_at_every_step():
    noise = ddim.seeded_noise((0, -7, 2 ** 63), (50, 50))
    draws = torch.stack([noise(index) for index in (ddim.START, 0, 1)])
    assert torch.equal(noise(1), draws[2])
    # 22,500 numbers: mean within 0.03, deviation within 0.02 of a standard normal at 4 sigma
    assert abs(draws.mean().item()) < 0.03 and abs(draws.std().item() - 1) < 0.02
    rows = draws.reshape(9, -1)
    assert (torch.corrcoef(rows) - torch.eye(9)).abs().max() < 0.1


def test_temperature_scales_the_added_noise():
    noise = ddim.seeded_noise((3, 4), SHAPE)

    def cooled(index):
        return noise(index) if index == ddim.START else 0.5 * noise(index)

    torch.testing.assert_close(run(noise=noise, temperature=0.5), run(noise=cooled))
    assert not torch.equal(run(noise=noise), run(noise=noise, temperature=0.5))


def test_eta_zero_needs_no_noise():
    x_start = ddim.seeded_noise((3, 4), SHAPE)(ddim.START)
    found = ddim.sample(make_schedule(), shrink, x_start, steps=5, eta=0.0)
    assert torch.equal(found, run(eta=0.0))


def test_predicted_noise_is_refused_at_a_step_without_signal_only():
    schedule = make_schedule(parameterization="eps")
    with pytest.raises(UserError, match="uniform spacing"):
        run(schedule, spacing="uniform_trailing")
    assert run(schedule, spacing="uniform").isfinite().all()
    assert run(make_schedule(parameterization="eps", zero_terminal_snr=False)).isfinite().all()


def test_half_precision_predictions_do_not_lower_the_precision_of_the_state():
    assert run(predict=lambda x, t: shrink(x, t).bfloat16()).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        under = run()
    assert torch.equal(under, run())


def test_sampling_keeps_no_graph():
    weight = torch.ones((), requires_grad=True)
    assert not run(predict=lambda x, t: weight * x * math.cos(1)).requires_grad
