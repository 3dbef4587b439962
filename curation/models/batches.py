"""How models are run: warm batches of one shape, half the batch when the memory is full, and no number that is not one.

A batch is always full: what is missing is made up with its last item and thrown away. So a picture's score does not depend on
which others came with it; another batch size may still move the last digits, which is why scores are rounded where they are
stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from curation.models.config import DeviceName, Precision
from pipeline.errors import UserError

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")
Result = TypeVar("Result")
SCORE_DIGITS = 4             # after the point, of stored scores: the last digits differ between batch sizes and machines


class NotFinite(ValueError):
    """A model returned NaN or infinity: what it was asked about is to be set aside."""


class Batches:
    """Runs a model over any number of items; remembers the batch that the memory could hold."""

    def __init__(self, size: int) -> None:
        self.size = size

    def run(self, forward: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item]) -> list[Result]:
        """`forward` takes a full batch and gives one result per item; results in order.

        Raises what `forward` raises; running out of memory only when a batch of one does not fit.
        """
        results: list[Result] = []
        while len(results) < len(items):
            part = items[len(results) : len(results) + self.size]
            full = [*part, *[part[-1]] * (self.size - len(part))]
            try:
                results += list(forward(full))[: len(part)]
            except Exception as error:
                if not is_out_of_memory(error) or self.size == 1:
                    raise
                self.size //= 2
                _give_back_memory()
        return results


def is_out_of_memory(error: BaseException) -> bool:
    """CUDA's own error, and what cuDNN, cuBLAS and the CPU's allocator say instead."""
    words = str(error).lower()
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and (
        "out of memory" in words or "can't allocate memory" in words or "cublas_status_alloc_failed" in words))


def finite(values: NDArray[np.floating], what: str) -> NDArray[np.floating]:
    """`values` themselves; NotFinite where one of them is NaN or infinite."""
    if not np.isfinite(values).all():
        raise NotFinite(f"{what} returned a value that is no number")
    return values


def choose_device(name: DeviceName) -> torch.device:
    """The device that is meant; UserError where a GPU is asked for and none is here.

    On a CPU a model computes on one core: with more, the last digits depend on how many there are. Several workers use several.
    """
    import torch

    if name is DeviceName.CUDA and not torch.cuda.is_available():
        raise UserError("models.device=cuda cannot be used", "this machine has no GPU that torch sees",
                        "Use models.device=auto, which takes the CPU here, slowly")
    if name is DeviceName.CPU or not torch.cuda.is_available():
        torch.set_num_threads(1)
        return torch.device("cpu")
    return torch.device("cuda")


def choose_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The type in which a model computes; auto is half precision on a GPU alone, where it is faster."""
    import torch

    if precision is Precision.AUTO:
        return torch.float16 if device.type == "cuda" else torch.float32
    names = {Precision.FLOAT16: torch.float16, Precision.BFLOAT16: torch.bfloat16}
    return names.get(precision, torch.float32)


def _give_back_memory() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
