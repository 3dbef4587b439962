"""Weights of the networks that metrics look through: the public files, or stand-ins that say so.

A stand-in is a small network with random weights drawn from a seed. It fills every column of a table on a machine without the
public files, reacts to gross damage, and its protocol says that its numbers compare with nothing but themselves.
"""

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from pipeline import weights
from pipeline.errors import UserError

STAND_IN = "embedded stand-in (random), not comparable"
FETCH = ("make weights PROFILE=evaluation fetches or names everything that metrics need; embedded stand-ins need nothing, "
         "and their numbers compare with nothing")
Network = TypeVar("Network", bound=nn.Module)
GAIN = 1.4              # about sqrt(2): rectified layers keep the scale of their input


def find_weights(reference: str, purpose: str) -> Path:
    """Returns the file that `reference` names; UserError that says how to fetch it where it is absent."""
    try:
        path = weights.resolve(reference)
    except UserError as error:
        raise UserError(f"{purpose} cannot be measured: {error.what}", error.why, f"{error.fix}. {FETCH}") from error
    if not path.is_file():
        raise UserError(f"{purpose} cannot be measured", f"its weights {reference} are no file", FETCH)
    return path


def read_weights(reference: str, purpose: str) -> tuple[dict[str, Tensor], str]:
    """Returns the tensors of a file and its id for protocols: name and sha256. UserError where it is absent or unreadable."""
    path = find_weights(reference, purpose)
    return weights.read_tensors(path), f"{path.name} sha256:{weights.digest(path)}"


def fill(module: nn.Module, tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Loads every tensor of a module, strictly; UserError where the file holds another network."""
    weights.load_into(module, dict(tensors), source=source)


def randomise(module: nn.Module, seed: int) -> None:
    """Draws every parameter from `seed` and its name, so that the result depends on nothing else.

    Convolutions and matrices are normal with GAIN / sqrt(fan in), norms are the identity, biases are zero.
    """
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.dim() < 2:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)
                continue
            draws = torch.Generator().manual_seed((seed + zlib.crc32(name.encode())) % 2**32)
            deviation = GAIN / (parameter[0].numel() ** 0.5)
            parameter.copy_(torch.randn(parameter.shape, generator=draws) * deviation)


def frozen(module: Network, device: torch.device | str) -> Network:
    """Puts a network on a device for measuring: no dropout, no gradients for its own parameters."""
    return module.to(device).eval().requires_grad_(False)


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """Convolutions in full float32 and in a fixed order: cuDNN would use TF32 and whichever algorithm is fast today."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield
