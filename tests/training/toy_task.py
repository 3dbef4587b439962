"""Two trainings of a few hundred parameters with every trait that matters: dropout, frozen parts, two players, buffers."""

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from pipeline.errors import UserError
from pipeline.tracking import Tracker, TrackerConfig, TrackerMode
from training.config import (
    CacheConfig,
    Checkpointing,
    DataConfig,
    EngineConfig,
    EngineName,
    GanConfig,
    LastLayer,
    LaunchConfig,
    LauncherName,
    LoraConfig,
    ModelConfig,
    OptimConfig,
    Precision,
    Preset,
    RunConfig,
    SketchConfig,
    SketchContext,
    SketchSource,
    TaskConfig,
    TaskName,
    TrainJob,
)
from training.data.batch import Batch
from training.engine import build_engines
from training.loop import train
from training.params import ParamPlan, PlannedParameter
from training.ranks import Ranks
from training.seeds import per_sample_noise
from training.tasks.task import StepReport, Trained

SHAPE = (3, 2, 2, 2)  # of one clip: 24 numbers
NUM = 24


def make_optim(**changes):
    return OptimConfig(**{"learning_rate": 1e-2, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.01, "grad_clip": 0.5,
                          "warmup_steps": 3, "ema_decay": 0.9, **changes})


def make_engine_config(name="plain", zero=0, precision="fp32", micro_batch=2, cpu_offload=False):
    return EngineConfig(name=EngineName(name), zero=zero, precision=Precision(precision), micro_batch=micro_batch,
                        cpu_offload=cpu_offload)


def make_job(*, engine="plain", zero=0, precision="fp32", accumulate=1, world=1, num_steps=6, micro_batch=2, optim=None,
             **run_changes):
    """A job of the toy tasks; its global batch follows from the other numbers."""
    run = {"log_every": 1, "heldout_every": 2, "preview_every": 1000, "preview_ddim_steps": 1, "save_every": 2,
           "save_minutes": 0.0, "keep_last": 2, "keep_every": 0, **run_changes}
    return TrainJob(
        shards=None, out="toy", seed=5, device="cpu",
        task=TaskConfig(name=TaskName.RECTIFY, num_steps=num_steps, global_batch=micro_batch * accumulate * world,
                        train_groups=[], bypass_temporal=False, condition_drop=0.0, offset_noise=0.0, optim=optim or make_optim(),
                        lora=LoraConfig(rank=0, alpha=1.0, merge_on_export=True),
                        gan=GanConfig(lpips_weight=0.1, disc_weight=0.5, disc_learning_rate=1e-2, disc_start=1, adv_start=2,
                                      last_layer=LastLayer.CONV_OUT, use_references=True, use_temporal=True),
                        sketch=SketchConfig(context=SketchContext.TEXT, zero_gate=False, bisection_share=0.8)),
        model=ModelConfig(preset=Preset.TINY, frozen_precision=Precision.FP32, checkpointing=Checkpointing.NONE, compile=False),
        data=DataConfig(num_frames=3, size="64x64", buckets=[], stride_min=1, stride_max=1, drawings=False, fps_max=30.0,
                        flip=0.0, sketch_source=SketchSource.OPENCV, num_workers=0, num_heldout=3, num_previews=0,
                        cache=CacheConfig(text=False, latents=False)),
        engine=make_engine_config(engine, zero, precision, micro_batch),
        launch=LaunchConfig(name=LauncherName.LOCAL, nodes=1, ranks_per_node=world, master_port=29500, time_limit="1:00:00",
                            grace_s=60, forward_env=[], dry_run=False),
        run=RunConfig(**run),
        tracker=TrackerConfig(mode=TrackerMode.DISABLED, project="toy", group=None))


