"""Promise: every parameter is either trained or frozen, and a recipe that trains another number of them does not start."""

import pytest
from torch import nn

from pipeline.errors import UserError
from training.params import ParamPlan
from training.tasks.task import Trained


class FakeUnet(nn.Module):
    """Names as a UNet's: 12 + 6 + 20 parameters."""

    def __init__(self):
        super().__init__()
        self.time_embed = nn.Sequential(nn.Linear(3, 3))
        self.fps_embedding = nn.Sequential(nn.Linear(2, 2))
        self.input_blocks = nn.ModuleList([nn.Sequential(nn.Linear(4, 4))])


def make_plan(*train, module=None):
    return ParamPlan.by_group("unet3d", module or FakeUnet(), train)


def test_groups_are_trained_or_frozen_and_nothing_is_left_over():
    module = FakeUnet()
    plan = make_plan("spatial_other", "time_embed", module=module)
    assert [name for name, _ in plan.frozen()] == ["fps_embedding.0.weight", "fps_embedding.0.bias"]
    assert plan.num_trainable == 12 + 20
    assert plan.covers(module)
    plan.freeze()
    assert {name: parameter.requires_grad for name, parameter in module.named_parameters()} == {
        "time_embed.0.weight": True, "time_embed.0.bias": True, "fps_embedding.0.weight": False, "fps_embedding.0.bias": False,
        "input_blocks.0.0.weight": True, "input_blocks.0.0.bias": True}


def test_parameter_of_no_group_is_refused():
    module = FakeUnet()
    module.extra = nn.Linear(2, 2)
    with pytest.raises(UserError, match=r"extra\.weight belongs to no parameter group"):
        make_plan("time_embed", module=module)


def test_misspelt_group_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match="Did you mean spatial_other"):
        make_plan("spatial_others")


def test_wrong_trainable_count_refuses_to_start():
    plan = make_plan("time_embed")
    plan.check(12)
    plan.check(None)
    with pytest.raises(UserError, match=r"12 parameters would be trained: task\.expected_trainable=32"):
        plan.check(32)


def test_table_shows_tensors_parameters_and_what_is_trained():
    lines = make_plan("time_embed").table("engine unet").splitlines()
    assert lines[0] == "engine unet"
    assert [line.split() for line in lines[1:]] == [
        ["group", "tensors", "parameters", "trained"], ["time_embed", "2", "12", "yes"], ["fps_embed", "2", "6", "no"],
        ["spatial_other", "2", "20", "no"], ["trained", "2", "12"]]


def test_plans_of_two_networks_join_under_prefixes():
    pair = nn.ModuleDict({"unet": FakeUnet(), "projector": nn.Linear(2, 2)})
    plan = ParamPlan.by_group("unet3d", pair["unet"], ("time_embed",), prefix="unet.").joined(
        ParamPlan.by_group("resampler", pair["projector"], ("projector",), prefix="projector."))
    assert plan.covers(pair)
    assert plan.num_trainable == 12 + 6
    with pytest.raises(AssertionError, match="planned twice"):
        plan.joined(plan)


def test_plan_that_misses_a_parameter_of_the_engine_is_refused():
    module = nn.ModuleDict({"unet": FakeUnet(), "other": nn.Linear(2, 2)})
    with pytest.raises(AssertionError, match="every parameter"):
        Trained(module, ParamPlan.by_group("unet3d", module["unet"], (), prefix="unet."), optim=None)
