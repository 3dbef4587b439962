"""What updates weights: forward, backward, accumulation, clipping and AdamW of one network.

PlainEngine is torch and nothing else, readable, and the oracle that DeepSpeed's stages are compared with.
Dtype policy: parameters, gradients, optimiser states and averages are fp32 in both engines. With precision=bf16 the
network's forward runs under torch.autocast: matrix products and convolutions in bf16, normalisation in fp32. Hence
frozen weights are never rounded, and a ZeRO stage changes where numbers lie, not what they are.
"""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.records import sync_file, write_json
from training.config import EngineConfig, EngineName, OptimConfig, Precision

if TYPE_CHECKING:
    from training.config import TrainJob
    from training.ranks import Ranks
    from training.tasks.task import Task

MOMENTS = ("exp_avg", "exp_avg_sq", "step")  # what AdamW keeps of a tensor


class NonFiniteGradient(ArithmeticError):
    """The norm of an engine's gradients is NaN or infinite; raised on all ranks, and nothing was updated."""


class Engine(Protocol):
    """One network that is trained. Call the engine, not its module, wherever gradients are to flow."""

    name: str
    module: nn.Module
    grad_norm: float | None        # of all gradients together at the last update, before clipping
    learning_rate: float           # of the last update
    num_updates: int

    def __call__(self, *args: Any) -> Any:
        """The module's forward."""

    def backward(self, loss: Tensor) -> None:
        """Adds the gradients of the loss of one micro-batch, divided by the number of them in a step."""

    def step(self) -> None:
        """Ends a micro-batch; after the last one of a step the weights are updated. Raises NonFiniteGradient."""

    def trainable(self) -> list[tuple[str, nn.Parameter]]: ...

    def is_idle(self) -> bool:
        """True where no gradients wait for an update."""

    def gathered(self, parameters: Sequence[nn.Parameter]) -> AbstractContextManager[None]:
        """Within it these parameters of the module are whole on every rank, to be read and not written; collective."""

    def masters(self) -> list[Tensor]:
        """The fp32 tensors that this rank's optimiser updates."""

    def publish(self) -> None:
        """Brings the masters into the module after they were written to; collective."""

    def weights(self) -> dict[str, Tensor]:
        """Parameters and buffers of the module on rank 0, as fp32 CPU copies; {} on other ranks; collective."""

    def save(self, folder: Path) -> None:
        """Writes this rank's masters, moments and buffers. Frozen parameters are not among them."""

    def load(self, folder: Path) -> None:
        """Reads what `save` wrote at the same number of ranks; collective."""


