"""Promise: PSNR and SSIM are what their conventions say, and the known traps are avoided."""

import numpy as np
import pytest
import torch

from training.metrics.pixels import SSIM_CONVENTIONS, luma_u8, psnr, rounded_u8, ssim


def random_pair(seed=0, *, channels=3):
    draws = torch.Generator().manual_seed(seed)
    x = torch.rand(1, channels, 40, 52, generator=draws)
    return x, (x + 0.2 * torch.randn(x.shape, generator=draws)).clamp(0, 1)


def as_array(picture):
    return picture[0].permute(1, 2, 0).double().numpy()


def test_psnr_averages_decibels_not_errors():
    # Errors 0.01 and 0.0001 are 20 and 40 dB; their mean error would be 22.97 dB.
    truth = torch.zeros(2, 3, 8, 8)
    made = torch.stack([torch.full((3, 8, 8), 0.1), torch.full((3, 8, 8), 0.01)])
    assert psnr(made, truth).tolist() == pytest.approx([20, 40], abs=1e-5)


def test_psnr_of_equal_pictures_is_infinite():
    assert psnr(torch.ones(1, 3, 4, 4), torch.ones(1, 3, 4, 4)).item() == float("inf")


@pytest.mark.parametrize(("convention", "options"), [
    ("ssim_rgb", {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}),
    ("ssim_uniform7", {"data_range": 1.0}),
    ("ssim_table1", {"data_range": 2.0}),
])
def test_ssim_agrees_with_scikit_image(convention, options):
    structural_similarity = pytest.importorskip("skimage.metrics").structural_similarity
    for seed in range(3):
        x, y = random_pair(seed)
        expected = structural_similarity(as_array(x), as_array(y), channel_axis=2, **options)
        assert ssim(x, y, SSIM_CONVENTIONS[convention]).item() == pytest.approx(expected, rel=1e-9)


def test_ssim_on_grey_levels_agrees_with_scikit_image():
    structural_similarity = pytest.importorskip("skimage.metrics").structural_similarity
    x, y = (luma_u8(picture) for picture in random_pair())
    expected = structural_similarity(x[0].numpy(), y[0].numpy(), gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
                                     data_range=255)
    found = ssim(x[:, None], y[:, None], SSIM_CONVENTIONS["ssim_wang"]).item()
    assert found == pytest.approx(expected, rel=1e-9)


def test_range_two_inflates_ssim():
    x, y = random_pair()
    assert ssim(x, y, SSIM_CONVENTIONS["ssim_table1"]) > ssim(x, y, SSIM_CONVENTIONS["ssim_uniform7"])


def test_pictures_smaller_than_the_window_are_refused():
    with pytest.raises(ValueError, match="at least 11 pixels"):
        ssim(torch.rand(1, 3, 10, 40), torch.rand(1, 3, 10, 40), SSIM_CONVENTIONS["ssim_rgb"])


def test_eight_bits_survive_the_way_through_floats():
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(rounded_u8(levels.float() / 255), levels)
    assert rounded_u8(torch.tensor([0.9999])).item() == 255     # truncation would give 254


def test_luma_rounds_halves_up_on_every_machine():
    # Colours whose weighted sum is exactly some level and a half.
    exact = [(r, g, b) for r in range(0, 256, 5) for g in range(0, 256, 5) for b in range(0, 256, 5)
             if (299 * r + 587 * g + 114 * b) % 1000 == 500]
    pictures = torch.tensor(exact, dtype=torch.float32).T.view(1, 3, 1, -1) / 255
    expected = [(299 * r + 587 * g + 114 * b + 500) // 1000 for r, g, b in exact]
    assert len(exact) > 10 and luma_u8(pictures).flatten().tolist() == expected


def test_scores_do_not_depend_on_the_batch():
    x, y = (torch.cat(pictures) for pictures in zip(*(random_pair(seed) for seed in range(3)), strict=True))
    together = ssim(x, y, SSIM_CONVENTIONS["ssim_rgb"])
    alone = torch.cat([ssim(x[i:i + 1], y[i:i + 1], SSIM_CONVENTIONS["ssim_rgb"]) for i in range(3)])
    assert np.array_equal(together.numpy(), alone.numpy())
