"""Adds the coarse flows of segment-guided matching to shards of triplets: python -m training.animeinterp.precompute FROM TO.

Flows are no part of what is learnt and take seconds a pair, so they are computed once, at the size that training has
(arXiv 2104.02495, section 5: 960x540), and written beside the frames as flow.npz. They are kept in a store, too: a command that
was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.errors import EXIT_OK, EXIT_USER, UserError
from pipeline.shards import MANIFEST_FILE, SPLITS, Manifest, Sample, ShardReader, read_manifest, write_manifest, write_shards
from pipeline.store import Store
from training.animeinterp.features import load_vgg19, stand_in_vgg19
from training.animeinterp.sgm import CachedMatching
from training.config import parse_size
from training.data.triplets import FLOWS, FRAMES, read_frames

MAX_SHARD_BYTES, MAX_SHARD_SAMPLES = 1 << 30, 1000      # chosen here
STORE = "artifacts"


def add_flows(source: Path, target: Path, matching: CachedMatching, size: tuple[int, int]) -> int:
    """Writes the triplets of `source` to `target` with flows at `size` (width, height); returns how many there are.

    UserError where a sample has no three frames, or one of them is damaged.
    """
    if source.resolve() == target.resolve():
        raise UserError(f"{target} is what is read", "shards are not changed in place", "Give another folder to write to")
    shards, num_samples = [], 0
    for split in SPLITS:
        reader = ShardReader(source, split)
        num_samples += len(reader)
        shards += write_shards((with_flows(sample, matching, size) for sample in _samples(reader)), target, split,
                               max_bytes=MAX_SHARD_BYTES, max_samples=MAX_SHARD_SAMPLES)
    record = matching.identity | {"size": f"{size[0]}x{size[1]}"}
    old = read_manifest(source) if (source / MANIFEST_FILE).is_file() else Manifest("", [])
    key = "-".join(part for part in (old.key, matching.settings.behaviour.value) if part)
    write_manifest(target, replace(old, key=key, shards=shards, models={**old.models, "sgm": record}))
    return num_samples


def with_flows(sample: Sample, matching: CachedMatching, size: tuple[int, int]) -> Sample:
    """The sample with flow.npz: flow01 and flow10 [2, h, w] float32 between its outer frames at `size`."""
    if not set(FRAMES) <= set(sample.files):
        raise UserError(f"sample {sample.key} is no triplet", f"it lacks one of {', '.join(FRAMES)}", "Give shards of triplets")
    try:
        first, _, last = read_frames(sample.files, size)
    except ValueError as error:
        raise UserError(f"sample {sample.key} is damaged", str(error), "Make the triplets again") from error
    found = matching.flows(np.ascontiguousarray(first[..., ::-1]), np.ascontiguousarray(last[..., ::-1]))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, flow01=found.flow01, flow10=found.flow10)
    return Sample(sample.key, {**sample.files, FLOWS: buffer.getvalue()})


def _samples(reader: ShardReader) -> Iterator[Sample]:
    for index, sample in enumerate(reader.samples(), start=1):
        yield sample
        if index % 100 == 0 or index == len(reader):
            sys.stdout.write(f"event=flows samples={index} of={len(reader)}\n")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m training.animeinterp.precompute", description=__doc__)
    parser.add_argument("source", type=Path, help="folder of triplet shards")
    parser.add_argument("target", type=Path, help="folder to write")
    parser.add_argument("--size", default="960x540", help="WIDTHxHEIGHT, as data.triplets.frame_size")
    parser.add_argument("--vgg19", help="torchvision's VGG-19 file; without it features are seeded random ones")
    given = parser.parse_args(arguments)
    try:
        size = parse_size(given.size, "--size")
        network = load_vgg19(given.vgg19) if given.vgg19 else stand_in_vgg19()
        number = add_flows(given.source, given.target, CachedMatching(Store(given.target / STORE), network), size)
    except (UserError, ValueError) as error:
        sys.stderr.write(f"toonforge: error: {error}\n")
        return EXIT_USER
    sys.stdout.write(f"event=done samples={number}\n")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
