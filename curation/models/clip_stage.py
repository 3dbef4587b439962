"""What all stages of models share: clips in, clips out, each measured once, and a clip that a model cannot judge set aside.

What a model found is an artifact under a key of the clip's frames, the model's name and digest and the stage's version, so a
second run asks no model. The model itself is built at the first clip that needs it, once per worker.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Generic, TypeVar

from curation.ledger import Clip, Verdict
from curation.models.batches import NotFinite
from curation.models.config import DeviceName, ModelsConfig
from curation.stage import Resources
from pipeline.hashing import content_key
from pipeline.store import Store

Found = TypeVar("Found")


class ClipStage(ABC, Generic[Found]):
    """Clip -> Clip with one more measurement; clips that were dropped pass by."""

    takes = Clip
    name: str
    version: int
    kind: str                    # of artifact
    gate: str                    # in whose name a clip is dropped that could not be measured
    batch_size = 1
    resources = Resources()

    def __init__(self, store_root: str, identity: str, **settings: object) -> None:
        """`identity`: the model's name and digest; `settings`: what else changes the result."""
        self.store_root, self.identity, self.settings = store_root, identity, settings

    def setup(self) -> None:
        """Nothing yet: a run of which everything is known already loads no model."""

    def __call__(self, rows: list[Clip]) -> list[list[Clip]]:
        store = Store(Path(self.store_root))
        keys = {clip.key: self.key(clip) for clip in rows if self.wants(clip)}
        todo = [clip for clip in rows if clip.key in keys and not store.has(self.kind, keys[clip.key])]
        failed: dict[str, NotFinite] = {}
        for clip, found in zip(todo, self.measure(todo) if todo else [], strict=True):
            if isinstance(found, NotFinite):
                failed[clip.key] = found
                continue
            with store.publish(self.kind, keys[clip.key]) as folder:
                self.write(found, folder)
        return [[self._result(clip, keys, failed, store)] for clip in rows]

    def _result(self, clip: Clip, keys: dict[str, str], failed: dict[str, NotFinite], store: Store) -> Clip:
        if clip.key in failed:
            return self.failed(clip, str(failed[clip.key]))
        if clip.key not in keys:
            return clip
        return self.read(clip, store.path(self.kind, keys[clip.key]), keys[clip.key])

    def failed(self, row: Clip, error: str) -> Clip:
        return replace(row, verdict=Verdict.drop(self.gate, f"could not be measured: {error}"))

    def wants(self, clip: Clip) -> bool:
        """Whether a clip is to be measured."""
        return not clip.is_dropped

    def key(self, clip: Clip) -> str:
        return content_key(stage=self.name, version=self.version, model=self.identity, survey=clip.survey_key, crop=clip.crop,
                           frames=(clip.start_frame, clip.end_frame), **self.settings)

    @abstractmethod
    def measure(self, clips: Sequence[Clip]) -> list[Found | NotFinite]:
        """What was found of each, in order. NotFinite for a clip about which the model returned no numbers."""

    @abstractmethod
    def write(self, found: Found, folder: Path) -> None:
        """Into an empty folder of the store."""

    @abstractmethod
    def read(self, clip: Clip, folder: Path, key: str) -> Clip:
        """The clip with what `write` left."""


def model_resources(models: ModelsConfig, memory_gb: float) -> Resources:
    """One core, and a share of a GPU unless the CPU is asked for; without GPU the executor ignores that."""
    return Resources(cpus=1.0, gpus=0.0 if models.device is DeviceName.CPU else models.gpu_share, memory_gb=memory_gb)
