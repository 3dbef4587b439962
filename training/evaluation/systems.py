"""The rows of a table: whoever makes the frames between the given ones, by name, and what identifies its results.

`identity` holds everything that a system's frames depend on beside the clip, digests of weights among it, and no path. A system
finds its files when it is built, so what is absent is told before anything is measured; networks are loaded with the first clip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import UserError
from pipeline.hashing import file_digest
from pipeline.records import Json
from pipeline.weights import digest, is_embedded
from training.evaluation.baselines import baseline, raft_baseline
from training.evaluation.config import EvaluateJob, SystemName, named
from training.evaluation.drawn import draw_system, reconstruct_system
from training.evaluation.samples import Entry, EvalSample, to_unit
from training.metrics.feature_weights import find_weights
from training.metrics.raft import load_raft
from training.metrics.suite import PUBLISHED_WEIGHTS, MeasuringOptions
from training.sampling.inputs import list_pictures, read_picture

FRAMES_FOLDER = "frames"        # as `sample` writes them below a film's folder
FLOWS_FOLDER = "flows"           # of animeinterp, computed once
RAFT = "raft_large"


class System(Protocol):
    """Makes the frames of a clip."""

    name: str
    identity: dict[str, Json]

    def make(self, sample: EvalSample) -> Tensor:
        """Returns [t, 3, h, w] in [0, 1], the given frames untouched or remade, as the system does."""


class FolderSystem:
    """Frames that another program has made: FOLDER/<clip>/*.png, all frames of the clip or only those to be made."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.identity: dict[str, Json] = {"folder": "frames of another program"}
        if not folder.is_dir():
            raise UserError(f"folders has {name}:{folder}, which is no folder",
                            fix="Give the folder that holds a folder of pictures for each clip")

    def files(self, entry: Entry | EvalSample, num_frames: int) -> list[Path]:
        """The pictures of a clip in the order of its frames; UserError where they are absent or not as many."""
        place = self.folder / entry.key
        if (place / FRAMES_FOLDER).is_dir():
            place = place / FRAMES_FOLDER
        if not place.is_dir():
            raise UserError(f"{self.name} has no frames of clip {entry.key}", f"{place} does not exist",
                            "Write all clips' frames there; the keys of the clips are their names in the shards")
        found = list_pictures(place, f"frames of {self.name}")
        wanted = (num_frames, num_frames - len(entry.given))
        if len(found) not in wanted:
            raise UserError(f"{self.name} has {len(found)} frames of clip {entry.key}",
                            f"wanted are {wanted[0]}, or {wanted[1]} without the given ones", "Make them again")
        return found

    def digests(self, entry: Entry) -> list[Json]:
        """What identifies the frames of one clip, so that other clips need not be measured again when it changes."""
        return [file_digest(path) for path in self.files(entry, entry.num_frames)]

    def make(self, sample: EvalSample) -> Tensor:
        files = self.files(sample, len(sample.truth))
        pictures = [read_picture(path, f"frame of {self.name}") for path in files]
        height, width = sample.truth.shape[2:]
        for path, picture in zip(files, pictures, strict=True):
            if picture.shape[:2] != (height, width):
                raise UserError(f"{path} has {picture.shape[1]}x{picture.shape[0]} pixels", f"the clip has {width}x{height}",
                                "Make frames of that size, or set size to theirs")
        made = to_unit(np.stack(pictures))
        if len(made) == len(sample.truth):
            return made
        whole = sample.truth.clone()
        whole[[index for index in range(len(whole)) if index not in sample.given]] = made
        return whole


def build_systems(job: EvaluateJob, options: MeasuringOptions, device: torch.device) -> list[System]:
    """The systems of a job in the order of its rows; UserError where weights or folders are absent."""
    systems = [_known(SystemName(name), job, options, device) for name in job.systems]
    for name, folder in named(job, "folders"):
        systems.append(FolderSystem(name, Path(folder)))
    for name, file in named(job, "checkpoints"):
        systems.append(draw_system(name, job, device, trained=file))
    for name, file in named(job, "decoders"):
        systems.append(reconstruct_system(name, job, device, first_stage=file))
    if not systems:
        raise UserError("there is no system to measure",
                        fix="Give systems=[repeat], folders=[NAME:PATH] or checkpoints=[NAME:FILE]")
    return systems


def check_systems(systems: Sequence[System], entries: Sequence[Entry]) -> None:
    """UserError where a system lacks frames of a clip, before anything is measured."""
    for system in systems:
        if isinstance(system, FolderSystem):
            for entry in entries:
                system.files(entry, entry.num_frames)


def identity_of(system: System, entry: Entry) -> Mapping[str, Json]:
    """Everything that the system's frames of this clip depend on, beside the clip."""
    if isinstance(system, FolderSystem):
        return {**system.identity, "files": system.digests(entry)}
    return system.identity


def _known(name: SystemName, job: EvaluateJob, options: MeasuringOptions, device: torch.device) -> System:
    if name is SystemName.TOONCRAFTER:
        return draw_system(name.value, job, device)
    if name is SystemName.RECONSTRUCT:
        return reconstruct_system(name.value, job, device)
    if name is SystemName.FLOW_RAFT:
        return _raft(options, device)
    if name is SystemName.ANIMEINTERP:
        return _animeinterp(job, device)
    return baseline(name.value)


def _raft(options: MeasuringOptions, device: torch.device) -> System:
    reference = options.reference(RAFT)
    if is_embedded(reference):          # only metrics have stand-ins; the file may be there all the same
        reference = PUBLISHED_WEIGHTS[RAFT]
    try:
        path = find_weights(reference, "flow_raft")
    except UserError as error:
        raise UserError("systems has flow_raft, whose weights are absent", error.why,
                        "Run: make weights PROFILE=evaluation, or leave flow_raft out; flow_dis needs none") from error
    return raft_baseline(lambda: load_raft(RAFT, reference, device)[0], f"{RAFT} sha256:{digest(path)}")


def _animeinterp(job: EvaluateJob, device: torch.device) -> System:
    try:
        from training.animeinterp.system import load_system
    except ImportError as error:
        raise UserError("systems has animeinterp, which this version cannot run", str(error),
                        "Leave it out, or give its frames: folders=[animeinterp:PATH]") from error
    given = job.animeinterp
    if given.weights is None:
        raise UserError("systems has animeinterp and animeinterp.weights has no value", "its weights are a file",
                        "Give animeinterp.weights=FILE, or leave animeinterp out of systems")
    system: System = load_system({
        "weights": given.weights, "behaviour": given.behaviour.value, "iterations": str(given.iterations),
        "flows": "computed" if given.flows else "none", "vgg19": given.vgg19 or "", "cache": str(Path(job.out) / FLOWS_FOLDER),
        "device": str(device)})
    return system
