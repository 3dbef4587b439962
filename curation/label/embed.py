"""The one pass of CLIP over a clip's frames; aesthetics, alignment, near-duplicates and search read its vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from curation.clip_frames import load_frames
from curation.ledger import Clip
from curation.models.batches import NotFinite
from curation.models.clip import ImageTower
from curation.models.clip_stage import ClipStage, model_resources
from curation.models.config import ModelsConfig
from pipeline.store import Store

KIND, FILE = "embed", "clip.npy"     # float32 [frames, d]: unit vectors of the first, middle, last frame (and more if asked)
MEMORY_GB = 2.5                      # measured: ViT-L/14 in float32 with a batch of 48


class Embed(ClipStage[NDArray[np.float32]]):
    """Stage: Clip -> Clip with `embed_key`."""

    name, version, kind, gate = "embed", 1, KIND, "aesthetic"

    def __init__(self, store_root: str, models: ModelsConfig, weights: Path, identity: str) -> None:
        super().__init__(store_root, identity, count=models.clip.frames, precision=models.precision)
        self.models, self.weights = models, weights
        self.batch_size = max(1, models.clip.batch // models.clip.frames)
        self.resources = model_resources(models, MEMORY_GB)
        self._tower: ImageTower | None = None

    def measure(self, clips: Sequence[Clip]) -> list[NDArray[np.float32] | NotFinite]:
        if self._tower is None:
            self._tower = ImageTower(self.models.clip.name, self.weights, batch=self.models.clip.batch,
                                     device=self.models.device, precision=self.models.precision)
        count = self.models.clip.frames
        store = Store(Path(self.store_root))
        vectors = self._tower.embed([picture for clip in clips for picture in load_frames(store, clip, count)])
        each = vectors.reshape(len(clips), count, -1)
        return [one if np.isfinite(one).all() else NotFinite("CLIP returned a value that is no number") for one in each]

    def write(self, found: NDArray[np.float32], folder: Path) -> None:
        np.save(folder / FILE, found.astype(np.float32), allow_pickle=False)

    def read(self, clip: Clip, folder: Path, key: str) -> Clip:
        return replace(clip, embed_key=key)


def load_vectors(store: Store, clip: Clip) -> NDArray[np.float32]:
    """CLIP's unit vectors [frames, d] of a clip."""
    return np.asarray(np.load(store.path(KIND, clip.embed_key) / FILE, allow_pickle=False), np.float32)
