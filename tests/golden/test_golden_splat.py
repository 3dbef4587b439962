"""Promise: splatting reproduces the stored sums, quotients and gradients in all modes."""

import pytest
import torch
from cases import cases

from training.animeinterp.splatting import Holes, Mode, splat, sum_splat

SUM, AVERAGE = 2e-5, 1e-4                   # absolute tolerances of the case's README
ANYWHERE, WHERE_FULL = 2e-3, 2e-4           # linear and softmax: everywhere, and where enough weight arrived
FULL = 0.3


def close(found, expected, atol, where=None):
    error = (found - expected).abs()
    error = error if where is None else error[where.expand_as(error)]
    assert error.max() <= atol


@pytest.mark.parametrize("case", cases("splat"))
def test_sums_and_averages_agree(case):
    values, flow = case.tensors["input"], case.tensors["flow"]
    close(splat(values, flow, Mode.SUM), case.tensors["out_sum"], SUM)
    close(sum_splat(torch.ones_like(values[:, :1]), flow), case.tensors["weight_sum"], SUM)
    close(splat(values, flow, Mode.AVERAGE), case.tensors["out_avg"], AVERAGE)
    close(splat(values, flow, Mode.AVERAGE, holes=Holes.ZERO_TO_ONE), case.tensors["out_animeinterp_avg"], AVERAGE)


@pytest.mark.parametrize("case", cases("splat"))
@pytest.mark.parametrize(("name", "mode", "metric", "holes"), [
    ("out_soft", Mode.SOFTMAX, "metric", Holes.ADD_EPSILON), ("out_soft_zeroeps", Mode.SOFTMAX, "metric", Holes.ZERO_TO_ONE),
    ("out_soft_clipeps", Mode.SOFTMAX, "metric", Holes.CLIP_EPSILON),
    ("out_linear_addeps", Mode.LINEAR, "metric_linear", Holes.ADD_EPSILON)])
def test_weighted_quotients_agree(case, name, mode, metric, holes):
    found = splat(case.tensors["input"], case.tensors["flow"], mode, case.tensors[metric], holes=holes)
    close(found, case.tensors[name], ANYWHERE)
    close(found, case.tensors[name], WHERE_FULL, where=case.tensors["weight_sum"] > FULL)


@pytest.mark.parametrize("case", cases("splat"))
def test_gradients_agree(case):
    values, flow = (case.tensors[name].clone().requires_grad_() for name in ("input", "flow"))
    (splat(values, flow, Mode.SUM) * case.tensors["cotangent"]).sum().backward()
    close(values.grad, case.tensors["grad_input"], 1e-4)
    # On whole pixels the gradient of the flow is one-sided, and which side is nobody's promise.
    is_between = ((flow.detach() - flow.detach().round()).abs() > 0).all(dim=1, keepdim=True)
    assert is_between.float().mean() > 0.5
    close(flow.grad, case.tensors["grad_flow"], 1e-4, where=is_between)
