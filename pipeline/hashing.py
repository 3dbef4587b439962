"""Keys: digests of everything that changes a result, and of nothing else."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pipeline.records import canonical_json

CHUNK_BYTES = 1 << 20


def content_key(**parts: object) -> str:
    """Returns 64 hexadecimal digits that name this content: the sha256 of its canonical JSON.

    The order of the parts does not matter; their names do. Paths and other things of a machine raise TypeError.
    """
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Returns the sha256 of a file's bytes, which are read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            digest.update(piece)
    return digest.hexdigest()
