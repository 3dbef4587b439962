"""Sparse sketch guidance: which frames of a clip get a sketch during training.

ToonCrafter (arXiv 2405.17933), section on sketch-based control: with probability 0.8 the frames found by halving the clip to a
random depth 1..4, otherwise a random subset. The size of that subset is not published; we draw it uniformly from 1..length.
"""

import numpy as np


def select_frames(length: int, generator: np.random.Generator, *, bisection_probability: float = 0.8,
                  max_depth: int = 4) -> np.ndarray:
    """Returns a mask [length] bool, true where the frame keeps its sketch; at least one is."""
    mask = np.zeros(length, dtype=bool)
    if generator.random() < bisection_probability:
        depth = int(generator.integers(1, max_depth, endpoint=True))
        mask[[frame - 1 for frame in bisection(length, depth)]] = True
    else:
        size = int(generator.integers(1, length, endpoint=True))
        mask[generator.choice(length, size=size, replace=False)] = True
    return mask


def bisection(length: int, depth: int) -> list[int]:
    """Returns the frames, counted from 1 and sorted, that halving the clip `depth` times passes through.

    The middle of (i, j) is floor((i + j) / 2); both halves keep it as an end. The last frame is never among them, the first is
    once the halves are short enough. `length` at least 2.
    """
    assert length >= 2, "a clip of one frame has no middle"
    segments, selected = [(1, length)], set()
    for _ in range(depth):
        middles = [(first + last) // 2 for first, last in segments]
        selected.update(middles)
        segments = [half for (first, last), middle in zip(segments, middles, strict=True)
                    for half in ((first, middle), (middle, last))]
    return sorted(selected)
