"""Features of frozen networks kept on disk, so that a later epoch reads what an earlier one computed.

An entry's name is the digest of everything that changes its content: the weights, the settings and the row (a caption, or the
window of a sample). Entries appear by rename and begin with their own digest, so ranks share a folder without agreeing on
anything, and what a crash or a bad disk left behind is computed again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from pipeline.errors import UserError
from pipeline.hashing import content_key
from pipeline.records import Json, write_bytes

_DIGEST_BYTES = hashlib.sha256().digest_size


class FeatureCache:
    """Tensors of one frozen network under `folder`; `key_parts` are what they depend on, e.g. weights digest, size, dtype."""

    def __init__(self, folder: Path, key_parts: Mapping[str, Json]) -> None:
        self.folder = folder / content_key(**key_parts)[:16]
        self.num_computed = 0

    def get_or_compute(self, keys: Sequence[str], compute: Callable[[int], Tensor]) -> Tensor:
        """Features [b, ...] of b rows on the CPU, stacked; `compute(i)` gives those of row i, without the batch dimension.

        Each missing row is computed alone, and a key that occurs twice only once: networks round otherwise when rows share a
        batch, and a run that was interrupted must find the same bits as one that was not. UserError where the folder
        cannot be written.
        """
        found: dict[str, Tensor] = {}
        for index, key in enumerate(keys):
            if key not in found:
                stored = self._read(key)
                found[key] = self._write(key, compute(index)) if stored is None else stored
        return torch.stack([found[key] for key in keys])

    def path(self, key: str) -> Path:
        """Where the entry of a row is or would be."""
        name = hashlib.sha256(key.encode()).hexdigest()
        return self.folder / name[:2] / f"{name}.tensor"

    def _read(self, key: str) -> Tensor | None:
        try:
            data = self.path(key).read_bytes()
        except OSError:              # absent, or on a disk that cannot read it
            return None
        digest, content = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            return None
        return safetensors.torch.load(content)["features"]

    def _write(self, key: str, features: Tensor) -> Tensor:
        self.num_computed += 1
        kept = features.detach().cpu().contiguous()
        content = safetensors.torch.save({"features": kept})
        try:
            write_bytes(self.path(key), hashlib.sha256(content).digest() + content)
        except OSError as error:
            raise UserError(f"the feature cache {self.folder} cannot be written", str(error),
                            "Make room, give data.cache.folder another place, or set data.cache.latents=false and "
                            "data.cache.text=false") from error
        return kept
