"""Promise: a score does not depend on its neighbours, a full memory halves the batch and nothing else, and NaN is no number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from curation.models.batches import Batches, NotFinite, choose_device, choose_dtype, finite, is_out_of_memory
from curation.models.config import DeviceName, Precision
from pipeline.errors import UserError


class Memory:
    """A model that doubles numbers and can hold so many at once."""

    def __init__(self, holds: int, error: type[Exception] = torch.OutOfMemoryError) -> None:
        self.holds, self.error, self.sizes = holds, error, list[int]()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.sizes.append(len(items))
        if len(items) > self.holds:
            raise self.error("CUDA out of memory. Tried to allocate 20.00 MiB")
        return [2 * item for item in items]


def test_full_memory_halves_the_batch_and_the_run_goes_on_with_it() -> None:
    """16, 8 and 4 are tried; 3 fit, so 2: every item comes once and in order, and the next call begins with 2."""
    model, batches = Memory(3), Batches(16)
    assert batches.run(model, range(7)) == [0, 2, 4, 6, 8, 10, 12]
    assert model.sizes == [16, 8, 4, 2, 2, 2, 2]
    model.sizes.clear()
    assert batches.run(model, [5]) == [10] and model.sizes == [2]


def test_one_item_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        Batches(4).run(Memory(0), [1])


def test_other_errors_do_not_make_the_batch_smaller() -> None:
    batches = Batches(4)

    def broken(items: Sequence[int]) -> list[int]:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        batches.run(broken, [1, 2])
    assert batches.size == 4


def test_every_batch_is_full_so_that_shapes_never_change() -> None:
    model = Memory(100)
    assert Batches(4).run(model, range(6)) == [0, 2, 4, 6, 8, 10]
    assert model.sizes == [4, 4]
    assert Batches(4).run(model, []) == []


@pytest.mark.parametrize(("error", "expected"), [
    (torch.OutOfMemoryError("CUDA out of memory."), True),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), True),
    (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), True), (MemoryError(), True),
    (ValueError("out of memory"), False)])
def test_what_counts_as_a_full_memory(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused_by_name(bad: float) -> None:
    assert finite(np.array([1.0, 2.0]), "a model").tolist() == [1.0, 2.0]
    with pytest.raises(NotFinite, match="a model returned a value that is no number"):
        finite(np.array([1.0, bad]), "a model")


def test_gpu_that_is_asked_for_and_absent_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"models\.device=cuda cannot be used"):
        choose_device(DeviceName.CUDA)
    assert choose_device(DeviceName.AUTO).type == "cpu"


def test_half_precision_is_for_gpus_unless_it_is_asked_for() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert choose_dtype(Precision.AUTO, cpu) is torch.float32 and choose_dtype(Precision.AUTO, cuda) is torch.float16
    assert choose_dtype(Precision.BFLOAT16, cpu) is torch.bfloat16 and choose_dtype(Precision.FLOAT32, cuda) is torch.float32
