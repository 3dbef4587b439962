"""The four real trainings with tiny networks on clips that are functions of their numbers: no shards, no decoding."""

import torch

from pipeline.config import TRAIN, load
from training.data.batch import Batch
from training.job import build_task
from training.seeds import numpy_generator

FRAMES, SIDE_PX = 3, 64
KINDS = ("rectify", "decoder", "sketch", "animeinterp")
# Adam divides a gradient by its own size; with a bigger eps it does not blow up those that are rounding errors.
EPS = 1e-3


def tiny_job(kind, *overrides, world=1, accumulate=1, micro_batch=2, engine="plain", num_steps=4, out="run"):
    """A job of tiny_<kind> on FRAMES frames; its global batch follows from the other numbers."""
    return load([
        f"experiment=tiny_{kind}", f"engine={engine}", "engine.precision=fp32", f"engine.micro_batch={micro_batch}",
        f"launch.ranks_per_node={world}", f"task.global_batch={micro_batch * accumulate * world}", f"task.num_steps={num_steps}",
        f"data.num_frames={FRAMES}", f"data.size={SIDE_PX}x{SIDE_PX}", "data.num_previews=0", "task.gan.adv_start=2",
        "task.gan.disc_start=1", f"task.optim.eps={EPS}", "task.optim.ema_decay=0.9", "run.log_every=1", "run.heldout_every=2",
        "run.save_every=2", "tracker=disabled", "device=cpu", "shards=none", f"out={out}", *overrides], TRAIN)


class Requests:
    """A task that is asked to stop when it meets a sample, as toy_task.Faults says."""

    def __init__(self, task, faults):
        self._task, self._faults = task, faults

    def __getattr__(self, name):
        return getattr(self._task, name)

    def backward(self, engines, batch, step):
        self._faults.happen(batch)
        return self._task.backward(engines, batch, step)


def build_tiny(job, faults=None):
    task = build_task(job, torch.device("cpu"))
    return task if faults is None else Requests(task, faults)


def make_clips(numbers, weight=None):
    """Flat discs that wander over flat paper, with their outlines as sketches of the middle frame."""
    numbers = torch.tensor(list(numbers))
    drawn = [_disc(int(number)) for number in numbers]
    num = len(drawn)
    guided = torch.zeros(num, FRAMES, dtype=torch.bool)
    guided[:, FRAMES // 2] = True
    sketches = torch.stack([outline for _, outline in drawn]) * guided.view(num, 1, FRAMES, 1, 1)
    return Batch(numbers=numbers, keys=tuple(f"clip{int(number):04d}" for number in numbers),
                 video=torch.stack([video for video, _ in drawn]), fps=torch.full((num,), 8), captions=("a disc",) * num,
                 has_image=torch.ones(num, dtype=torch.bool), sketches=sketches, guided=guided, windows=("",) * num,
                 weight=torch.ones(num) if weight is None else torch.tensor(weight))


def _disc(number):
    chance = numpy_generator(11, number, "disc")
    paper, paint = (torch.tensor(chance.uniform(-1, 1, 3), dtype=torch.float32).view(3, 1, 1, 1) for _ in range(2))
    y, x = torch.meshgrid(torch.arange(SIDE_PX), torch.arange(SIDE_PX), indexing="ij")
    start, end = chance.uniform(16, SIDE_PX - 16, (2, 2))
    centres = [start + (end - start) * frame / (FRAMES - 1) for frame in range(FRAMES)]
    distance = torch.stack([((y - float(cy)) ** 2 + (x - float(cx)) ** 2).sqrt() for cy, cx in centres])
    inside = (distance < 12).float()[None]
    return paper * (1 - inside) + paint * inside, ((distance - 12).abs() < 1).float()[None]
