"""Frechet distance and kernel distance between two sets of features, in float64."""

import torch
from torch import Tensor

KERNEL_ROWS = 1024


def frechet_distance(x: Tensor, y: Tensor, *, unbiased: bool = True) -> float:
    """Returns |mean_x - mean_y|^2 + Tr(S_x + S_y - 2 (S_x S_y)^(1/2)) of two feature sets [m, d] and [n, d]; 0 if they are equal.

    `unbiased` divides covariances by N - 1, as nearly everyone does; False is cd-fvd's and StyleGAN-V's 1 / N.
    The root's trace is found without a matrix root: with S_x = A'A and S_y = B'B it is the sum of the singular values of AB'.
    That needs neither scipy's sqrtm nor clipping, and stays exact where there are fewer samples than dimensions, where roots of
    eigenvalues that should be zero cost half of the digits. Source: FID (arXiv 1706.08500), FVD (arXiv 1812.01717).
    ValueError for fewer than two samples or non-finite features.
    """
    x, y = _checked(x), _checked(y)
    mean_x, mean_y = x.mean(0), y.mean(0)
    factor_x = _covariance_factor(x - mean_x, len(x) - 1 if unbiased else len(x))
    factor_y = _covariance_factor(y - mean_y, len(y) - 1 if unbiased else len(y))
    root_trace = torch.linalg.svdvals(factor_x @ factor_y.T).sum()
    covariance_term = factor_x.square().sum() + factor_y.square().sum() - 2 * root_trace
    # Both terms are squares of distances; rounding alone could make the second negative.
    return ((mean_x - mean_y).square().sum() + covariance_term.clamp(min=0)).item()


def kernel_distance(x: Tensor, y: Tensor) -> float:
    """Returns the unbiased squared maximum mean discrepancy of [m, d] and [n, d] under the kernel (a.b / d + 1)^3.

    One value over the whole sets, without KID's random subsets and without a factor, as LVDM computes KVD. The estimator's mean
    is 0 for equal distributions, so it can be slightly negative; for an exact copy it is, by the share of the diagonal.
    ValueError for fewer than two samples or non-finite features.
    """
    x, y = _checked(x), _checked(y)
    m, n = len(x), len(y)
    within_x = (_kernel_sum(x, x) - _kernel_diagonal(x)) / (m * (m - 1))
    within_y = (_kernel_sum(y, y) - _kernel_diagonal(y)) / (n * (n - 1))
    return (within_x + within_y - 2 * _kernel_sum(x, y) / (m * n)).item()


def _checked(features: Tensor) -> Tensor:
    if features.dim() != 2 or len(features) < 2:
        raise ValueError(f"feature sets are [n >= 2, d], not {list(features.shape)}")
    features = features.double()
    if not features.isfinite().all():
        raise ValueError("features are not finite")
    return features


def _covariance_factor(centred: Tensor, divisor: int) -> Tensor:
    """A with A'A = covariance and at most d rows: the triangle of a QR decomposition replaces many samples by d rows."""
    if centred.shape[0] > centred.shape[1]:
        centred = torch.linalg.qr(centred, mode="r").R
    return centred / divisor**0.5


def _kernel_sum(x: Tensor, y: Tensor) -> Tensor:
    """Sum over all pairs; in rows, so that large sets need no quadratic memory."""
    return torch.stack([(rows @ y.T / x.shape[1] + 1).pow(3).sum() for rows in x.split(KERNEL_ROWS)]).sum()


def _kernel_diagonal(x: Tensor) -> Tensor:
    return (x.square().sum(1) / x.shape[1] + 1).pow(3).sum()
