"""Promise: the noise schedule has the published values, the names of the public checkpoint, and inverts what it does."""

import json
import os
from pathlib import Path

import pytest
import torch

from training.diffusion.schedule import Parameterization, linear_betas, make_schedule, without_terminal_signal

SPEC_DIR = Path(os.environ.get("SPEC_DIR", Path(__file__).parents[4] / "shared" / "spec"))


def test_signal_left_has_the_published_values():
    abar = make_schedule().abar
    assert abar.dtype == torch.float64
    # Values of the released 512 x 320 model.
    for step, expected in ((0, 0.99915), (500, 0.241019), (750, 0.0327991), (998, 1.96789e-7)):
        assert abar[step].item() == pytest.approx(expected, rel=1e-5)
    assert abar[999].item() == 0
    assert make_schedule().betas[999].item() == 1


def test_zero_terminal_signal_keeps_the_first_step_and_falls_all_the_way():
    betas = linear_betas(1000, 0.00085, 0.012)
    shifted = without_terminal_signal(betas)
    assert shifted[0].item() == pytest.approx(betas[0].item(), rel=1e-9)
    assert (torch.cumprod(1 - shifted, 0).diff() < 0).all()
    assert make_schedule(zero_terminal_snr=False).betas[-1].item() == pytest.approx(0.012)


def test_buffers_are_those_of_the_public_checkpoint():
    buffers = make_schedule().buffers()
    assert len(buffers) == 13 and "lvlb_weights" not in buffers
    assert len(buffers["scale_arr"]) == 1400
    assert all(values.dtype == torch.float32 and values.isfinite().all() for values in buffers.values())
    assert not buffers["sqrt_recip_alphas_cumprod"].any() and not buffers["sqrt_recipm1_alphas_cumprod"].any()
    listing = SPEC_DIR / "state_dict" / "latent_visual_diffusion_512_interp.json"
    if not listing.exists():
        pytest.skip("no list of public tensors: set SPEC_DIR to the folder that holds state_dict/")
    expected = {name: entry["shape"] for name, entry in json.loads(listing.read_text()).items() if "." not in name}
    assert {name: list(values.shape) for name, values in buffers.items()} == expected


def test_noise_prediction_stores_real_reciprocals_and_no_rescale():
    schedule = make_schedule(parameterization="eps", zero_terminal_snr=False, dynamic_rescale=False)
    buffers = schedule.buffers()
    assert len(buffers) == 12
    torch.testing.assert_close(buffers["sqrt_recip_alphas_cumprod"], 1 / buffers["sqrt_alphas_cumprod"])
    # sqrt(1 / abar - 1) = sqrt(1 - abar) / sqrt(abar)
    torch.testing.assert_close(buffers["sqrt_recipm1_alphas_cumprod"],
                               buffers["sqrt_one_minus_alphas_cumprod"] / buffers["sqrt_alphas_cumprod"])


def test_dynamic_rescale_falls_to_its_base_and_stays():
    schedule = make_schedule(base_scale=0.3, turning_step=100, timesteps=500)
    assert len(schedule.scales) == 600
    found = schedule.scale(torch.ones(4, 2, 3), torch.tensor([0, 99, 100, 499]))
    torch.testing.assert_close(found[:, 0, 0], torch.tensor([1.0, 0.3, 0.3, 0.3]))
    z0 = torch.randn(2, 4)
    assert make_schedule(dynamic_rescale=False).scale(z0, torch.tensor([0, 999])) is z0


@pytest.mark.parametrize("parameterization", list(Parameterization))
def test_prediction_of_the_target_gives_back_latents_and_noise(parameterization):
    schedule = make_schedule(parameterization=parameterization, zero_terminal_snr=parameterization == "v")
    torch.manual_seed(0)
    z0, noise, t = torch.randn(4, 4, 2, 3, 3), torch.randn(4, 4, 2, 3, 3), torch.tensor([0, 300, 700, 999])
    x_t, target = schedule.add_noise(z0, noise, t), schedule.target(z0, noise, t)
    torch.testing.assert_close(schedule.x0_from(target, x_t, t), z0, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(schedule.eps_from(target, x_t, t), noise, atol=1e-4, rtol=1e-4)


def test_the_last_step_is_pure_noise_and_its_target_the_negative_latent():
    schedule, t = make_schedule(), torch.tensor([999])
    z0, noise = torch.randn(1, 4, 2), torch.randn(1, 4, 2)
    assert torch.equal(schedule.add_noise(z0, noise, t), noise)
    assert torch.equal(schedule.v_target(z0, noise, t), -z0)


def test_half_precision_samples_give_float32_results():
    schedule, t = make_schedule(), torch.tensor([10])
    z0 = torch.randn(1, 4, 2).bfloat16()
    noise = torch.randn(1, 4, 2).bfloat16()
    found = schedule.add_noise(z0, noise, t)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, schedule.add_noise(z0.float(), noise.float(), t))
    assert schedule.target(z0, noise, t).dtype == torch.float32
