"""Promise: every ZeRO stage comes to what plain torch comes to, two-player step and averages included, on 1 and 2 ranks."""

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from rank_processes import run_ranks
from run_results import assert_close_run, last_checkpoint, losses
from safetensors.torch import load_file
from toy_task import Net, make_engine_config, make_job, make_optim, run_toys

from training.deepspeed_engine import render, zero_stage

# Adam divides a gradient by its own size; with a bigger eps it does not blow up those that are rounding errors.
OPTIM = make_optim(eps=1e-3)
STEPS = 5
SPLITS = [(1, 2), (2, 1), (2, 2)]   # ranks, accumulation
# Two clips normalised over the batch are +1 and -1 whatever they were: the judge would be all rounding errors.
MICRO_BATCH = 4


def job_of(engine, zero, world, accumulate, precision="fp32"):
    job = make_job(engine=engine, zero=zero, world=world, accumulate=accumulate, precision=precision, num_steps=STEPS,
                   optim=OPTIM, heldout_every=2, save_every=1000, micro_batch=MICRO_BATCH)
    job.engine.cpu_offload = zero > 0 and precision == "bf16"  # offload goes along with the cheaper comparison
    return job


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """All trainings of this file in one folder: one process makes those of one rank, a pair those of two."""
    folder = tmp_path_factory.mktemp("zero")
    one, two = [], []
    for kind in ("one", "gan"):
        for accumulate in (2, 4):
            one.append((kind, job_of("plain", 0, 1, accumulate), folder / f"{kind}_plain_{accumulate}", None, 0))
        for zero in range(4):
            for world, accumulate in SPLITS:
                job = job_of("deepspeed", zero, world, accumulate)
                (one if world == 1 else two).append((kind, job, folder / f"{kind}_{zero}_{world}_{accumulate}", None, 0))
    one.append(("one", job_of("plain", 0, 1, 2, "bf16"), folder / "bf16_plain", None, 0))
    one += [("one", job_of("deepspeed", zero, 1, 2, "bf16"), folder / f"bf16_{zero}", None, 0) for zero in range(4)]
    assert run_ranks(1, run_toys, one) == [0]
    assert run_ranks(2, run_toys, two) == [0, 0]
    return folder


@pytest.mark.parametrize(("world", "accumulate"), SPLITS)
@pytest.mark.parametrize("zero", range(4))
@pytest.mark.parametrize("kind", ["one", "gan"])
def test_stage_equals_plain_torch(runs, kind, zero, world, accumulate):
    assert_close_run(runs / f"{kind}_{zero}_{world}_{accumulate}", runs / f"{kind}_plain_{world * accumulate}")


@pytest.mark.parametrize("zero", range(4))
def test_bf16_and_offload_equal_plain_torch_under_autocast(runs, zero):
    assert_close_run(runs / f"bf16_{zero}", runs / "bf16_plain")


def test_bf16_computes_in_another_precision_than_fp32(runs):
    assert losses(runs / "bf16_plain") != losses(runs / "one_plain_2")


@pytest.mark.parametrize("zero", range(4))
def test_frozen_layer_keeps_every_bit_and_trained_ones_move(runs, zero):
    initial = Net().state_dict()
    for run in (f"one_{zero}_2_2", f"bf16_{zero}"):
        weights = load_file(last_checkpoint(runs / run) / "weights.safetensors")
        for name, tensor in initial.items():
            assert torch.equal(weights[f"model.{name}"], tensor) == name.startswith("kept"), name


def test_average_lags_behind_the_weights(runs):
    folder = last_checkpoint(runs / "one_3_2_2")
    weights, averages = load_file(folder / "weights.safetensors"), load_file(folder / "weights_ema.safetensors")
    assert not torch.equal(weights["model.first.weight"], averages["model.first.weight"])
    assert torch.equal(weights["model.kept.weight"], averages["model.kept.weight"])


def test_discriminator_is_never_in_zero_3(runs):
    for zero, expected in ((1, 1), (2, 2), (3, 2)):
        assert zero_stage(make_engine_config("deepspeed", zero), partition_weights=False) == expected
    written = json.loads((runs / "gan_3_2_2" / "deepspeed.discriminator.json").read_text())
    assert written["zero_optimization"]["stage"] == 2
    assert json.loads((runs / "gan_3_2_2" / "deepspeed.decoder.json").read_text())["zero_optimization"]["stage"] == 3


@pytest.mark.parametrize("stage", range(4))
def test_deepspeed_knows_every_option_that_is_written(stage):
    from deepspeed.runtime import constants
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    known = {value for value in vars(constants).values() if isinstance(value, str)} | {"zero_force_ds_cpu_optimizer"}
    rendered = render(make_engine_config("deepspeed", stage, cpu_offload=stage > 0), OPTIM, accumulate=2, world=4, stage=stage,
                      num_trainable=100, device=torch.device("cpu"))
    assert rendered.keys() <= known | {"zero_optimization"}
    DeepSpeedZeroConfig(**rendered["zero_optimization"])  # refuses unknown names
    assert rendered["train_batch_size"] == 2 * 2 * 4
