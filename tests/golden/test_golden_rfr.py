"""Promise: flow refinement reproduces the released program step by step, and the paper's start of it."""

import pytest
import torch
from cases import cases
from recipe_weights import recipe_weights

from training.animeinterp.behaviour import Behaviour
from training.animeinterp.correlation import Correlation, pixel_grid
from training.animeinterp.network import AnimeInterp

FLOW_PX = 1e-3


def signed(case, name):
    return (case.tensors[name].permute(2, 0, 1)[None].float() / 255 - 0.5) / 0.5


def refinement(case, behaviour):
    return recipe_weights(AnimeInterp(behaviour=behaviour), case.record).flownet


@pytest.mark.parametrize("case", cases("rfr"))
@torch.no_grad()
def test_start_encoder_and_lookups_agree(case):
    network = refinement(case, Behaviour.RELEASED)
    image1, image2 = signed(case, "a_image1"), signed(case, "a_image2")
    start = network.start(image1, image2, case.tensors["a_flow_init"][None])
    case.check(start.flow, "a_flow_init_8th")
    case.check(start.error, "a_error21")
    case.check(start.attention, "a_attention_out")
    case.check(start.confidence, "a_confidence")
    features = network.fnet(image1)
    case.check(features, "a_fmap1")
    correlation = Correlation(features, network.fnet(image2), num_levels=4, radius=4)
    own = pixel_grid(features)
    case.check(correlation.lookup(own)[..., ::4, ::4], "a_corr_lookup_zero_sub")
    case.check(correlation.lookup(own + start.flow)[..., ::4, ::4], "a_corr_lookup_init_sub")


@pytest.mark.parametrize("case", cases("rfr"))
@torch.no_grad()
def test_released_flows_agree_in_every_iteration(case):
    network, num_iterations = refinement(case, Behaviour.RELEASED), case.record["iters"]
    found = network(signed(case, "a_image1"), signed(case, "a_image2"), case.tensors["a_flow_init"][None],
                    num_iterations=num_iterations, every_iteration=True)
    assert len(found.flows) == num_iterations
    for index, flow in enumerate(found.flows):
        case.check(flow, f"a_flow_iter{index}", atol=FLOW_PX, rtol=0)
    case.check(found.flow, "a_flow_out", atol=FLOW_PX, rtol=0)


@pytest.mark.parametrize("case", cases("rfr"))
@torch.no_grad()
def test_paper_start_agrees(case):
    network, coarse = refinement(case, Behaviour.PAPER), case.tensors["a_flow_init"][None]
    found = network(signed(case, "a_image1"), signed(case, "a_image2"), coarse, num_iterations=case.record["iters"])
    case.check(found.flow, "a_flow_out_paper_init", atol=FLOW_PX, rtol=0)


@pytest.mark.parametrize("behaviour", Behaviour)
@pytest.mark.parametrize("case", cases("rfr"))
@torch.no_grad()
def test_sizes_that_are_no_multiple_of_eight_agree(case, behaviour):
    found = refinement(case, behaviour)(signed(case, "b_image1"), signed(case, "b_image2"), num_iterations=case.record["iters"])
    case.check(found.flow, "b_flow_out", atol=FLOW_PX, rtol=0)
    assert found.start is None
