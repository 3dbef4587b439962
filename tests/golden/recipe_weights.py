"""Weights that parity cases state as a recipe instead of storing them; see the README of golden/animeinterp."""

import zlib

import numpy as np
import torch


def recipe_tensor(key, shape, *, seed, gain):
    """The tensor of one key; PReLU's single weight has its own rule."""
    draws = np.random.RandomState((seed + zlib.crc32(key.encode("utf-8"))) % 2**32).standard_normal(size=tuple(shape))
    if key.endswith("running_var"):
        draws = 0.5 + 0.5 * np.abs(draws)
    elif key.endswith("running_mean"):
        draws = 0.1 * draws
    elif key.endswith("num_batches_tracked"):
        draws = np.zeros(())
    elif len(shape) >= 2:
        draws = draws * gain / np.sqrt(np.prod(shape[1:]))
    elif key.endswith(".weight"):
        draws = 0.25 + 0.05 * draws if int(np.prod(shape)) == 1 else 1 + 0.1 * draws
    else:
        draws = 0.02 * draws
    return torch.from_numpy(np.asarray(draws)).float()


def recipe_weights(module, record):
    """Loads the recipe of a case's json into a module, strictly, and returns it in evaluation mode."""
    scales = record.get("weight_scale_overrides", {})
    found = {key: recipe_tensor(key, tensor.shape, seed=record["weight_seed"], gain=record["gain"]) * scales.get(key, 1.0)
             for key, tensor in module.state_dict().items()}
    module.load_state_dict(found, strict=True)
    return module.eval()
