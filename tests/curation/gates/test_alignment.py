"""Promise: the cosines of first, middle and last frame are all stored, and mean and lowest decide."""

from __future__ import annotations

import numpy as np
import pytest

from curation.config import AlignmentLimits
from curation.gates.alignment import Alignment, decide, measure_alignment

LIMITS = AlignmentLimits(enabled=True, min_mean=0.2, min_lowest=0.15)


def test_three_cosines_are_stored_with_mean_and_lowest() -> None:
    words = np.array([1, 0], np.float32)
    found = measure_alignment(np.array([[0.6, 0.8], [1, 0], [-0.6, 0.8]], np.float32), words)
    assert found == Alignment(first=0.6, middle=1.0, last=-0.6, mean=0.3333, lowest=-0.6)


def test_more_frames_count_in_mean_and_lowest() -> None:
    """Five frames: the third is the middle one; the fourth, 0, is the lowest."""
    cosines = np.array([0.5, 0.4, 0.3, 0.0, 0.3], np.float32)
    vectors = np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1)
    assert measure_alignment(vectors, np.array([1, 0], np.float32)) == Alignment(0.5, 0.3, 0.3, 0.3, 0.0)


@pytest.mark.parametrize(("mean", "lowest", "word"), [
    (0.2, 0.15, ""), (0.199, 0.18, "fits the pictures by 0.199"), (0.25, 0.149, "fits one picture by only 0.149")])
def test_mean_and_lowest_decide_on_both_sides_of_their_limits(mean: float, lowest: float, word: str) -> None:
    verdict = decide(Alignment(0.2, 0.2, 0.2, mean, lowest), LIMITS)
    assert verdict.keep is (word == "") and word in verdict.reason
