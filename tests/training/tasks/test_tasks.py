"""Promise: each training changes what its recipe says and nothing else, and its loss is that of the paper."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parents[1]))

from tiny_tasks import KINDS, build_tiny, make_clips, tiny_job

from pipeline.config import TRAIN, load
from pipeline.errors import UserError
from training.config import Preset, TaskName
from training.engine import build_engines
from training.job import build_task
from training.lora import add_lora
from training.models import registry
from training.models.autoencoder import LATENT_SCALE
from training.models.bundle import PREFIXES
from training.models.kl_blocks import to_frames
from training.params import ParamPlan
from training.ranks import Ranks
from training.seeds import per_sample_noise, timesteps
from training.tasks.denoiser import Given
from training.tasks.sketch import Sketch

UPSTREAM = {"rectify": (PREFIXES["unet3d"], PREFIXES["resampler"]), "decoder": (PREFIXES["dualref_autoencoder"],),
            "animeinterp": ("flownet.", "feat_ext.", "synnet.")}


@pytest.fixture(scope="module")
def made():
    """Task, engines and job of a kind, fresh for every call."""
    def make(kind, *overrides):
        job = tiny_job(kind, *overrides)
        task = build_tiny(job)
        return task, build_engines(task, job, Ranks(0, 1, 0, torch.device("cpu")), Path()), job
    return make


def take_steps(task, engines, num_steps, first=0):
    for step in range(first, first + num_steps):
        report = task.backward(engines, make_clips([2 * step, 2 * step + 1]), step)
        for name in task.active(step):
            engines[name].step()
    return report


@pytest.mark.parametrize("kind", KINDS)
def test_trained_groups_move_and_frozen_ones_keep_every_bit(made, kind):
    task, engines, _ = made(kind)
    before = {name: {item.name: item.parameter.detach().clone() for item in trained.plan.parameters}
              for name, trained in task.trained.items()}
    outside = {name: [tensor.clone() for tensor in module.state_dict().values()] for name, module in task.frozen.items()}
    take_steps(task, engines, 3)
    for name, trained in task.trained.items():
        moved = {item.group for item in trained.plan.parameters if not torch.equal(item.parameter, before[name][item.name])}
        assert moved == {item.group for item in trained.plan.parameters if item.is_trained}, name
    for name, module in task.frozen.items():
        assert all(torch.equal(now, then) for now, then in zip(module.state_dict().values(), outside[name], strict=True)), name


def test_rectification_minimises_the_squared_error_of_v(made):
    task, engines, job = made("rectify")
    batch = make_clips([4, 5])
    net = engines["denoiser"].module.eval()     # without dropout, so that the loss can be written out
    found = task.backward(engines, batch, 0).per_sample
    given = Given.of(task.encoders, batch)
    t = timesteps(job.seed, batch.numbers, 1000)
    noise = per_sample_noise(job.seed, batch.numbers, "noise", given.z0.shape[1:])
    abar = task.schedule.abar[t].float().view(-1, 1, 1, 1, 1)
    z0 = given.z0 * task.schedule.scale_at(t).float().view(-1, 1, 1, 1, 1)
    x_t = abar.sqrt() * z0 + (1 - abar).sqrt() * noise
    v = abar.sqrt() * noise - (1 - abar).sqrt() * z0
    expected = (net(x_t, t, *given.inputs()) - v).square().flatten(1).mean(1)
    torch.testing.assert_close(found, expected)


def test_end_frames_are_given_on_the_extra_channels_and_nothing_between(made):
    task, _, _ = made("rectify")
    given = Given.of(task.encoders, make_clips([1]))
    assert torch.equal(given.ends[:, :, 0], given.z0[:, :, 0]) and torch.equal(given.ends[:, :, -1], given.z0[:, :, -1])
    assert not given.ends[:, :, 1:-1].any()


def test_temporal_layers_are_left_out_only_while_training_in_row_iii(made):
    task, engines, _ = made("rectify", "task.bypass_temporal=true")
    net, given = engines["denoiser"].module, Given.of(task.encoders, make_clips([1]))
    with torch.no_grad():
        for name, parameter in net.unet.named_parameters():
            if "temopral_conv.conv4.3" in name:       # zero in a fresh network: temporal layers would change nothing
                parameter.normal_(std=0.1)
        t = torch.tensor([500])
        net.eval()
        seeing = net(given.z0, t, *given.inputs())
        net.bypass_temporal = False
        assert torch.equal(net(given.z0, t, *given.inputs()), seeing)
        for module in net.modules():
            module.training = True
            module.p = 0.0                            # no dropout
        kept = net(given.z0, t, *given.inputs())
        net.bypass_temporal = True
        assert not torch.allclose(net(given.z0, t, *given.inputs()), kept)


def test_dropped_image_is_a_grey_picture(made):
    task, _, _ = made("rectify")
    batch = make_clips([1, 2])
    without = task.encoders.image_tokens(replace(batch, has_image=torch.tensor([True, False])))
    grey = task.encoders.image(torch.zeros_like(batch.video[:, :, 0]))
    torch.testing.assert_close(without[1], grey[1])
    torch.testing.assert_close(without[0], task.encoders.image_tokens(batch)[0])


def test_first_sketch_step_has_the_loss_of_the_base_model(made):
    task, engines, _ = made("sketch")
    assert isinstance(task, Sketch)
    batch = make_clips([7, 8])
    found = task.backward(engines, batch, 0).per_sample
    given = Given.of(task.encoders, batch)
    base = torch.stack([
        _base_loss(task, given, batch, row) for row in range(2)])
    torch.testing.assert_close(found, base, rtol=1e-5, atol=1e-6)


def _base_loss(task, given, batch, row):
    t = timesteps(task.job.seed, batch.numbers, 1000)
    noise = per_sample_noise(task.job.seed, batch.numbers, "noise", given.z0.shape[1:])
    z0 = task.schedule.scale(given.z0, t)
    with torch.no_grad():
        v = task.denoiser(task.schedule.add_noise(z0, noise, t), t, *given.inputs())
    return (v - task.schedule.v_target(z0, noise, t))[row].square().mean()


def test_zero_gate_silences_unguided_frames_outside_training_only(made):
    task, engines, _ = made("sketch", "task.sketch.zero_gate=true")
    engine, batch = engines["sketch_encoder"], make_clips([3])
    with torch.no_grad():
        for convolution in engine.module.zero_convs:
            convolution[0].weight.normal_()
    given = Given.of(task.encoders, batch)
    t = torch.tensor([300])
    context = task.denoiser.context(given.text, given.image, 3)
    trained = task.residuals(engine, batch, context, given.z0, t)[0].detach()
    engine.module.eval()
    gated = task.residuals(engine, batch, context, given.z0, t)[0].detach()
    assert batch.guided.tolist() == [[False, True, False]]
    assert trained.abs().amax(dim=(1, 2, 3)).min() > 0
    assert not gated[0].any() and not gated[2].any() and torch.equal(gated[1], trained[1])


def test_decoder_step_equals_the_gradient_of_the_whole_loss(made):
    """The detached reconstruction against one graph in plain torch, adaptive weight included (VQGAN, eq. 7)."""
    task, engines, job = made("decoder")
    batch, step = make_clips([1, 2]), 3           # after adv_start
    net, judge = engines["decoder"].module, engines["discriminator"].module
    state = {name: tensor.clone() for name, tensor in judge.state_dict().items()}
    report = task.backward(engines, batch, step)
    found = {name: parameter.grad.clone() for name, parameter in net.named_parameters() if parameter.grad is not None}
    found_judge = {name: parameter.grad.clone() for name, parameter in judge.named_parameters()}
    judge.load_state_dict(state)
    for parameter in [*net.parameters(), *judge.parameters()]:
        parameter.grad = None

    real = to_frames(batch.video)
    z = to_frames(task.encoders.latents(batch) / LATENT_SCALE)
    output = net(z, 3, *task.encoders.references(batch))
    reconstruction = F.l1_loss(output, real) + 0.1 * task.perceptual(output, real).mean()
    adversarial = -judge(output).mean()
    last = net.decoder.conv_out.weight
    norms = [torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (reconstruction, adversarial)]
    weight = (norms[0] / (norms[1] + 1e-4)).clamp(0, 1e4).detach() * job.task.gan.disc_weight
    (reconstruction + weight * adversarial).backward()
    torch.testing.assert_close(report.values["gan_weight"], weight, rtol=1e-3, atol=1e-6)
    for name, gradient in found.items():
        assert torch.allclose(gradient, net.get_parameter(name).grad, rtol=1e-3, atol=1e-5), name
    for parameter in judge.parameters():
        parameter.grad = None
    (0.5 * (F.relu(1 - judge(real)).mean() + F.relu(1 + judge(output.detach())).mean())).backward()
    for name, gradient in found_judge.items():
        torch.testing.assert_close(gradient, judge.get_parameter(name).grad, rtol=1e-3, atol=1e-5)


def test_discriminator_learns_before_the_decoder_listens(made):
    task, engines, _ = made("decoder")            # disc_start 1, adv_start 2
    reports = [take_steps(task, engines, 1, first=step) for step in range(3)]
    assert ["disc_loss" in report.values for report in reports] == [False, True, True]
    assert ["gan_loss" in report.values for report in reports] == [False, False, True]


@pytest.mark.parametrize(("har", "p3d"), [(False, True), (True, False), (False, False)])
def test_table_4_switches_leave_parts_out(made, har, p3d):
    task, engines, _ = made("decoder", f"task.gan.use_references={str(har).lower()}", f"task.gan.use_temporal={str(p3d).lower()}",
                            "task.train_groups=[dec_image]")
    take_steps(task, engines, 1)
    net = engines["decoder"].module
    changed = [item.group for item in task.trained["decoder"].plan.parameters if item.is_trained]
    assert set(changed) == {"dec_image"}
    batch = make_clips([1])
    z = to_frames(task.encoders.latents(batch) / LATENT_SCALE)
    with torch.no_grad():
        plain = net.decoder(z, 3, task.encoders.references(batch) if har else None, skip_temporal=not p3d)
        torch.testing.assert_close(net(z, 3, *(task.encoders.references(batch) if har else ())), plain)


@pytest.mark.parametrize("kind", KINDS)
def test_heldout_losses_repeat_and_change_no_weights(made, kind):
    task, engines, _ = made(kind)
    for engine in engines.values():
        engine.module.eval()
    with torch.no_grad():
        first, second = (task.heldout(engines, make_clips([9001, 9002])) for _ in range(2))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    assert all(values.shape == (2,) for values in first.values()) and "loss" in first


@pytest.mark.parametrize("kind", KINDS)
def test_preview_shows_the_clip_above_what_was_made(made, kind):
    task, engines, _ = made(kind)
    for engine in engines.values():
        engine.module.eval()
    batch = make_clips([9001])
    shown = task.preview(engines, batch, 2)
    assert shown.shape == (1, 3, 3, (3 if kind == "sketch" else 2) * 64, 64) and shown.abs().max() <= 1
    assert torch.equal(shown[:, :, :, :64], batch.video)


@pytest.mark.parametrize("kind", KINDS)
def test_exported_weights_have_upstream_names_and_start_another_run(made, kind, tmp_path):
    from safetensors.torch import save_file

    task, engines, _ = made(kind)
    take_steps(task, engines, 2)
    exported = task.export({name: engine.weights() for name, engine in engines.items()})
    assert all(name.startswith(UPSTREAM[kind]) for name in exported) if kind in UPSTREAM else "zero_convs.0.0.weight" in exported
    save_file({name: tensor.contiguous() for name, tensor in exported.items()}, tmp_path / "weights.safetensors")
    again, others, _ = made(kind, f"init={tmp_path / 'weights.safetensors'}")
    restarted = again.export({name: engine.weights() for name, engine in others.items()})
    assert exported.keys() == restarted.keys()
    assert all(torch.equal(tensor, restarted[name]) for name, tensor in exported.items())


def test_weights_of_another_task_are_refused_as_a_start(made, tmp_path):
    from safetensors.torch import save_file

    save_file({"input_hint_block.0.weight": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="holds nothing for this task"):
        made("decoder", f"init={tmp_path / 'w.safetensors'}")


@pytest.mark.parametrize("preset", TRAIN.presets)
def test_every_preset_builds_its_tiny_twin(preset):
    recipe = load([f"experiment={preset}", "shards=none"], TRAIN)
    twin = tiny_job(recipe.task.name.value)
    twin.task.train_groups, twin.task.bypass_temporal = recipe.task.train_groups, recipe.task.bypass_temporal
    twin.task.gan.use_references, twin.task.gan.use_temporal = recipe.task.gan.use_references, recipe.task.gan.use_temporal
    twin.task.lora = recipe.task.lora
    twin.task.interpolation.behaviour = recipe.task.interpolation.behaviour
    twin.task.interpolation.splatting = recipe.task.interpolation.splatting
    twin.data.triplets.flows = recipe.data.triplets.flows
    task = build_tiny(twin)
    trained = {item.group for each in task.trained.values() for item in each.plan.parameters if item.is_trained}
    assert trained - {"discriminator"} == set(recipe.task.train_groups)


@pytest.mark.parametrize("preset", [name for name in TRAIN.presets if not name.startswith("tiny")])
def test_recipe_trains_as_many_parameters_as_it_says(preset):
    job = load([f"experiment={preset}", "shards=none"], TRAIN)
    assert job.recipe_count == job.task.expected_trainable is not None
    if job.task.name is TaskName.ANIMEINTERP:
        assert job.model.preset is Preset.ANIMEINTERP
        job.model.weights = "embedded:random"
        plan = build_task(job, torch.device("cpu")).trained["interpolator"].plan
        assert plan.num_trainable == job.task.expected_trainable
        return
    assert job.model.preset is Preset.TOONCRAFTER_512
    models = {"rectify": ("unet3d", "resampler"), "decoder": ("dualref_autoencoder",), "sketch": ("sketch_encoder",)}
    total = 0
    for name in models[job.task.name.value]:
        module = registry.build(name, preset=job.model.preset.value, device="meta")
        if name == "unet3d" and job.task.lora.rank:
            add_lora(module, job.task.lora)
        own = [group for group in job.task.train_groups if (group == "projector") == (name == "resampler")]
        total += ParamPlan.by_group(name, module, own).num_trainable
    assert total == job.task.expected_trainable


def test_wrong_count_refuses_to_start(made):
    task, _, _ = made("rectify")
    with pytest.raises(UserError, match=r"1,114,052 parameters would be trained: task.expected_trainable=940,268,740"):
        task.trained["denoiser"].plan.check(940_268_740)


def test_operations_are_counted_with_what_trains(made):
    full, _, _ = made("rectify")
    projector, _, _ = made("rectify", "task.train_groups=[projector]")
    assert 0 < projector.flops_per_clip() < full.flops_per_clip()
