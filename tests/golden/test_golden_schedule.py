"""Promise: schedule, targets, guidance, visited steps and condition dropout agree with the stored values of any schedule."""

import pytest
import torch
from cases import cases

from training.diffusion import ddim, guidance, objective
from training.diffusion.schedule import linear_betas, make_schedule
from training.models.resblock import sinusoid

GUIDANCE_SCALE = 7.5            # of the stored cfg_* tensors
DROP_TABLE = "condition_dropout_uncond_prob_"
each_case = pytest.mark.parametrize("case", cases("schedule"))


def schedule_of(case):
    return make_schedule(**case.record["schedule"])


@each_case
def test_buffers_are_the_stored_ones(case):
    buffers = schedule_of(case).buffers()
    assert ("scale_arr" in buffers) == ("scale_arr" in case.tensors)
    assert {"betas", "sqrt_recip_alphas_cumprod", "posterior_mean_coef2"} <= set(buffers)
    for name, values in buffers.items():
        case.check(torch.nan_to_num(values, nan=torch.nan, posinf=1e30, neginf=-1e30), name)


@each_case
def test_float64_betas_are_the_stored_ones_before_and_after_the_shift(case):
    settings = case.record["schedule"]
    before = linear_betas(settings["timesteps"], settings["linear_start"], settings["linear_end"])
    case.check(before, "betas_unrescaled_f64", rtol=1e-12, atol=0)
    case.check(schedule_of(case).betas, "betas_f64", rtol=1e-9, atol=0)


@each_case
def test_noising_targets_and_recovery_agree(case):
    schedule, stored = schedule_of(case), case.tensors
    t, noise = stored["t"], stored["noise"]
    scaled = schedule.scale(stored["x0"], t)
    case.check(scaled, "x0_scaled")
    case.check(schedule.add_noise(scaled, noise, t), "x_t")
    case.check(schedule.v_target(scaled, noise, t), "v_target")
    case.check(schedule.x0_from_v(stored["x_t"], stored["v_in"], t), "pred_x0_from_v")
    case.check(schedule.eps_from_v(stored["x_t"], stored["v_in"], t), "pred_eps_from_v")


@each_case
def test_loss_of_a_stand_in_prediction_is_the_stored_one(case):
    stored = case.tensors
    seen = []

    def predict(x_t, t):
        seen.append(x_t)
        return stored["v_in"]

    loss = objective.diffusion_loss(schedule_of(case), predict, stored["x0"], stored["noise"], stored["t"])
    assert loss.shape == stored["t"].shape
    case.check(seen[0], "x_t")
    case.check(loss.mean().reshape(1), "train_loss")


@each_case
def test_guidance_is_the_stored_arithmetic(case):
    cond, uncond = case.tensors["cfg_cond"], case.tensors["cfg_uncond"]
    case.check(guidance.guide(cond, uncond, GUIDANCE_SCALE), "cfg_raw")
    rescaled = [name for name in case.tensors if name.startswith("cfg_rescaled_")]
    assert rescaled
    for name in rescaled:
        case.check(guidance.guide(cond, uncond, GUIDANCE_SCALE, float(name.rpartition("_")[2])), name)


@each_case
def test_visited_steps_are_the_stored_ones(case):
    schedule = schedule_of(case)
    for spacing, by_count in case.record["ddim_timesteps"].items():
        for steps, expected in by_count.items():
            assert ddim.timesteps(schedule, int(steps), spacing) == expected, (spacing, steps)


@each_case
def test_conditions_are_dropped_as_the_table_says(case):
    tables = {key: rows for key, rows in case.record.items() if key.startswith(DROP_TABLE)}
    assert tables
    for key, rows in tables.items():
        for row in rows:
            found = objective.condition_drop(row["u"], float(key.removeprefix(DROP_TABLE)))
            assert found == (row["drop_text"], row["drop_image_embedding"]), row


@each_case
def test_sinusoids_of_the_step_are_the_stored_ones(case):
    stored = [name for name in case.tensors if name.startswith("temb_dim")]
    assert stored
    for name in stored:
        case.check(sinusoid(case.tensors["temb_t"], int(name.removeprefix("temb_dim"))), name)
