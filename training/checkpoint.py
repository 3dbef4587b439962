"""Checkpoints: everything a run needs to go on as if it had never stopped, in a folder that is there whole or not at all.

    checkpoints/step_00012400/  manifest.json  weights.safetensors  weights_ema.safetensors
                                engines/<name>/rank_00.safetensors  ema/<name>/rank_00.safetensors

All ranks write into a temporary sibling; when every one is done, rank 0 adds the manifest and renames the folder. Frozen
networks are not in the state: their digest is. Order, noise and dropout are functions of (seed, sample number), so
there is no random state either. All ranks must see the same file system.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from pipeline.errors import UserError
from pipeline.records import Json, read_json, sync_file, to_plain, write_json
from training.config import NOT_IDENTITY, TrainJob
from training.ema import Ema
from training.engine import Engine
from training.ranks import Ranks
from training.tasks.task import Task

SCHEMA = 1
MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
WEIGHTS_EMA = "weights_ema.safetensors"
TEMPORARY = ".tmp-"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    path: Path
    step: int
    world: int
    score: float | None            # held-out loss at this step; None: not measured there
    identity: dict[str, Json]
    base: str


class TrainState:
    """What changes while training: engines and averages; collective in everything."""

    def __init__(self, task: Task, engines: Mapping[str, Engine], averages: Mapping[str, Ema], ranks: Ranks) -> None:
        self.task, self.engines, self.averages, self.ranks = task, engines, averages, ranks

    def save(self, folder: Path) -> None:
        problem: Exception | None = None
        try:
            for name, engine in self.engines.items():
                engine.save(folder / "engines" / name)
            for name, average in self.averages.items():
                average.save(folder / "ema" / name)
        except OSError as error:  # a full disk on one rank must not leave the others waiting for it
            problem = error
        self.ranks.agree(problem)
        self._export(folder / WEIGHTS, {name: engine.weights() for name, engine in self.engines.items()})
        if self.averages:
            averaged = {name: self.averages[name].weights() if name in self.averages else engine.weights()
                        for name, engine in self.engines.items()}
            self._export(folder / WEIGHTS_EMA, averaged)

    def load(self, folder: Path) -> None:
        for name, engine in self.engines.items():
            engine.load(folder / "engines" / name)
        for name, average in self.averages.items():
            average.load(folder / "ema" / name)

    def _export(self, path: Path, weights: dict[str, dict[str, Tensor]]) -> None:
        def write() -> None:
            save_file({name: tensor.contiguous() for name, tensor in self.task.export(weights).items()}, path)
            sync_file(path)

        self.ranks.on_first(write)


class Checkpoints:
    """The checkpoints of one run; every method is collective."""

    def __init__(self, folder: Path, ranks: Ranks, *, keep_last: int, keep_every: int, identity: dict[str, Json],
                 base: str) -> None:
        """`base`: digest of the frozen networks. What a killed run was writing or deleting is cleared away."""
        self._folder, self._ranks, self._keep_last, self._keep_every = folder, ranks, keep_last, keep_every
        self._identity, self._base = identity, base
        ranks.on_first(self._clear_rubbish)

    def latest(self) -> Checkpoint | None:
        """The newest readable checkpoint, or None where there is none; damaged ones are named and skipped.

        UserError where none is readable, and where it was written by another number of ranks, other settings or on other
        frozen weights.
        """
        found = self._ranks.on_first(self._newest_readable)
        if found is not None:
            self._refuse_mismatch(found)
        return found

    def best(self) -> Checkpoint | None:
        """The complete checkpoint of the lowest held-out loss."""
        return self._ranks.on_first(lambda: _best(self._complete()))

    def save(self, state: TrainState, step: int, samples_seen: int, score: float | None) -> Checkpoint:
        """Writes what is needed to go on at `step`, then deletes what need not be kept."""
        final = self._folder / f"step_{step:08d}"
        temporary = self._ranks.on_first(lambda: self._folder / f"{TEMPORARY}{final.name}-{secrets.token_hex(4)}")
        try:
            self._ranks.on_first(lambda: temporary.mkdir(parents=True))
            state.save(temporary)
            self._ranks.on_first(lambda: self._publish(temporary, final, step, samples_seen, score))
        except OSError as error:
            if self._ranks.is_first:
                shutil.rmtree(temporary, ignore_errors=True)
            raise UserError(f"checkpoint {final} could not be written", str(error),
                            "Make room and run the same command again; it goes on from the checkpoint before") from error
        return Checkpoint(final, step, self._ranks.world, score, self._identity, self._base)

    def set_score(self, checkpoint: Checkpoint, score: float | None) -> None:
        """Notes a held-out loss that a stopped run had no time to measure."""
        def write() -> None:
            record = read_json(checkpoint.path / MANIFEST, SCHEMA)
            write_json(checkpoint.path / MANIFEST, record | {"score": score})

        self._ranks.on_first(write)

    def _clear_rubbish(self) -> None:
        for path in self._folder.glob(f"{TEMPORARY}*"):
            shutil.rmtree(path)

    def _publish(self, temporary: Path, final: Path, step: int, samples_seen: int, score: float | None) -> None:
        files = {str(path.relative_to(temporary)): path.stat().st_size for path in temporary.rglob("*") if path.is_file()}
        missing = [folder for folder in temporary.glob("e*/*") if len(list(folder.iterdir())) != self._ranks.world]
        if missing:
            raise OSError(f"{missing[0].name} has not the files of {self._ranks.world} ranks; do all see the same file system?")
        write_json(temporary / MANIFEST, {
            "schema": SCHEMA, "step": step, "samples_seen": samples_seen, "world": self._ranks.world, "score": score,
            "identity": self._identity, "base": self._base, "files": files})
        if final.exists():  # damaged, or this one would not be written
            _delete(final)
        temporary.rename(final)
        _sync_folder(self._folder)
        self._prune()

    def _prune(self) -> None:
        complete = self._complete()
        best = _best(complete)
        for item in complete[self._keep_last:]:
            if not (self._keep_every and item.step % self._keep_every == 0) and item != best:
                _delete(item.path)

    def _paths(self) -> list[Path]:
        """Folders of checkpoints, newest first."""
        return sorted((path for path in self._folder.glob("step_*") if re.fullmatch(r"step_\d{8,}", path.name)),
                      key=lambda path: int(path.name.removeprefix("step_")), reverse=True)

    def _complete(self) -> list[Checkpoint]:
        """Newest first; damaged ones are left out."""
        found = []
        for path in self._paths():
            try:
                found.append(read_checkpoint(path))
            except UserError:
                continue
        return found

    def _newest_readable(self) -> Checkpoint | None:
        paths = self._paths()
        for path in paths:
            try:
                return read_checkpoint(path)
            except UserError as error:
                logger.warning("checkpoint %s is skipped: %s", path.name, error)
        if paths:
            raise UserError(f"none of the {len(paths)} checkpoints in {self._folder} can be read", "each is damaged",
                            "Remove that folder to start anew, or bring back a copy of a checkpoint")
        return None

    def _refuse_mismatch(self, found: Checkpoint) -> None:
        restart = f"start from its weights: init={found.path / WEIGHTS} and another out= (step count and optimiser start anew)"
        if found.world != self._ranks.world:
            raise UserError(
                f"checkpoint {found.path.name} was written by {found.world} ranks; this job has {self._ranks.world}",
                "optimiser shards cannot be split again", f"Resume with {found.world} ranks, or {restart}")
        changed = [f"{name}: {found.identity.get(name)} -> {self._identity.get(name)}"
                   for name in sorted({*found.identity, *self._identity})
                   if found.identity.get(name) != self._identity.get(name)]
        if changed:
            raise UserError(f"checkpoint {found.path.name} belongs to other settings", "; ".join(changed),
                            f"Give the settings it was written with, or {restart}")
        if found.base != self._base:
            raise UserError(f"checkpoint {found.path.name} was trained on other frozen weights",
                            f"their digest was {found.base[:12]} and is {self._base[:12]}",
                            f"Give the weights of that run (model.weights), or {restart}")


def read_checkpoint(path: Path) -> Checkpoint:
    """Returns what a checkpoint's manifest says; UserError where a file is absent or of another length."""
    record = read_json(path / MANIFEST, SCHEMA)
    files, step, world, score = record["files"], record["step"], record["world"], record["score"]
    identity, base = record["identity"], record["base"]
    assert isinstance(files, dict) and isinstance(identity, dict) and isinstance(base, str)
    assert isinstance(step, int) and isinstance(world, int) and (score is None or isinstance(score, float | int))
    for name, num_bytes in files.items():
        file = path / name
        if not file.is_file():
            raise UserError(f"{name} of checkpoint {path.name} is absent")
        if file.stat().st_size != num_bytes:
            raise UserError(f"{name} of checkpoint {path.name} is damaged",
                            f"it has {file.stat().st_size} bytes of {num_bytes}")
    return Checkpoint(path, step, world, score, identity, base)