class Net(nn.Module):
    """Trained layers around a frozen one, dropout and a normalisation."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.first, self.kept, self.last = nn.Linear(NUM, 16), nn.Linear(16, 16), nn.Linear(16, NUM)
        self.norm, self.dropout = nn.GroupNorm(4, 16), nn.Dropout(0.2)

    def forward(self, x):
        hidden = self.kept(torch.relu(self.first(x.flatten(1))))
        return self.last(self.dropout(torch.relu(self.norm(hidden))))


class Judge(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        # No bias before the normalisation: its gradient would be rounding errors, which Adam makes big.
        self.layers = nn.Sequential(nn.Linear(NUM, 8, bias=False), nn.BatchNorm1d(8), nn.LeakyReLU(0.2), nn.Linear(8, 1))

    def forward(self, x):
        return self.layers(x)


def plan_of(module, frozen_prefix="none"):
    """Trains every parameter but those whose name begins with `frozen_prefix`."""
    return ParamPlan(tuple(
        PlannedParameter(name, "kept" if name.startswith(frozen_prefix) else "changed", not name.startswith(frozen_prefix),
                         parameter.numel(), parameter) for name, parameter in module.named_parameters()))


@dataclass
class Faults:
    """What goes wrong on purpose."""

    bad_sample: int = -1           # its loss is not finite
    micro_s: float = 0.0           # that every micro-batch takes
    stop_at: int = -1              # sample at which somebody asks to stop
    stop_in_heldout: int = -1      # held-out sample at which somebody asks to stop
    stop_file: str = ""            # how

    def happen(self, batch):
        time.sleep(self.micro_s)
        if self.stop_at in batch.numbers or self.stop_in_heldout in batch.numbers:
            Path(self.stop_file).touch()


class ToyTask:
    """One engine with a frozen layer; learns to undo the noise on a clip and a frozen network's turn of it."""

    def __init__(self, job, faults=None):
        self.job, self.faults = job, faults or Faults()
        net = Net()
        torch.manual_seed(3)
        self.frozen = {"turn": nn.Linear(NUM, NUM).requires_grad_(False)}
        self.trained = {"net": Trained(net, plan_of(net, "kept"), job.task.optim)}

    def _losses(self, engines, batch):
        clean = batch.video.flatten(1)
        noise = per_sample_noise(self.job.seed, batch.numbers, "noise", (NUM,))
        found = engines["net"](self.frozen["turn"](clean) + 0.3 * noise).float()
        losses = (found - clean).square().mean(1)
        return losses * _damage(batch, self.faults)

    def backward(self, engines, batch, step):
        self.faults.happen(batch)
        losses = self._losses(engines, batch)
        engines["net"].backward(losses.mean())
        return StepReport({"loss": losses.mean().detach()}, losses.detach(), batch.numbers % 10)

    def active(self, step):
        return ("net",)

    def heldout(self, engines, batch):
        self.faults.happen(batch)
        return {"loss": self._losses(engines, batch)}

    def preview(self, engines, batch, ddim_steps):
        return batch.video

    def export(self, weights):
        return {f"model.{name}": tensor for name, tensor in weights["net"].items()} if weights["net"] else {}

    def flops_per_clip(self):
        return 0.0


class ToyGan:
    """Two engines: a decoder, and a judge that learns from step 1 on and is listened to from step 2 on.

    The step by the detached reconstruction: all gradients are taken on a copy of the output and go through the decoder in
    one backward pass; the weight of the second loss follows from the last layer's gradients.
    """

    def __init__(self, job, faults=None):
        self.job, self.faults = job, faults or Faults()
        decoder, judge = Net(), Judge()
        self.frozen = {}
        self.trained = {
            "decoder": Trained(decoder, plan_of(decoder, "kept"), job.task.optim),
            "discriminator": Trained(judge, plan_of(judge), make_optim(learning_rate=2e-2, ema_decay=0.0, eps=job.task.optim.eps),
                                     partition_weights=False)}
        decoder.last.register_forward_pre_hook(self._keep_input)

    def _keep_input(self, layer, inputs):
        self._last_input = inputs[0].detach().float()

    def backward(self, engines, batch, step):
        self.faults.happen(batch)
        clean, gan = batch.video.flatten(1), self.job.task.gan
        found = engines["decoder"](clean + 0.3 * per_sample_noise(self.job.seed, batch.numbers, "noise", (NUM,)))
        leaf = found.detach().float().requires_grad_()
        losses = (leaf - clean).abs().mean(1)
        losses = losses * _damage(batch, self.faults)
        (gradient,) = torch.autograd.grad(losses.mean(), leaf)
        values = {"loss": losses.mean().detach()}
        if step >= gan.adv_start:
            (adversarial,) = torch.autograd.grad(-engines["discriminator"].module(leaf).float().mean(), leaf)
            norms = [(each.T @ self._last_input).norm() for each in (gradient, adversarial)]
            weight = (norms[0] / (norms[1] + 1e-4)).clamp(0.0, 1e4) * gan.disc_weight
            with engines["decoder"].gathered([engines["decoder"].module.last.weight]):
                values["last"] = engines["decoder"].module.last.weight.detach().norm()
            values["weight"] = weight
            gradient = gradient + weight * adversarial
        engines["decoder"].backward((found.float() * gradient).sum())
        if step >= gan.disc_start:
            real, fake = (engines["discriminator"](clips).float() for clips in (clean, leaf.detach()))
            loss = (torch.relu(1 - real).mean() + torch.relu(1 + fake).mean()) / 2
            engines["discriminator"].backward(loss)
            values["judge"] = loss.detach()
        return StepReport(values, losses.detach())

    def active(self, step):
        return ("decoder", "discriminator") if step >= self.job.task.gan.disc_start else ("decoder",)

    def heldout(self, engines, batch):
        return {"loss": (engines["decoder"](batch.video).float() - batch.video.flatten(1)).abs().mean(1)}

    def preview(self, engines, batch, ddim_steps):
        return batch.video

    def export(self, weights):
        return {f"{model}.{name}": tensor for model, tensors in weights.items() for name, tensor in tensors.items()}

    def flops_per_clip(self):
        return 0.0


