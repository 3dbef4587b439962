"""Promise: halving a clip selects exactly the stored frames."""

import pytest
from cases import cases

from training.diffusion.sketch_selection import bisection


@pytest.mark.parametrize("case", cases("sketch_select"))
def test_bisection_selects_the_stored_frames(case):
    assert case.record["selected"]
    for depth, frames in case.record["selected"].items():
        assert bisection(case.record["length"], int(depth)) == frames