def identity(job: TrainJob, inputs: Mapping[str, str]) -> dict[str, Json]:
    """Every setting that changes the result, by its full name, and the digests of what is read."""
    plain = to_plain(job)
    assert isinstance(plain, dict)
    settings = {name: value for name, value in _flat(plain, "") if not any(
        name == left or name.startswith(left + ".") for left in NOT_IDENTITY)}
    return settings | {f"inputs.{name}": digest for name, digest in inputs.items()}


def frozen_digest(task: Task, engines: Mapping[str, Engine], ranks: Ranks) -> str:
    """A sha256 of everything that must not change: networks beside the engines and frozen parameters within; collective."""
    weights = {name: engine.weights() for name, engine in engines.items()}

    def digest() -> str:
        within = ((f"{name}.{key}", weights[name][key]) for name, trained in task.trained.items()
                  for key, _ in trained.plan.frozen())
        beside = ((f"{name}.{key}", tensor) for name, module in task.frozen.items()
                  for key, tensor in module.state_dict().items())
        return tensors_digest([*within, *beside])

    return ranks.on_first(digest)


def tensors_digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """A sha256 of names, types, shapes and bytes, in the order of the names."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors, key=lambda pair: pair[0]):
        found.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _flat(record: dict[str, Json], prefix: str) -> Iterable[tuple[str, Json]]:
    for name, value in record.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _best(complete: Iterable[Checkpoint]) -> Checkpoint | None:
    scored = [(item.score, item.step, item) for item in complete if item.score is not None]
    return min(scored, key=lambda pair: pair[:2])[2] if scored else None


def _delete(path: Path) -> None:
    """Takes a checkpoint's name away before its files: killed in between, it is rubbish and not a damaged checkpoint."""
    doomed = path.with_name(f"{TEMPORARY}deleted-{path.name}-{secrets.token_hex(4)}")
    path.rename(doomed)
    shutil.rmtree(doomed)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
