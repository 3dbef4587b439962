"""Promise: FVD and KVD statistics agree with their definitions in float64, whatever the number and order of samples."""

import numpy as np
import pytest
import torch

from training.metrics import distances
from training.metrics.distances import frechet_distance, kernel_distance


def features(seed, count, width, *, shift=0.0):
    draws = np.random.default_rng(seed)
    return torch.from_numpy(draws.standard_normal((count, width)) @ draws.standard_normal((width, width)) + shift)


def by_matrix_root(x, y):
    """The published formula, with scipy's matrix root."""
    scipy_linalg = pytest.importorskip("scipy.linalg")
    x, y = x.numpy(), y.numpy()
    cov_x, cov_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy_linalg.sqrtm(cov_x @ cov_y).real
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(cov_x + cov_y - 2 * root)


@pytest.mark.parametrize("counts", [(50, 50), (50, 80), (200, 30)])
def test_frechet_distance_agrees_with_the_matrix_root(counts):
    x, y = features(1, counts[0], 12), features(2, counts[1], 12, shift=0.5)
    assert frechet_distance(x, y) == pytest.approx(by_matrix_root(x, y), rel=1e-9)


def test_frechet_distance_needs_no_more_samples_than_dimensions():
    # Two clouds on one line, deviations 1 and 3: the distance is (1 - 3)^2, and the root of a singular matrix is not taken.
    line = torch.linspace(-1, 1, 5, dtype=torch.float64)
    line = line / line.std()
    x, y = torch.zeros(5, 40, dtype=torch.float64), torch.zeros(5, 40, dtype=torch.float64)
    x[:, 7], y[:, 7] = line, 3 * line
    assert frechet_distance(x, y) == pytest.approx(4, rel=1e-12)


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_order_of_samples_does_not_matter(distance):
    x, y = features(1, 60, 16), features(2, 60, 16, shift=0.3)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    assert distance(x[order], y.flip(0)) == pytest.approx(distance(x, y), rel=1e-12)


def test_a_copy_is_at_distance_zero():
    x = features(1, 30, 50)
    assert frechet_distance(x, x.clone()) == pytest.approx(0, abs=1e-9 * x.var(0).sum().item())


def test_biased_covariances_are_smaller():
    # Zero means: the distance of N samples from a constant is their covariance's trace, which the divisor scales.
    x, constant = features(1, 10, 4), torch.zeros(10, 4)
    x = x - x.mean(0)
    assert frechet_distance(x, constant, unbiased=False) == pytest.approx(frechet_distance(x, constant) * 9 / 10)


def test_kernel_distance_is_the_mean_over_pairs():
    x, y = features(1, 7, 5), features(2, 9, 5, shift=0.2)

    def kernel(a, b):
        return (float(a @ b) / 5 + 1) ** 3

    within = [np.mean([kernel(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j]) for z in (x, y)]
    between = np.mean([kernel(a, b) for a in x for b in y])
    assert kernel_distance(x, y) == pytest.approx(sum(within) - 2 * between, rel=1e-9)


def test_kernel_distance_in_pieces_is_the_same(monkeypatch):
    x, y = features(1, 50, 8), features(2, 45, 8)
    whole = kernel_distance(x, y)
    monkeypatch.setattr(distances, "KERNEL_ROWS", 7)
    assert kernel_distance(x, y) == pytest.approx(whole, rel=1e-12)


def test_kernel_distance_of_a_copy_lies_below_zero_by_its_diagonal():
    x = features(1, 20, 6)
    kernel = (x @ x.T / 6 + 1) ** 3
    diagonal = kernel.diagonal().mean()
    others = (kernel.sum() - kernel.trace()) / (20 * 19)
    assert kernel_distance(x, x) == pytest.approx((-2 / 20 * (diagonal - others)).item(), rel=1e-9)


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
@pytest.mark.parametrize("bad", [torch.zeros(1, 4), torch.zeros(4), torch.full((3, 4), float("nan"))])
def test_what_has_no_distribution_is_refused(distance, bad):
    with pytest.raises(ValueError):
        distance(bad, torch.zeros(3, 4))
