"""Promise: low-rank updates begin as nothing, train alone, and are written under upstream's names."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from tiny_tasks import build_tiny, make_clips, tiny_job

from pipeline.config import TRAIN, load
from pipeline.errors import UserError
from training.engine import build_engines
from training.models import registry
from training.models.bundle import PREFIXES
from training.ranks import Ranks
from training.tasks.denoiser import Given

LORA = ["task.lora.rank=4", "task.lora.alpha=8", "task.train_groups=[lora,projector]"]


def made(*overrides):
    task = build_tiny(tiny_job("rectify", *overrides))
    return task, build_engines(task, task.job, Ranks(0, 1, 0, torch.device("cpu")), Path())


def predict(task, engines):
    engines["denoiser"].module.eval()
    given = Given.of(task.encoders, make_clips([1]))
    with torch.no_grad():
        found = engines["denoiser"](given.z0, torch.tensor([400]), *given.inputs())
    engines["denoiser"].module.train()
    return found


def train(task, engines):
    for step in range(3):
        task.backward(engines, make_clips([step, step + 9]), step)
        engines["denoiser"].step()


def exported(task, engines):
    return task.export({name: engine.weights() for name, engine in engines.items()})


def test_updates_begin_as_nothing():
    assert torch.equal(predict(*made(*LORA)), predict(*made()))


def test_only_updates_and_projector_are_trained():
    task, engines = made(*LORA)
    before = {name: tensor.clone() for name, tensor in engines["denoiser"].module.state_dict().items()}
    train(task, engines)
    moved = {name for name, tensor in engines["denoiser"].module.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved and all(".lora_" in name or name.startswith("projector.") for name in moved)


def test_merged_export_is_a_plain_network_that_predicts_the_same(tmp_path):
    from safetensors.torch import save_file

    task, engines = made(*LORA)
    train(task, engines)
    weights = exported(task, engines)
    plain = registry.build("unet3d", preset="tiny").state_dict()
    prefix = PREFIXES["unet3d"]
    assert {name.removeprefix(prefix) for name in weights if name.startswith(prefix)} == set(plain)
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, tmp_path / "w.safetensors")
    torch.testing.assert_close(predict(*made(f"init={tmp_path / 'w.safetensors'}")), predict(task, engines), atol=1e-5, rtol=1e-5)


def test_updates_can_be_written_apart():
    task, engines = made(*LORA, "task.lora.merge_on_export=false")
    base = exported(*made())
    train(task, engines)
    weights = exported(task, engines)
    assert set(base) < set(weights) and all(".lora_" in name for name in set(weights) - set(base))
    assert all(torch.equal(weights[name], tensor) for name, tensor in base.items() if name.startswith(PREFIXES["unet3d"]))


@pytest.mark.parametrize("overrides", [["task.lora.rank=4"], ["task.train_groups=[lora,projector]"],
                                       ["task=sketch", "task.lora.rank=4", "task.train_groups=[sketch,lora]"]])
def test_half_a_choice_is_refused(overrides):
    with pytest.raises(UserError, match=r"task\.lora\.rank"):
        load(overrides, TRAIN)
