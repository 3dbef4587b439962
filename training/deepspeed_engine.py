"""DeepSpeed's ZeRO stages behind the Engine protocol; see training/engine.py for precision.

DeepSpeed is given the optimiser (torch's AdamW over the trainable parameters), so nothing is compiled. State is saved by
us, from the tensors that the optimiser updates: DeepSpeed's own files hold frozen weights or fail without them, differ
by stage, and are pickled. Source of the pitfalls: DeepSpeed 0.19's code, and issue 6771 on frozen parameters.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.records import Json
from training.config import EngineConfig, OptimConfig
from training.engine import AdamWEngine, adamw, as_exported, autocast_forward, clip, rank

BUCKET_ELEMENTS = 100_000_000   # of gradients sent together: 400 MB; chosen here
GATHER_ELEMENTS = 100_000_000   # of weights brought together for an export under ZeRO-3


class DeepSpeedEngine(AdamWEngine):
    """One or many processes; the process group must exist (Ranks.start with needs_group)."""

    def __init__(self, name: str, module: nn.Module, trainable: Sequence[tuple[str, nn.Parameter]], *, optim: OptimConfig,
                 engine: EngineConfig, accumulate: int, device: torch.device, partition_weights: bool = True) -> None:
        super().__init__(name, module.to(device), trainable, optim, accumulate=accumulate)
        self.stage = zero_stage(engine, partition_weights)
        self.rendered = render(engine, optim, accumulate=accumulate, world=torch.distributed.get_world_size(), stage=self.stage,
                               num_trainable=sum(parameter.numel() for _, parameter in trainable), device=device)
        deepspeed = _import_quietly(device)
        autocast_forward(module, device, engine.precision)
        self.optimizer = adamw([parameter for _, parameter in trainable], optim,
                               fused=device.type == "cuda" and not engine.cpu_offload)
        self._engine, *_ = deepspeed.initialize(model=module, optimizer=self.optimizer, config=self.rendered)

    def __call__(self, *args: Any) -> Any:
        return self._engine(*args)

    def masters(self) -> list[Tensor]:
        if self.stage == 0:
            return [parameter for _, parameter in self._trainable]
        if self.stage == 3:
            return self._engine.optimizer.fp32_partitioned_groups_flat
        return self._engine.optimizer.single_partition_of_fp32_groups

    @torch.no_grad()
    def publish(self) -> None:
        zero = self._engine.optimizer
        if self.stage in (1, 2):
            zero.update_lp_params()
        if self.stage == 3:
            zero.checkpoint_event_prologue()
            for index in range(len(zero.fp16_groups)):
                zero._reassign_or_swap_out_partitioned_parameters(index)
            zero.checkpoint_event_epilogue()

    def is_idle(self) -> bool:
        # Stages 1-3 take gradients out of the parameters as they arrive; what waits is counted.
        return super().is_idle() if self.stage == 0 else self._num_pending == 0

    def gathered(self, parameters: Sequence[nn.Parameter]) -> AbstractContextManager[None]:
        if self.stage != 3:
            return super().gathered(parameters)
        from deepspeed.runtime.zero import GatheredParameters

        return GatheredParameters(list(parameters))

    def weights(self) -> dict[str, Tensor]:
        if self.stage != 3:
            return super().weights()
        exported: dict[str, Tensor] = {}
        for part in _parts(self.module.state_dict(keep_vars=True)):
            with self.gathered([tensor for tensor in part.values() if isinstance(tensor, nn.Parameter)]):
                if rank() == 0:
                    exported |= {name: as_exported(tensor) for name, tensor in part.items()}
        return exported

    def _accumulate(self, loss: Tensor) -> None:
        self._engine.backward(loss)  # divides by gradient_accumulation_steps

    def _end_micro_batch(self, is_last: bool) -> float | None:
        assert self._engine.is_gradient_accumulation_boundary() == is_last
        if self.stage == 0:
            return self._end_unpartitioned(is_last)
        self._engine.step()  # stages 1-3 leave the weights alone where the norm is not finite
        if not is_last:
            return None
        return math.inf if self._engine.optimizer.overflow else float(self._engine.get_global_grad_norm())

    def _end_unpartitioned(self, is_last: bool) -> float | None:
        # Without ZeRO DeepSpeed tells no norm and updates whatever it is, so clipping is done here as in PlainEngine.
        norm = clip([parameter for _, parameter in self._trainable], self._optim.grad_clip) if is_last else None
        if norm is None or math.isfinite(norm):
            self._engine.step()
        return norm


def zero_stage(engine: EngineConfig, partition_weights: bool) -> int:
    """The stage of one engine: the job's, but at most 2 for a network that is also called beside its engine.

    That is the discriminator: the decoder's pass through it goes by `engine.module`, which ZeRO-3 would leave with empty
    weights. It has 3 M parameters, so there is nothing to save either.
    """
    return engine.zero if partition_weights else min(engine.zero, 2)


def render(engine: EngineConfig, optim: OptimConfig, *, accumulate: int, world: int, stage: int, num_trainable: int,
           device: torch.device) -> dict[str, Json]:
    """DeepSpeed's configuration. It ignores misspelt names at the top level; tests compare them with those it knows."""
    zero: dict[str, Json] = {"stage": stage, "reduce_bucket_size": max(1, min(BUCKET_ELEMENTS, num_trainable))}
    if stage == 3:
        zero["stage3_param_persistence_threshold"] = 0  # small tensors too, so that tiny networks take the same path
    if engine.cpu_offload:
        if stage == 0:
            raise UserError("engine.cpu_offload=true needs engine.zero of 1, 2 or 3", "stage 0 splits no optimiser states",
                            "Use engine.zero=1, or engine.cpu_offload=false")
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": device.type == "cuda"}
    return {
        "train_batch_size": engine.micro_batch * accumulate * world,
        "train_micro_batch_size_per_gpu": engine.micro_batch,
        "gradient_accumulation_steps": accumulate,
        "gradient_clipping": optim.grad_clip if stage else 0.0,  # stage 0: see _end_unpartitioned
        "steps_per_print": 1_000_000_000,
        "zero_force_ds_cpu_optimizer": False,                    # offload with torch's AdamW, which is not compiled
        "zero_optimization": zero,
    }


def _import_quietly(device: torch.device) -> Any:
    """DeepSpeed without its messages, and without its compiled all-reduce, for which hosts may lack a compiler."""
    if device.type == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    os.environ.setdefault("LOCAL_RANK", "0")  # one process without a launcher
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    import deepspeed
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.utils.logger.setLevel(logging.WARNING)
    _import_without_compiling()
    if not deepspeed.comm.is_initialized():
        deepspeed.init_distributed(auto_mpi_discovery=False, verbose=False)
    return deepspeed


def _import_without_compiling() -> None:
    """An optimiser that DeepSpeed looks at, and nobody here uses, is decorated to be compiled: ten seconds of imports."""
    from deepspeed.runtime import compiler

    original = compiler.compile
    compiler.compile = lambda: lambda function: function
    try:
        import deepspeed.runtime.zero.muon.original_muon  # noqa: F401
    finally:
        compiler.compile = original


def _parts(tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """The tensors in groups of at most GATHER_ELEMENTS, or one."""
    parts: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        num = getattr(tensor, "ds_numel", tensor.numel())
        if size and size + num > GATHER_ELEMENTS:
            parts.append({})
            size = 0
        parts[-1][name] = tensor
        size += num
    return parts
