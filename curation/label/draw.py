"""Sketches of encoded clips by one extractor or several, kept grey or made black and white, with strokes that may waver.

Drawn from the encoded film, so a sketch lies exactly over what is trained on. ToonCrafter (arXiv 2405.17933, section 3.4) draws
with Anime2Sketch. Wavering strokes are a slow field of shifts, one for a whole clip: drawings that are held stay the same.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from curation.encode import CLIP_FILE, CLIP_KIND
from curation.label.sketch import line_art
from curation.models.anime2sketch import Anime2Sketch
from curation.models.batches import NotFinite
from curation.models.clip_stage import model_resources
from curation.models.config import ModelsConfig, SketchConfig
from curation.models.linedistiller import LineDistiller
from pipeline.hashing import content_key
from pipeline.store import Store

KIND, FILE = "sketch", "sketch.npz"  # arrays uint8 [f, h, w]: "sketch" by the first extractor, "sketch_<name>" by the others
WAVE_PX = 24                         # length over which strokes waver; chosen here
MEMORY_GB = 2.0


@dataclass(frozen=True, slots=True)
class SketchJob:
    """An encoded clip that is to be drawn."""

    key: str                             # of the clip
    clip_key: str                        # artifact of its film


@dataclass(frozen=True, slots=True)
class DrawnSketch:
    key: str
    artifact_key: str
    extractors: tuple[str, ...]
    error: str = ""                      # why there is none; the clip stays


class DrawSketches:
    """Stage: SketchJob -> DrawnSketch, its arrays in the store."""

    name = "sketch"
    version = 1
    takes = SketchJob
    batch_size = 1

    def __init__(self, store_root: str, models: ModelsConfig, weights: Mapping[str, Path], identity: str) -> None:
        self.store_root, self.models, self.weights, self.identity = store_root, models, dict(weights), identity
        self.resources = model_resources(models, MEMORY_GB)
        self._extractors: dict[str, Anime2Sketch | LineDistiller] = {}

    def setup(self) -> None:
        cv2.setNumThreads(1)

    def __call__(self, rows: list[SketchJob]) -> list[list[DrawnSketch]]:
        return [[self._drawn(row)] for row in rows]

    def failed(self, row: SketchJob, error: str) -> DrawnSketch:
        return DrawnSketch(row.key, "", tuple(self.models.sketch.extractors), error)

    def _drawn(self, job: SketchJob) -> DrawnSketch:
        store, sketch = Store(Path(self.store_root)), self.models.sketch
        key = content_key(version=self.version, clip=job.clip_key, models=self.identity, side_px=sketch.side_px,
                          binarise=sketch.binarise, jitter_px=sketch.jitter_px, precision=self.models.precision)
        if not store.has(KIND, key):
            frames = read_film(store.path(CLIP_KIND, job.clip_key) / CLIP_FILE)
            arrays = {"sketch" if place == 0 else f"sketch_{name}": finish(self._draw(name, frames), sketch, job.key)
                      for place, name in enumerate(sketch.extractors)}
            with store.publish(KIND, key) as folder:
                write_npz(folder / FILE, arrays)
        return DrawnSketch(job.key, key, tuple(sketch.extractors))

    def _draw(self, name: str, frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        if name == "opencv":
            return np.stack([line_art(np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8)) for frame in frames])
        if name not in self._extractors:
            self._extractors[name] = self._build(name)
        lines: list[NDArray[np.uint8]] = []
        for line in self._extractors[name].draw(frames):
            if isinstance(line, NotFinite):
                raise line
            lines.append(line)
        return np.stack(lines)

    def _build(self, name: str) -> Anime2Sketch | LineDistiller:
        sketch = self.models.sketch
        if name == "linedistiller":
            return LineDistiller(self.weights[name], batch=sketch.batch)
        return Anime2Sketch(self.weights[name], batch=sketch.batch, side_px=sketch.side_px, device=self.models.device,
                            precision=self.models.precision)


def read_film(path: Path) -> list[NDArray[np.uint8]]:
    """The frames of an encoded clip: RGB uint8 [h, w, 3]."""
    with av.open(str(path)) as film:
        return [np.asarray(picture.to_ndarray(format="rgb24"), np.uint8) for picture in film.decode(video=0)]


def finish(lines: NDArray[np.uint8], sketch: SketchConfig, seed: str) -> NDArray[np.uint8]:
    """Line drawings [f, h, w] with wavering strokes, then black and white, as far as `sketch` asks for either."""
    if sketch.jitter_px:
        lines = waver(lines, sketch.jitter_px, seed)
    if sketch.binarise:
        lines = np.where(lines < 255.0 * sketch.binarise, 0, 255).astype(np.uint8)
    return lines


def waver(lines: NDArray[np.uint8], jitter_px: float, seed: str) -> NDArray[np.uint8]:
    """Every drawing [h, w] shifted by the same slow random field of at most `jitter_px`; `seed` names the field."""
    _, height, width = lines.shape
    rng = np.random.default_rng(int.from_bytes(seed.encode()[:16], "big"))
    coarse = rng.uniform(-jitter_px, jitter_px, (2, height // WAVE_PX + 2, width // WAVE_PX + 2)).astype(np.float32)
    across, down = (cv2.resize(field, (width, height), interpolation=cv2.INTER_LINEAR) for field in coarse)
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return np.stack([np.asarray(cv2.remap(line, x + across, y + down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT,
                                          borderValue=(255.0,)), np.uint8) for line in lines])


def write_npz(path: Path, arrays: Mapping[str, NDArray[np.uint8]]) -> None:
    """A compressed npz whose fixed dates keep the bytes the same."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy")
            member.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
