"""Promise: the UNet computes what the public model computes, with its weights under its names."""

import pytest
import torch
from cases import cases

from training.models.unet3d import UNet3D

OUTPUTS = {
    "out_per_frame": ("context_per_frame", {"fs": True}),
    "out_default_fs": ("context_per_frame", {"fs": False}),
    "out_shared_context": ("context_shared", {"fs": True}),
    "out_bypass_temporal": ("context_per_frame", {"fs": True, "bypass": True}),
}


def load(case):
    unet = UNet3D(**case.record["config"]).eval()
    unet.load_state_dict(case.weights)
    return unet


@torch.no_grad()
def predict(unet, tensors, context, *, fs, bypass=False):
    return unet(tensors["x"], tensors["timesteps"], tensors[context], tensors["fs"] if fs else None, bypass_temporal=bypass)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("case", cases("unet3d"))
def test_output_agrees_with_the_stored_one(case, output):
    if output not in case.tensors:
        pytest.skip(f"{case.path.stem} stores no {output}")
    context, options = OUTPUTS[output]
    case.check(predict(load(case), case.tensors, context, **options), output)


@pytest.mark.parametrize("case", cases("unet3d"))
def test_every_block_gives_the_stored_features(case):
    expected = {name.removeprefix("act/") for name in case.tensors if name.startswith("act/")}
    if not expected:
        pytest.skip(f"{case.path.stem} stores no features of blocks")
    unet, found = load(case), {}
    for name, module in unet.named_modules():
        if name in expected:
            module.register_forward_hook(lambda _, __, features, name=name: found.update({name: features}))
    predict(unet, case.tensors, "context_per_frame", fs=True)
    assert set(found) == expected
    for name, features in found.items():
        case.check(features, f"act/{name}")


@pytest.mark.parametrize("case", cases("unet3d"))
def test_recomputing_activations_changes_no_output(case):
    unet = UNet3D(**{**case.record["config"], "use_checkpoint": True}).eval()
    unet.load_state_dict(case.weights)
    tensors = case.tensors
    case.check(unet(tensors["x"], tensors["timesteps"], tensors["context_per_frame"], tensors["fs"]), "out_per_frame")