class AdamWEngine(ABC):
    """What both engines share: AdamW over some masters, warm-up, counting of micro-batches, state on disk."""

    optimizer: torch.optim.AdamW

    def __init__(self, name: str, module: nn.Module, trainable: Sequence[tuple[str, nn.Parameter]], optim: OptimConfig,
                 *, accumulate: int) -> None:
        self.name, self.module, self.accumulate = name, module, accumulate
        self.grad_norm: float | None = None
        self.learning_rate = 0.0
        self.num_updates = 0
        self._optim, self._trainable = optim, list(trainable)
        self._num_pending = 0

    @abstractmethod
    def __call__(self, *args: Any) -> Any: ...

    @abstractmethod
    def _accumulate(self, loss: Tensor) -> None:
        """Adds the gradients of loss / accumulate."""

    @abstractmethod
    def _end_micro_batch(self, is_last: bool) -> float | None:
        """At the last one: updates and returns the norm of the gradients, or returns a non-finite one and changes nothing."""

    @abstractmethod
    def masters(self) -> list[Tensor]: ...

    @abstractmethod
    def publish(self) -> None: ...

    def backward(self, loss: Tensor) -> None:
        self._accumulate(loss)
        self._num_pending += 1

    def step(self) -> None:
        assert 0 < self._num_pending <= self.accumulate, f"{self.name}: {self._num_pending} backward passes before step"
        is_last = self._num_pending == self.accumulate
        if is_last:
            self.learning_rate = learning_rate(self._optim, self.num_updates)
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate
        norm = self._end_micro_batch(is_last)
        if is_last:
            assert norm is not None
            self.grad_norm, self._num_pending = norm, 0
            if not math.isfinite(norm):
                raise NonFiniteGradient(f"the gradients of {self.name} have norm {norm}")
            self.num_updates += 1

    def trainable(self) -> list[tuple[str, nn.Parameter]]:
        return self._trainable

    def is_idle(self) -> bool:
        return self._num_pending == 0 and all(parameter.grad is None for _, parameter in self._trainable)

    def gathered(self, parameters: Sequence[nn.Parameter]) -> AbstractContextManager[None]:
        return nullcontext()

    def weights(self) -> dict[str, Tensor]:
        return {name: as_exported(tensor) for name, tensor in self.module.state_dict().items()} if rank() == 0 else {}

    def save(self, folder: Path) -> None:
        tensors = {f"buffer.{name}": buffer for name, buffer in self.module.named_buffers()}
        for index, master in enumerate(self.masters()):
            tensors[f"master.{index}"] = master.detach()
            if self.num_updates:
                tensors |= {f"{moment}.{index}": self.optimizer.state[master][moment] for moment in MOMENTS}
        write_state(folder, tensors, {"num_updates": str(self.num_updates)})

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        masters, buffers = self.masters(), dict(self.module.named_buffers())
        expected = {f"master.{index}" for index in range(len(masters))} | {f"buffer.{name}" for name in buffers}
        found, metadata = read_state(folder, expected)
        for name, buffer in buffers.items():
            buffer.copy_(found[f"buffer.{name}"])
        self.num_updates = int(metadata["num_updates"])
        for index, master in enumerate(masters):
            if found[f"master.{index}"].shape != master.shape:
                raise UserError(f"{folder} does not fit engine {self.name}", "its tensors are split in another way",
                                "Resume with the engine and ZeRO stage that wrote it, or start from its weights with init=")
            master.copy_(found[f"master.{index}"])
            if self.num_updates:
                self.optimizer.state[master] = {
                    "step": found[f"step.{index}"].to(master.device if self.optimizer.defaults["fused"] else "cpu"),
                    **{moment: found[f"{moment}.{index}"].to(master.device) for moment in ("exp_avg", "exp_avg_sq")}}
        self.publish()


class PlainEngine(AdamWEngine):
    """One process and plain torch."""

    def __init__(self, name: str, module: nn.Module, trainable: Sequence[tuple[str, nn.Parameter]], *,
                 optim: OptimConfig, engine: EngineConfig, accumulate: int, device: torch.device) -> None:
        super().__init__(name, module.to(device), trainable, optim, accumulate=accumulate)
        autocast_forward(module, device, engine.precision)
        self.optimizer = adamw([parameter for _, parameter in trainable], optim, fused=device.type == "cuda")

    def __call__(self, *args: Any) -> Any:
        return self.module(*args)

    def masters(self) -> list[Tensor]:
        return [parameter for _, parameter in self._trainable]

    def publish(self) -> None:
        """The masters are the parameters themselves."""

    def _accumulate(self, loss: Tensor) -> None:
        (loss / self.accumulate).backward()

    def _end_micro_batch(self, is_last: bool) -> float | None:
        if not is_last:
            return None
        norm = clip([parameter for _, parameter in self._trainable], self._optim.grad_clip)
        if math.isfinite(norm):
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm


