"""Randomness of sample n: every draw comes from a generator seeded by (seed, n, what it is for), never from a global state.

So nothing about randomness is saved, and samples are the same for any number of ranks, workers and restarts. EDM2 (NVlabs,
training loop) seeds from its counter in this way at each step; per sample it also holds for another number of ranks. Generators
are of the CPU on every device: those of a GPU depend on its kind.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pipeline.hashing import content_key


def numpy_generator(seed: int, number: int, purpose: str) -> np.random.Generator:
    """A generator for one purpose of sample `number`, e.g. "window" or "conditions"."""
    return np.random.Generator(np.random.PCG64(int(_digest(seed, number, purpose)[:32], 16)))


def torch_generator(seed: int, number: int, purpose: str) -> torch.Generator:
    """The same for torch, on the CPU; its draws are not those of numpy_generator."""
    # manual_seed takes 63 bits without a sign.
    return torch.Generator().manual_seed(int(_digest(seed, number, purpose)[:16], 16) >> 1)


def per_sample_noise(seed: int, numbers: Tensor | Sequence[int], purpose: str, shape: Sequence[int]) -> Tensor:
    """Standard normal noise [b, *shape] float32 on the CPU; row i depends on numbers[i] alone."""
    return torch.stack([torch.randn(tuple(shape), generator=torch_generator(seed, number, purpose))
                        for number in _integers(numbers)])


def timesteps(seed: int, numbers: Tensor | Sequence[int], num: int) -> Tensor:
    """Diffusion timesteps [b] int64 on the CPU, uniform in [0, num); entry i depends on numbers[i] alone."""
    return torch.tensor([int(numpy_generator(seed, number, "timestep").integers(0, num)) for number in _integers(numbers)])


def _integers(numbers: Tensor | Sequence[int]) -> list[int]:
    return [int(number) for number in (numbers.tolist() if isinstance(numbers, Tensor) else numbers)]


def _digest(seed: int, number: int, purpose: str) -> str:
    return content_key(seed=int(seed), number=int(number), purpose=purpose)
