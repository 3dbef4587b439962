"""Promise: whole DDIM runs with a known denoiser agree step by step: spacings, eta, guidance of two and three branches."""

import math

import pytest
import torch
from cases import cases

from training.diffusion import ddim
from training.diffusion.guidance import Branch, Guidance
from training.diffusion.schedule import make_schedule

CONTEXT = {Branch.FULL: "ctx_cond", Branch.UNCOND: "ctx_uncond", Branch.IMAGE_ONLY: "ctx_img_only"}


def runs():
    """One parameter per run of each case."""
    for found in cases("ddim"):
        case = found.values[0]
        if case is None:
            yield pytest.param(None, None, marks=found.marks, id=found.id)
            continue
        for name in case.record["runs"]:
            yield pytest.param(case, name, id=f"{found.id}-{name}")


def denoise(x, t, context, c_concat, fs):
    """The stand-in network of the stored runs."""
    per_sample = (-1, *[1] * (x.ndim - 1))
    s, fs = context.mean(dim=(1, 2)).reshape(per_sample), fs.to(x).reshape(per_sample)
    angle = (t.to(x) * math.pi / 1000).reshape(per_sample)
    return (0.6 * torch.tanh(x) * torch.cos(angle) + 0.25 * torch.roll(x, 1, dims=-1) + 0.3 * c_concat
            + 2.0 * s * torch.sin(2 * x) + 0.01 * fs * torch.cos(x))


@pytest.mark.parametrize(("case", "run"), list(runs()))
def test_every_step_of_a_run_is_the_stored_one(case, run):
    settings = case.record["runs"][run]
    stored = {name.removeprefix(f"{run}/"): values for name, values in case.tensors.items() if name.startswith(f"{run}/")}
    schedule = make_schedule(**case.record["schedule"])
    guidance = Guidance(settings["guidance_scale"], settings["guidance_rescale"] or 0.0, settings.get("cfg_img"))

    def predict(x, t):
        return guidance.combine({branch: denoise(x, t, stored[CONTEXT[branch]], stored["c_concat"], stored["fs"])
                                 for branch in guidance.branches})

    steps = []
    out = ddim.sample(schedule, predict, stored["x_T"], steps=settings["steps"], spacing=settings["timestep_spacing"],
                      eta=settings["eta"], noise=lambda index: stored["noises"][index],
                      on_step=lambda index, x, x0: steps.append((x, x0)))
    assert len(steps) == len(stored["x_steps"])
    tolerance = case.record["tolerance"]["rtol"]
    for (x, x0), expected_x, expected_x0 in zip(steps, stored["x_steps"], stored["pred_x0_steps"], strict=True):
        case.check(x, expected_x, atol=tolerance * float(expected_x.abs().max()), rtol=0)
        case.check(x0, expected_x0, atol=tolerance * float(expected_x0.abs().max()), rtol=0)
    case.check(out, stored["out"], atol=tolerance * float(stored["out"].abs().max()), rtol=0)


@pytest.mark.parametrize(("case", "run"), list(runs()))
def test_coefficients_of_a_run_are_the_stored_ones(case, run):
    settings = case.record["runs"][run]
    plan = ddim.trajectory(make_schedule(**case.record["schedule"]), settings["steps"], settings["timestep_spacing"],
                           eta=settings["eta"])
    for name, found in (("timesteps", plan.timesteps), ("alphas", plan.abar), ("alphas_prev", plan.abar_previous),
                        ("sigmas", plan.sigmas), ("scale", plan.scale), ("scale_prev", plan.scale_previous)):
        if f"{run}/ddim_{name}" in case.tensors:        # a schedule without dynamic rescale has no factors to store
            case.check(found, f"{run}/ddim_{name}", atol=1e-6, rtol=1e-5)
