"""Promise: feature extractor and synthesis grid reproduce stored float32 outputs."""

import pytest
import torch
from cases import cases
from recipe_weights import recipe_weights

from training.animeinterp.network import AnimeInterp


@pytest.mark.parametrize("case", cases("gridnet"))
@torch.no_grad()
def test_features_and_synthesis_agree(case):
    network = recipe_weights(AnimeInterp(), case.record)
    image = case.tensors["feat_image_uint8"].permute(2, 0, 1)[None].float() / 255
    for index, found in enumerate(network.feat_ext((image - 0.5) / 0.5), start=1):
        case.check(found, f"feat{index}")
    features = tuple(case.tensors[name] for name in ("x1", "x2", "x3"))
    case.check(network.synnet(case.tensors["x"], features), "out")
