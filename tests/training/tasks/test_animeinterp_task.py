"""Promise: AnimeInterp learns what its phase says by the paper's loss, resumes bit for bit, and gets better on held-out ones."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parents[1]))

from drawn_triplets import write_drawn
from run_results import assert_same_run, status
from tiny_tasks import make_clips

from pipeline.config import TRAIN, load
from pipeline.errors import UserError
from training.animeinterp.network import TINY, AnimeInterp, load_published
from training.engine import build_engines
from training.job import build_task, run
from training.ranks import Ranks

CPU = torch.device("cpu")
ALL = "[flow,flow_confidence,features,synthesis]"


def make_job(*overrides):
    return load(["experiment=tiny_animeinterp", "shards=none", "out=run", "device=cpu", "tracker=disabled",
                 "task.global_batch=2", "engine.micro_batch=2", "data.num_previews=0", *overrides], TRAIN)


def make(*overrides):
    job = make_job(*overrides)
    task = build_task(job, CPU)
    return task, build_engines(task, job, Ranks(0, 1, 0, CPU), Path())


def with_flows(batch):
    height, width = batch.video.shape[-2:]
    flows = torch.randn(len(batch.numbers), 2, 2, height, width, generator=torch.Generator().manual_seed(3))
    return replace(batch, flows=2 * flows)


def moved_groups(task, engines, batch):
    """The groups that one step changes."""
    plan = task.trained["interpolator"].plan
    before = {item.name: item.parameter.detach().clone() for item in plan.parameters}
    task.backward(engines, batch, 0)
    engines["interpolator"].step()
    return {item.group for item in plan.parameters if not torch.equal(item.parameter, before[item.name])}


def test_loss_is_the_mean_distance_of_colours_in_the_unit_range():
    task, engines = make()
    batch = make_clips([1, 2])
    report = task.backward(engines, batch, 0)
    network = engines["interpolator"].module.network
    with torch.no_grad():
        unit = (batch.video + 1) / 2
        made = network(unit[:, :, 0], unit[:, :, 2], num_iterations=4).image
    torch.testing.assert_close(report.per_sample, (made - unit[:, :, 1]).abs().mean(dim=(1, 2, 3)))
    torch.testing.assert_close(report.values["loss"], report.per_sample.mean())


def test_first_phase_keeps_every_bit_of_the_flow():
    task, engines = make("task.train_groups=[features,synthesis]")
    flow = {name: tensor.clone() for name, tensor in engines["interpolator"].module.network.flownet.state_dict().items()}
    assert moved_groups(task, engines, make_clips([1, 2])) == {"features", "synthesis"}
    assert all(torch.equal(tensor, flow[name])
               for name, tensor in engines["interpolator"].module.network.flownet.state_dict().items())


def test_second_phase_moves_everything_confidence_in_the_coarse_flow_included():
    task, engines = make(f"task.train_groups={ALL}", "data.triplets.flows=shards", "task.optim.grad_clip=0")
    assert moved_groups(task, engines, with_flows(make_clips([1, 2]))) == {"flow", "flow_confidence", "features", "synthesis"}


def test_importance_learns_where_pixels_are_weighed_by_it():
    task, engines = make("task.train_groups=[importance]", "task.interpolation.splatting=paper")
    assert moved_groups(task, engines, make_clips([1, 2])) == {"importance"}
    assert "importance.alpha" in task.export({"interpolator": engines["interpolator"].weights()})


@pytest.mark.parametrize("overrides", [[], ["data.triplets.flows=shards", "task.interpolation.behaviour=released"]])
def test_confidence_that_would_learn_nothing_is_refused(overrides):
    with pytest.raises(UserError, match="flow_confidence, which would learn nothing"):
        make(f"task.train_groups={ALL}", *overrides)


@pytest.mark.parametrize("behaviour", ["paper", "released"])
def test_coarse_flows_enter_as_behaviour_says(behaviour):
    task, engines = make("data.triplets.flows=shards", f"task.interpolation.behaviour={behaviour}")
    batch = with_flows(make_clips([1]))
    found = task.heldout(engines, batch)["loss"]
    network = engines["interpolator"].module.network
    assert network.flownet.behaviour.value == behaviour
    unit = (batch.video + 1) / 2
    with torch.no_grad():
        made = network(unit[:, :, 0], unit[:, :, 2], batch.flows[:, 0], batch.flows[:, 1], num_iterations=4).image
        assert (made - network(unit[:, :, 0], unit[:, :, 2], num_iterations=4).image).abs().max() > 1e-4
    torch.testing.assert_close(found, (made - unit[:, :, 1]).abs().mean(dim=(1, 2, 3)))


def test_crossfade_is_measured_beside():
    task, engines = make()
    batch = make_clips([1, 2])
    unit = (batch.video + 1) / 2
    expected = -10 * (unit[:, :, [0, 2]].mean(2) - unit[:, :, 1]).square().mean(dim=(1, 2, 3)).log10()
    torch.testing.assert_close(task.heldout(engines, batch)["psnr_crossfade"], expected)


def test_weights_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(UserError, match="stands for other networks"):
        make("model=tooncrafter_512")
    with pytest.raises(UserError, match="starts from RAFT"):
        make("model=animeinterp")
    with pytest.raises(UserError, match="stands for small networks"):
        make("model=animeinterp", "model.weights=embedded:tiny")
    with pytest.raises(UserError, match="is the network of task=animeinterp"):
        build_task(load(["experiment=tiny_rectify", "model=animeinterp", "shards=none"], TRAIN), CPU)
    save_file({"flownet.x": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="holds nothing for this task"):
        make(f"init={tmp_path / 'w.safetensors'}")


def test_flow_of_raft_and_a_whole_network_are_told_apart(tmp_path):
    torch.manual_seed(4)
    other = AnimeInterp(sizes=TINY)
    raft = {f"module.{name}": tensor for name, tensor in other.flownet.state_dict().items() if not name.startswith("attention2.")}
    torch.save(raft | {"module.cnet.conv1.bias": torch.zeros(3)}, tmp_path / "raft.pth")
    whole = {f"module.{name}": tensor for name, tensor in other.state_dict().items()}
    torch.save({"model_state_dict": whole}, tmp_path / "all.ckpt")
    from_raft, from_all = (make(f"model.weights={tmp_path / name}")[1]["interpolator"].module.network
                           for name in ("raft.pth", "all.ckpt"))
    mine = make("model.weights=embedded:random")[1]["interpolator"].module.network
    assert torch.equal(from_raft.flownet.fnet.conv1.weight, other.flownet.fnet.conv1.weight)
    assert torch.equal(from_raft.synnet.residual_model_tail[1].weight, mine.synnet.residual_model_tail[1].weight)
    assert torch.equal(from_all.synnet.residual_model_tail[1].weight, other.synnet.residual_model_tail[1].weight)


def train(out, shards, *overrides):
    job = load(["experiment=tiny_animeinterp", f"shards={shards}", f"out={out}", "device=cpu", "tracker=disabled",
                "data.num_previews=0", *overrides], TRAIN)
    Path(out).mkdir(parents=True, exist_ok=True)
    return run(job, Path(out))


def heldout(run_dir, name):
    return [record[f"heldout/{name}"] for record in map(json.loads, (run_dir / "metrics.jsonl").read_text().splitlines())
            if f"heldout/{name}" in record]


def test_run_on_shards_resumes_bit_for_bit_and_its_weights_start_another(tmp_path):
    shards = write_drawn(tmp_path / "shards", num_train=6, num_heldout=2)
    small = ["task.global_batch=2", "engine.micro_batch=1", "run.log_every=1", "run.heldout_every=2", "run.save_every=2",
             "task.optim.ema_decay=0.9", "task.optim.decay_at=[1]", "task.interpolation.num_iterations=2", "data.size=32x32"]
    train(tmp_path / "whole", shards, "task.num_steps=4", *small)
    train(tmp_path / "cut", shards, "task.num_steps=2", *small)
    outcome = train(tmp_path / "cut", shards, "task.num_steps=4", *small)
    assert status(tmp_path / "cut")["state"] == "done"
    assert_same_run(tmp_path / "cut", tmp_path / "whole")
    weights = load_file(outcome.checkpoint / "weights.safetensors")
    load_published(AnimeInterp(sizes=TINY), weights, source="a run")
    first = train(tmp_path / "next", shards, "task.num_steps=0", f"init={outcome.checkpoint / 'weights.safetensors'}", *small)
    assert first.state == "done"
    assert heldout(tmp_path / "next", "loss")[0] == heldout(tmp_path / "cut", "loss")[-1]


@pytest.mark.slow
def test_training_gets_better_on_heldout_triplets(tmp_path):
    shards = write_drawn(tmp_path / "shards", num_train=48, num_heldout=8)
    train(tmp_path / "run", shards, "task.num_steps=60", "run.heldout_every=30", "task.optim.decay_at=[50]",
          "task.optim.learning_rate=1e-3", "model.weights=embedded:random")
    losses = heldout(tmp_path / "run", "loss")
    assert losses[-1] < 0.5 * losses[0], losses


def test_tiny_network_begins_near_a_crossfade_and_all_of_it_learns():
    task, engines = make("task.optim.grad_clip=0")
    batch = make_clips([1, 2])
    found = task.heldout(engines, batch)
    torch.testing.assert_close(found["psnr"], found["psnr_crossfade"], rtol=0, atol=1.0)
    plan = task.trained["interpolator"].plan
    start = {item.name: item.parameter.detach().clone() for item in plan.parameters}
    task.backward(engines, batch, 0)
    engines["interpolator"].step()
    # Slopes of PReLU are left out: where nothing is negative they change nothing.
    weights = [item for item in plan.parameters if item.is_trained and item.parameter.dim() == 4]
    assert len(weights) > 50
    assert not [item.name for item in weights if torch.equal(item.parameter, start[item.name])]
