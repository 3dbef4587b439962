"""Promise: splatting moves pixels exactly, loses nothing inside the picture, and is differentiable."""

import pytest
import torch

from training.animeinterp.splatting import Holes, Mode, splat, sum_splat


def picture(*shape, seed=0, dtype=torch.float32):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def constant(x, y, like):
    return torch.tensor([x, y], dtype=like.dtype).view(1, 2, 1, 1).expand(like.shape[0], 2, *like.shape[-2:])


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize(("x", "y"), [(0, 0), (3, 0), (0, -2), (-4, 1)])
def test_a_constant_whole_shift_is_exact(mode, x, y):
    image = picture(2, 3, 9, 11)
    metric = picture(2, 1, 9, 11, seed=1) + 0.5 if mode in (Mode.LINEAR, Mode.SOFTMAX) else None
    moved = splat(image, constant(x, y, image), mode, metric)
    expected = torch.zeros_like(image)
    rows, columns = range(max(0, y), min(9, 9 + y)), range(max(0, x), min(11, 11 + x))
    expected[..., rows.start:rows.stop, columns.start:columns.stop] = image[
        ..., rows.start - y:rows.stop - y, columns.start - x:columns.stop - x]
    torch.testing.assert_close(moved, expected, atol=1e-6, rtol=1e-6)
    if mode is Mode.SUM:
        assert torch.equal(moved, expected)


def test_summation_keeps_the_mass_of_what_stays_inside():
    image = torch.zeros(1, 2, 20, 24, dtype=torch.float64)
    image[..., 6:14, 6:18] = picture(1, 2, 8, 12, dtype=torch.float64)
    flow = 10 * (picture(1, 2, 20, 24, seed=2, dtype=torch.float64) - 0.5)      # at most 5 pixels: all stays inside
    torch.testing.assert_close(sum_splat(image, flow).sum(dim=(2, 3)), image.sum(dim=(2, 3)))


@pytest.mark.parametrize("mode", Mode)
def test_gradients_are_those_of_finite_differences(mode):
    image = picture(1, 2, 4, 5, dtype=torch.float64).requires_grad_()
    flow = (3 * picture(1, 2, 4, 5, seed=1, dtype=torch.float64) - 1.5).requires_grad_()
    fraction = flow.detach() - flow.detach().floor()
    assert ((fraction > 1e-3) & (fraction < 1 - 1e-3)).all(), "whole pixels have one-sided gradients"
    if mode in (Mode.LINEAR, Mode.SOFTMAX):
        metric = (picture(1, 1, 4, 5, seed=2, dtype=torch.float64) + 0.5).requires_grad_()
        assert torch.autograd.gradcheck(lambda v, f, m: splat(v, f, mode, m), (image, flow, metric), atol=1e-5)
    else:
        assert torch.autograd.gradcheck(lambda v, f: splat(v, f, mode), (image, flow), atol=1e-5)


def test_softmax_lets_the_more_important_pixel_win():
    image = torch.tensor([[[[1.0, 0.0, 5.0]]]])
    flow = torch.tensor([[[[1.0, 0.0, -1.0]], [[0.0, 0.0, 0.0]]]])          # three pixels meet in the middle
    metric = torch.tensor([[[[0.0, 0.0, 20.0]]]])
    assert splat(image, flow, Mode.AVERAGE)[0, 0, 0, 1].item() == pytest.approx(2.0)
    assert splat(image, flow, Mode.SOFTMAX, metric)[0, 0, 0, 1].item() == pytest.approx(5.0, abs=1e-4)
    # e^0 shares: linear weights 0 and 0 leave the third alone.
    assert splat(image, flow, Mode.LINEAR, metric)[0, 0, 0, 1].item() == pytest.approx(5.0, abs=1e-4)


@pytest.mark.parametrize("holes", Holes)
def test_holes_are_zero(holes):
    image = 1 + picture(1, 3, 6, 8)
    moved = splat(image, constant(3, 0, image), Mode.AVERAGE, holes=holes)
    assert (moved[..., :3] == 0).all()
    assert (moved[..., 3:] > 0.99).all()


def test_targets_far_outside_or_not_finite_are_dropped_without_spoiling_gradients():
    image = picture(1, 1, 4, 6).requires_grad_()
    flow = torch.zeros(1, 2, 4, 6)
    for column, value in enumerate([float("nan"), float("inf"), -float("inf"), 1e30, -1e30]):
        flow[0, 0, 0, column] = value
    flow.requires_grad_()
    moved = sum_splat(image, flow)
    assert moved[0, 0, 0, :5].tolist() == [0.0] * 5
    assert torch.equal(moved[0, 0, 1:], image[0, 0, 1:])
    moved.sum().backward()
    assert image.grad.isfinite().all() and flow.grad.isfinite().all()
    assert (image.grad[0, 0, 0, :5] == 0).all()


def test_half_precision_pictures_land_on_the_right_pixel():
    """In bfloat16 column 300 and column 301 are one number."""
    image = torch.zeros(1, 1, 2, 320, dtype=torch.bfloat16)
    image[..., 300] = 1
    moved = sum_splat(image, torch.ones(1, 2, 2, 320, dtype=torch.bfloat16) * torch.tensor([1, 0]).view(1, 2, 1, 1))
    assert moved.dtype == torch.bfloat16
    assert moved[0, 0, 0].nonzero().flatten().tolist() == [301]


def test_a_metric_that_is_wanted_or_useless_is_noticed():
    image = picture(1, 1, 4, 4)
    with pytest.raises(AssertionError):
        splat(image, constant(0, 0, image), Mode.SOFTMAX)
    with pytest.raises(AssertionError):
        splat(image, constant(0, 0, image), Mode.AVERAGE, image)