def _damage(batch, faults):
    return torch.where(batch.numbers == faults.bad_sample, float("nan"), 1.0)


TASKS = {"one": ToyTask, "gan": ToyGan}


def make_batch(numbers, weight=None):
    """Clips that are functions of their numbers."""
    numbers = torch.tensor(list(numbers))
    video = per_sample_noise(11, numbers, "clip", SHAPE).tanh()
    num = len(numbers)
    return Batch(numbers=numbers, keys=tuple(f"clip{int(number):04d}" for number in numbers), video=video,
                 fps=torch.full((num,), 8), captions=("",) * num, has_image=torch.ones(num, dtype=torch.bool), sketches=None,
                 guided=None, windows=("",) * num, weight=torch.ones(num) if weight is None else torch.tensor(weight))


def parts_of(kind):
    """How a task of that kind is built, and where its clips come from; the real tasks take seconds to import."""
    if kind in TASKS:
        return TASKS[kind], make_batch
    from tiny_tasks import build_tiny, make_clips

    return build_tiny, make_clips


def batches_from(job, ranks, make):
    """Micro-batch j of step k on rank r holds samples k B + (j world + r) micro + i, without end."""
    def batches(step):
        micro = job.engine.micro_batch
        while True:
            for index in range(job.accumulate):
                first = step * job.task.global_batch + (index * ranks.world + ranks.rank) * micro
                yield make(range(first, first + micro))
            step += 1
    return batches


def heldout_of(job, ranks, make):
    """Three clips for all ranks, one a batch, filled up with one of weight 0."""
    numbers, weights = [9001, 9002, 9003, 9004], [1.0, 1.0, 1.0, 0.0]
    return [make(numbers[index:index + 1], weights[index:index + 1]) for index in range(ranks.rank, 4, ranks.world)]


def run_toy(kind, job, run_dir, faults=None, ranks=None):
    """Trains as a rank of the environment, or of `ranks`; returns the exit code and writes errors of users to a file."""
    run_dir = Path(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    is_mine = ranks is None
    if is_mine:
        ranks = Ranks.start("cpu", needs_group=job.engine.name is EngineName.DEEPSPEED)
    tracker = None
    if ranks.is_first:
        tracker = Tracker(run_dir, mode="disabled", project="toy", group=None, job_type="train", config={})
    try:
        build, make = parts_of(kind)
        task = build(job, faults)
        engines = build_engines(task, job, ranks, run_dir)
        return train(job, task, engines, batches_from(job, ranks, make), lambda: heldout_of(job, ranks, make), run_dir, ranks,
                     tracker=tracker).exit_code
    except UserError as error:
        (run_dir / f"error_{ranks.rank}.txt").write_text(str(error))
        return 2
    finally:
        if is_mine:
            ranks.stop()


def run_toys(runs):
    """Several trainings one after the other in the same processes: [(kind, job, run_dir, faults, exit code that is right)]."""
    ranks = Ranks.start("cpu", needs_group=True)
    try:
        return 0 if all(run_toy(kind, job, run_dir, faults, ranks) == code for kind, job, run_dir, faults, code in runs) else 1
    finally:
        ranks.stop()