def build_engine(name: str, module: nn.Module, trainable: Sequence[tuple[str, nn.Parameter]], *, optim: OptimConfig,
                 engine: EngineConfig, accumulate: int, device: torch.device, partition_weights: bool = True) -> Engine:
    """Wraps a module whose frozen parameters need no gradient (ParamPlan.freeze); UserError for a bad combination.

    `partition_weights` False keeps whole weights on each rank whatever the ZeRO stage: see training/deepspeed_engine.py.
    """
    if engine.name is EngineName.DEEPSPEED:
        from training.deepspeed_engine import DeepSpeedEngine

        return DeepSpeedEngine(name, module, trainable, optim=optim, engine=engine, accumulate=accumulate, device=device,
                               partition_weights=partition_weights)
    if engine.cpu_offload:
        raise UserError("engine.cpu_offload=true needs DeepSpeed", "the plain engine keeps everything on the device",
                        "Use engine=zero1, or engine.cpu_offload=false")
    return PlainEngine(name, module, trainable, optim=optim, engine=engine, accumulate=accumulate, device=device)


def build_engines(task: Task, job: TrainJob, ranks: Ranks, run_dir: Path) -> dict[str, Engine]:
    """Freezes what the plans freeze and builds every engine of a task; DeepSpeed's dictionaries are written beside the run."""
    if job.engine.name is EngineName.DEEPSPEED:  # nothing is compiled, but if it were, not in somebody's home
        os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(run_dir / "torch_extensions"))
    engines: dict[str, Engine] = {}
    for name, trained in task.trained.items():
        trained.plan.freeze()
        engines[name] = build_engine(
            name, trained.module, trained.plan.trainable(), optim=trained.optim, engine=job.engine,
            accumulate=job.accumulate, device=ranks.device, partition_weights=trained.partition_weights)
        rendered = getattr(engines[name], "rendered", None)
        if rendered is not None and ranks.is_first:
            write_json(run_dir / f"deepspeed.{name}.json", rendered, indent=2)
    return engines


def learning_rate(optim: OptimConfig, step: int) -> float:
    """The rate of the update that ends step `step`, counted from 0: a function of the step, so no schedule has a state."""
    share = min(1.0, (step + 1) / optim.warmup_steps) if optim.warmup_steps else 1.0
    if optim.decay_at and optim.decay_factor is not None:
        share *= optim.decay_factor ** sum(step >= at for at in optim.decay_at)
    return optim.learning_rate * share


def adamw(parameters: Iterable[Tensor], optim: OptimConfig, *, fused: bool) -> torch.optim.AdamW:
    """`fused`: one kernel; the default on a GPU would make copies as big as the network."""
    return torch.optim.AdamW(parameters, lr=optim.learning_rate, betas=(optim.beta1, optim.beta2), eps=optim.eps,
                             weight_decay=optim.weight_decay, fused=fused)


def clip(parameters: Sequence[nn.Parameter], max_norm: float) -> float:
    """Returns the norm of all gradients together and shortens them to at most `max_norm`, unless that is 0."""
    return float(nn.utils.clip_grad_norm_(parameters, max_norm or math.inf))


def autocast_forward(module: nn.Module, device: torch.device, precision: Precision) -> None:
    """Puts the module's own forward under autocast, so that it holds beside the engine, too, and inside checkpointing.

    Around the engine's call it would not do: DeepSpeed switches an outer autocast off.
    """
    if precision is Precision.BF16:
        module.forward = torch.autocast(device.type, dtype=torch.bfloat16)(module.forward)


def as_exported(tensor: Tensor) -> Tensor:
    """A CPU copy; floating point becomes fp32, counters stay."""
    return tensor.detach().to("cpu", torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True)


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def write_state(folder: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes this rank's file of a folder; the folder appears by a rename of the whole checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"rank_{rank():02d}.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, dict(metadata) or None)
    sync_file(path)


def read_state(folder: Path, expected: set[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Returns this rank's tensors on the CPU and their metadata; UserError where the file is no such state."""
    path = folder / f"rank_{rank():02d}.safetensors"
    try:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            tensors = {name: file.get_tensor(name) for name in names}
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read", str(error), "Remove this checkpoint; the one before is used then") from error
    if absent := expected - names:
        raise UserError(f"{path} does not fit this training", f"it lacks {len(absent)} tensors, {min(absent)} first",
                        "Resume with the engine and ZeRO stage that wrote it, or start from its weights with init=")
    return tensors, metadata
