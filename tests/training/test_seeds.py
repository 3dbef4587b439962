"""Promise: what is random about a sample depends on the seed, its number and the purpose, and on nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training.seeds import numpy_generator, per_sample_noise, timesteps, torch_generator


def test_generators_follow_from_seed_number_and_purpose() -> None:
    draws = {(seed, number, purpose): (numpy_generator(seed, number, purpose).random(),
                                       torch.rand(1, generator=torch_generator(seed, number, purpose)).item())
             for seed in (0, 1) for number in (0, 1, 10**12) for purpose in ("noise", "window")}
    assert len({draw for pair in draws.values() for draw in pair}) == 2 * len(draws)       # no two streams alike
    for key, (one, two) in draws.items():
        assert numpy_generator(*key).random() == one
        assert torch.rand(1, generator=torch_generator(*key)).item() == two


def test_noise_of_a_sample_is_the_same_in_any_batch() -> None:
    whole = per_sample_noise(3, torch.tensor([7, 8, 9]), "noise", (2, 4))
    assert whole.shape == (3, 2, 4) and whole.dtype == torch.float32
    assert torch.equal(whole[1:], per_sample_noise(3, [8, 9], "noise", (2, 4)))
    assert not torch.equal(whole[0], whole[1])


def test_timesteps_of_a_sample_are_the_same_in_any_batch_and_uniform() -> None:
    found = timesteps(3, torch.arange(4000), 10)
    assert found.dtype == torch.int64
    assert torch.equal(found[5:8], timesteps(3, [5, 6, 7], 10))
    # 400 expected of each, standard deviation sqrt(4000 * 0.1 * 0.9) = 19.
    assert np.bincount(found.numpy(), minlength=10) == pytest.approx(np.full(10, 400), abs=5 * 19)


def test_global_generators_are_neither_read_nor_moved() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one = per_sample_noise(1, [2], "noise", (3,))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert torch.equal(per_sample_noise(1, [2], "noise", (3,)), one)
