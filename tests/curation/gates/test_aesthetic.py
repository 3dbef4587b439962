"""Promise: the aesthetic score is the head's on every frame that CLIP saw, and its mean decides."""

from __future__ import annotations

import numpy as np
import pytest

from curation.config import AestheticLimits
from curation.gates.aesthetic import Aesthetic, decide, measure_aesthetic
from curation.models.batches import NotFinite
from curation.models.laion import AestheticHead, fold

LIMITS = AestheticLimits(enabled=True, min_mean=4.5)
HEAD = AestheticHead(np.array([2.0, -1.0]), 5.0)


def test_score_is_mean_lowest_and_highest_of_the_frames() -> None:
    """5 + 2, 5 - 1 and 5 + 2 * 0.6 - 0.8: 7, 4 and 5.4."""
    found = measure_aesthetic(np.array([[1, 0], [0, 1], [0.6, 0.8]], np.float32), HEAD)
    assert found == Aesthetic(mean=round((7 + 4 + 5.4) / 3, 4), lowest=4.0, highest=7.0)


@pytest.mark.parametrize(("mean", "keep"), [(4.4999, False), (4.5, True), (6.0, True)])
def test_mean_decides_on_both_sides_of_the_limit(mean: float, keep: bool) -> None:
    verdict = decide(Aesthetic(mean, 1.0, 9.0), LIMITS)
    assert verdict.keep is keep and (keep or "4.50 < 4.5" in verdict.reason)


def test_nan_is_no_score() -> None:
    with pytest.raises(NotFinite, match="the aesthetic predictor"):
        measure_aesthetic(np.full((3, 2), np.nan, np.float32), HEAD)


def test_layers_without_anything_between_fold_into_one() -> None:
    """By hand: x -> (x0 + x1 + 1, 2 x0) -> 3 a - b + 10 = x0 + 3 x1 + 13."""
    head = fold([(np.array([[1.0, 1.0], [2.0, 0.0]]), np.array([1.0, 0.0])), (np.array([[3.0, -1.0]]), np.array([10.0]))])
    assert head.weight.tolist() == [1.0, 3.0] and head.bias == 13.0
