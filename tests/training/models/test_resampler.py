"""Promise: the image-context projector is the public one in size and names, and serves clips of other lengths."""

import json
import os
from pathlib import Path

import pytest
import torch

from training.models.resampler import Resampler

SPEC_DIR = Path(os.environ.get("SPEC_DIR", Path(__file__).parents[4] / "shared" / "spec"))
TINY = {"dim": 16, "depth": 2, "dim_head": 4, "heads": 3, "num_queries": 4, "embedding_dim": 12, "output_dim": 8}


def make_projector(video_length=6, seed=0):
    torch.manual_seed(seed)
    return Resampler(**TINY, video_length=video_length)


def test_full_size_has_the_public_tensors_and_parameter_count():
    with torch.device("meta"):
        module = Resampler()
    assert sum(parameter.numel() for parameter in module.parameters()) == 48_787_456
    listing = SPEC_DIR / "state_dict" / "image_proj_resampler.json"
    if not listing.exists():
        pytest.skip("no list of public tensors: set SPEC_DIR to the folder that holds state_dict/")
    expected = {name: tuple(entry["shape"]) for name, entry in json.loads(listing.read_text()).items()}
    assert {name: tuple(values.shape) for name, values in module.state_dict().items()} == expected


def test_queries_start_with_a_variance_of_one_over_their_width():
    torch.manual_seed(0)
    latents = Resampler(dim=256, depth=1, dim_head=4, heads=1, num_queries=16, embedding_dim=4, output_dim=4).latents
    # 65,536 draws: the standard deviation is known to 0.3 %.
    assert latents.std().item() * 256 ** 0.5 == pytest.approx(1, abs=0.015)


@pytest.mark.parametrize(("num_frames", "frames"), [
    (6, [0, 1, 2, 3, 4, 5]), (1, [0]), (2, [0, 5]), (3, [0, 2, 5]),      # 2.5 rounds to the even 2
    (4, [0, 2, 3, 5]), (11, [0, 0, 1, 2, 2, 2, 3, 4, 4, 4, 5])])        # 0.5, 1.5, ... round to even
def test_other_clip_lengths_take_the_tokens_of_evenly_spread_frames(num_frames, frames):
    module, tokens = make_projector(), torch.randn(2, 9, 12)
    whole = module(tokens).reshape(2, 6, 4, 8)
    assert torch.equal(module(tokens, num_frames), whole[:, frames].reshape(2, 4 * num_frames, 8))


def test_one_image_projector_has_the_queries_of_one_frame():
    assert make_projector(video_length=None)(torch.randn(2, 9, 12)).shape == (2, 4, 8)


def test_image_tokens_are_a_set():
    module, tokens = make_projector(), torch.randn(1, 9, 12)
    torch.testing.assert_close(module(tokens[:, torch.randperm(9)]), module(tokens), atol=1e-5, rtol=1e-5)


def test_all_parameters_get_a_gradient_in_a_shorter_clip():
    module = make_projector()
    module(torch.randn(1, 9, 12), 3).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in module.parameters())


def relative_error(found, expected):
    return ((found.float() - expected).norm() / expected.norm()).item()


def test_half_precision_agrees_with_float32():
    module, tokens = make_projector(), torch.randn(2, 9, 12)
    expected = module(tokens).detach()
    with torch.autocast("cpu", torch.bfloat16):
        assert relative_error(module(tokens).detach(), expected) < 2e-2
    halved = module.bfloat16()(tokens).detach()     # float32 tokens of an image tower that stays in float32
    assert halved.dtype == torch.bfloat16
    assert relative_error(halved, expected) < 2e-2
