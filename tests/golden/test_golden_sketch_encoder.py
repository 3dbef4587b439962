"""Promise: the sketch encoder and the UNet that takes its residuals compute what the public models compute."""

import pytest
import torch
from cases import cases

from training.models.resblock import fold
from training.models.sketch_encoder import SketchContext, SketchEncoder, sketch_context
from training.models.unet3d import UNet3D


class Pair:
    """The UNet and the sketch encoder of a case with its inputs."""

    def __init__(self, case):
        self.tensors, self.record = case.tensors, case.record
        self.unet, self.sketch = UNet3D(**case.record["unet_config"]), SketchEncoder(**case.record["sketch_config"])
        for prefix, module in (("unet.", self.unet), ("sketch.", self.sketch)):
            module.eval().load_state_dict({name.removeprefix(prefix): tensor for name, tensor in case.weights.items()
                                           if name.startswith(prefix)})
        self.num_frames = self.tensors["z_t"].shape[2]

    @torch.no_grad()
    def residuals(self, choice=SketchContext.TEXT):
        context = sketch_context(self.tensors["context"], self.num_frames, choice)
        return self.sketch(fold(self.tensors["z_t"]), fold(self.tensors["hint"]),
                           self.tensors["timesteps"].repeat_interleave(self.num_frames), context)

    @torch.no_grad()
    def predict(self, residuals):
        x = torch.cat([self.tensors["z_t"], self.tensors["c_concat"]], dim=1)
        return self.unet(x, self.tensors["timesteps"], self.tensors["context"], self.tensors["fs"], residuals=residuals)


@pytest.mark.parametrize("case", cases("sketch_encoder"))
def test_residuals_agree_with_the_stored_ones(case):
    residuals = Pair(case).residuals()
    assert len(residuals) == sum(name.startswith("residual.") for name in case.tensors)
    for index, residual in enumerate(residuals):
        case.check(residual, f"residual.{index}")


@pytest.mark.parametrize("choice", list(SketchContext))
@pytest.mark.parametrize("case", cases("sketch_encoder"))
def test_guided_output_agrees_for_every_choice_of_tokens(case, choice):
    pair = Pair(case)
    case.check(pair.predict(pair.residuals(choice)), f"out_{choice}")


@pytest.mark.parametrize("case", cases("sketch_encoder"))
def test_output_agrees_with_scaled_residuals(case):
    pair = Pair(case)
    scaled = [name for name in case.tensors if name.startswith("out_text_scale")]
    assert scaled
    for name in scaled:
        scale = float(name.removeprefix("out_text_scale"))
        case.check(pair.predict([scale * residual for residual in pair.residuals()]), name)


@pytest.mark.parametrize("case", cases("sketch_encoder"))
def test_output_agrees_without_residuals(case):
    case.check(Pair(case).predict(None), "out_no_control")


@pytest.mark.parametrize("case", cases("sketch_encoder"))
def test_output_agrees_with_residuals_of_guided_frames_only(case):
    pair = Pair(case)
    guided = torch.zeros(pair.num_frames)
    guided[pair.record["guided_frames_0based"]] = 1
    gate = guided.repeat(len(pair.tensors["z_t"]))[:, None, None, None]
    case.check(pair.predict([gate * residual for residual in pair.residuals()]), "out_zero_gate")
