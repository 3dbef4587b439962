"""How many floating-point operations a training does for one clip: counted on networks without memory, not estimated.

Forward and backward of what trains, with the passes of frozen networks that belong to every step; recomputation of activations
is not counted, as is usual for MFU.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from training.config import TaskName, TrainJob, parse_size
from training.models import registry
from training.models.kl_blocks import to_frames
from training.models.parameter_groups import group_of
from training.models.sketch_encoder import SketchContext, sketch_context


def training_flops(job: TrainJob) -> float:
    """Operations for one clip of the job's size, two for a multiplication with an addition."""
    width, height = parse_size(job.data.size, "data.size")
    return _count(job.task.name, job.model.preset.value, tuple(job.task.train_groups), job.task.bypass_temporal,
                  SketchContext(job.task.sketch.context.value), job.data.num_frames, height, width)


@functools.cache
def _count(task: TaskName, preset: str, train_groups: tuple[str, ...], bypass_temporal: bool, choice: SketchContext,
           num_frames: int, height: int, width: int) -> float:
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        first_stage: Any = registry.build("dualref_autoencoder", preset=preset, device="meta").requires_grad_(False)
        video = torch.empty(1, 3, num_frames, height, width)
        with torch.no_grad():
            z = first_stage.encode(to_frames(video)).mode()
        if task is TaskName.DECODER:
            references = first_stage.references(video[:, :, [0, -1]])
            _train(first_stage.decoder, "dualref_autoencoder", "decoder.", train_groups)
            _backward(first_stage.decoder(z, num_frames, references))
        else:
            unet: Any = registry.build("unet3d", preset=preset, device="meta").requires_grad_(False)
            projector: Any = registry.build("resampler", preset=preset, device="meta").requires_grad_(False)
            tower = registry.build("openclip_image", preset=preset, device="meta")
            with torch.no_grad():
                tokens = tower(video[:, :, 0])
            x = torch.empty(1, 4, num_frames, *z.shape[-2:])
            t = torch.zeros(1, dtype=torch.long)
            text = torch.empty(1, 77, projector.proj_out.out_features)
            if task is TaskName.RECTIFY:
                _train(unet, "unet3d", "", train_groups)
                _train(projector, "resampler", "", train_groups)
                context = torch.cat([text, projector(tokens, num_frames)], dim=1)
                _backward(unet(torch.cat([x, x], dim=1), t, context, t, bypass_temporal=bypass_temporal))
            else:
                encoder = registry.build("sketch_encoder", preset=preset, device="meta")
                with torch.no_grad():
                    context = torch.cat([text, projector(tokens, num_frames)], dim=1)
                    state = unet.encode(torch.cat([x, x], dim=1), t, context, t)
                residuals = encoder(to_frames(x), torch.empty(num_frames, 1, height, width), t.expand(num_frames),
                                    sketch_context(context, num_frames, choice))
                _backward(unet.decode(state, residuals))
    return float(counter.get_total_flops())


def _train(module: nn.Module, model: str, prefix: str, train_groups: tuple[str, ...]) -> None:
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(group_of(model, prefix + name) in train_groups)


def _backward(output: Tensor) -> None:
    if output.requires_grad:            # nothing trains in Table 3, row I
        output.sum().backward()
