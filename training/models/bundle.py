"""The whole model in one file, as ToonCrafter and DynamiCrafter publish it: which names belong to which network.

2,668 tensors for 512x320: five networks, each below its own prefix, and 13 buffers of the schedule without one. The
sketch encoder is a file of its own, without a prefix. Source: spec section 1, read from the public code.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from pipeline.errors import UserError
from pipeline.weight_kinds import guess

# In the order of the published file.
PREFIXES = {
    "unet3d": "model.diffusion_model.",
    "dualref_autoencoder": "first_stage_model.",
    "openclip_text": "cond_stage_model.",
    "openclip_image": "embedder.",
    "resampler": "image_proj_model.",
}
SCHEDULE = "schedule"          # the name of the buffers among the parts
SCHEDULE_BUFFERS = (
    "betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod", "posterior_variance",
    "posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2", "scale_arr",
)
# Counters of the family's moving average, which is off in all published models: nothing can be lost with them.
_COUNTERS = ("model_ema.decay", "model_ema.num_updates")

State = dict[str, Tensor]


def split(state: Mapping[str, Tensor]) -> dict[str, State]:
    """Returns the tensors of each network in the file, prefixes cut off, and the buffers under "schedule".

    Networks that the file lacks are absent from the answer. UserError for tensors that belong nowhere.
    """
    parts: dict[str, State] = {}
    leftover: list[str] = []
    for name, tensor in state.items():
        owner = next((owner for owner, prefix in PREFIXES.items() if name.startswith(prefix)), None)
        if owner is not None:
            parts.setdefault(owner, {})[name.removeprefix(PREFIXES[owner])] = tensor
        elif name in SCHEDULE_BUFFERS:
            parts.setdefault(SCHEDULE, {})[name] = tensor
        elif name not in _COUNTERS:
            leftover.append(name)
    if leftover:
        shown = ", ".join(leftover[:3]) + (f" and {len(leftover) - 3:,} more" if len(leftover) > 3 else "")
        kind = guess({name: tuple(tensor.shape) for name, tensor in state.items()})
        raise UserError("the file is no whole model in the upstream layout", f"{shown} belong to no network of it",
                        f"This looks like {kind.name}")
    return parts


def part(state: Mapping[str, Tensor], name: str) -> State:
    """Returns one network's tensors of a whole file, or all of a file that holds only that network.

    Other tensors are not looked at: a whole Stable Diffusion file may give its UNet or its VAE.
    """
    prefix = PREFIXES.get(name, "")
    found = {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)} if prefix else {}
    return found or dict(state)


def join(parts: Mapping[str, Mapping[str, Tensor]], schedule_buffers: Mapping[str, Tensor]) -> State:
    """Returns the whole model in upstream names and order; split(join(...)) gives the parts back.

    `parts` must hold exactly the networks of PREFIXES, `schedule_buffers` the 13 buffers; ValueError otherwise.
    """
    networks = {name: tensors for name, tensors in parts.items() if name != SCHEDULE}
    if set(networks) != set(PREFIXES) or set(schedule_buffers) != set(SCHEDULE_BUFFERS):
        wrong = (set(networks) ^ set(PREFIXES)) | (set(schedule_buffers) ^ set(SCHEDULE_BUFFERS))
        raise ValueError(f"a whole model has {len(PREFIXES)} networks and 13 buffers; too few or too many: {sorted(wrong)}")
    state: State = {name: schedule_buffers[name] for name in SCHEDULE_BUFFERS}
    for owner, prefix in PREFIXES.items():
        state |= {f"{prefix}{name}": tensor for name, tensor in networks[owner].items()}
    return state
