"""Promise: the whole network reproduces a stored interpolation of the released program."""

import pytest
import torch
from cases import cases
from recipe_weights import recipe_weights

from training.animeinterp.network import AnimeInterp

NEAR, SHARE_NEAR = 1e-3, 0.999


def picture(case, name):
    return case.tensors[name].permute(2, 0, 1)[None].float() / 255


def nearly_all_agree(found, expected):
    assert found.shape == expected.shape
    assert ((found - expected).abs() <= NEAR).double().mean() >= SHARE_NEAR


@pytest.mark.parametrize("case", cases("animeinterp"))
@torch.no_grad()
def test_interpolation_agrees(case):
    network, t = recipe_weights(AnimeInterp(), case.record), case.record["t"]
    image0, image1 = picture(case, "I1"), picture(case, "I2")
    found = network(image0, image1, case.tensors["F12_init"][None], case.tensors["F21_init"][None], t,
                    num_iterations=case.record["iters"])
    case.check(found.flow01, "F12", atol=1e-3, rtol=0)
    case.check(found.flow10, "F21", atol=1e-3, rtol=0)
    nearly_all_agree(network.warped(image0, image1, found.flow01, t)[0], case.tensors["I1_warped"])
    nearly_all_agree(found.image, case.tensors["out"])
