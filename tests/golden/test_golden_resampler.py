"""Promise: the image-context projector reproduces the stored float32 outputs, whatever its sizes."""

import pytest
from cases import cases

from training.models.resampler import Resampler


@pytest.mark.parametrize("case", cases("resampler"))
def test_projector_reproduces_the_stored_tokens(case):
    module = Resampler(**case.record["config"]).eval()
    module.load_state_dict(case.weights, strict=True)
    case.check(module(case.tensors["x"]), "out")
