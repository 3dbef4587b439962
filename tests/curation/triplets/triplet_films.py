"""A small finished curation made by hand: drawn clips with known holds, shots and titles, without the curation's own code."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from curation.config import ExecutorName, RayConfig, ShardsConfig
from curation.triplets.config import CandidatesConfig, NamesConfig, SsimLimits, TripletsJob, Unit, VotesConfig
from pipeline.shards import Manifest, Sample, write_manifest, write_shards

WIDTH, HEIGHT, FPS = 192, 108, 24


@dataclass(frozen=True)
class MadeClip:
    source: str
    title: str
    split: str
    shot: int
    start_frame: int
    holds: tuple[int, ...]
    seed: int = 0

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.source.encode()).hexdigest()

    @property
    def key(self) -> str:
        return f"{self.sha256[:20]}-{self.start_frame:08d}"


def draw_disc(x: float, y: float, *, radius: int = 14, seed: int = 0, shift: float = 0.0, width: int = WIDTH,
              height: int = HEIGHT) -> NDArray[np.uint8]:
    """RGB uint8: a striped disc about (x, y) on a painted background that lies `shift` pixels to the left."""
    noise = np.random.default_rng(seed).integers(60, 200, (height // 6, width // 3, 3)).astype(np.uint8)
    wide = cv2.resize(noise, (2 * width, height), interpolation=cv2.INTER_CUBIC)
    moved = cv2.warpAffine(wide, np.array([[1, 0, -shift], [0, 1, 0]], np.float64), (width, height))
    picture = np.asarray(moved, np.uint8)
    cv2.circle(picture, (round(x * 16), round(y * 16)), radius * 16, (230, 60, 40), -1, cv2.LINE_AA, 4)
    for row in (-0.5, 0.0, 0.5):
        left, right = (round((x + side * 0.6 * radius) * 16) for side in (-1, 1))
        level = round((y + row * radius) * 16)
        cv2.line(picture, (left, level), (right, level), (30, 30, 30), 2, cv2.LINE_AA, 4)
    cv2.circle(picture, (round(x * 16), round(y * 16)), radius * 16, (20, 20, 20), 2, cv2.LINE_AA, 4)
    return picture


def drawings_of(clip: MadeClip) -> list[NDArray[np.uint8]]:
    """One picture for each hold: the disc goes right."""
    return [draw_disc(20 + 6 * index, 54, seed=clip.seed) for index in range(len(clip.holds))]


def encode(pictures: Iterable[NDArray[np.uint8]]) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "8", "x264-params": "mbtree=0", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def sample_of(clip: MadeClip, mp4: bytes | None = None) -> Sample:
    frames = [picture for picture, hold in zip(drawings_of(clip), clip.holds, strict=True) for _ in range(hold)]
    record = {"schema": 1, "key": clip.key, "source": clip.source, "source_sha256": clip.sha256, "title": clip.title,
              "shot": clip.shot, "start_s": clip.start_frame / FPS, "fps": float(FPS), "frames": sum(clip.holds),
              "holds": clip.holds}
    return Sample(clip.key, {"mp4": encode(frames) if mp4 is None else mp4, "txt": b"A disc.",
                             "json": json.dumps(record).encode()})


CLIPS = (
    MadeClip("red.mp4", "red", "train", 0, 0, (2, 2, 2, 2, 2)),
    MadeClip("red.mp4", "red", "train", 0, 10, (2, 2, 2, 2, 2)),          # a long shot was divided
    MadeClip("red.mp4", "red", "train", 1, 30, (1, 3, 1, 1, 2), seed=1),
    MadeClip("blue.mp4", "blue", "eval", 0, 5, (2, 1, 2, 1, 2), seed=2),
)


def write_curation(folder: Path, clips: Sequence[MadeClip] = CLIPS, samples: Sequence[Sample] | None = None) -> Path:
    """Shards, ledger and manifest; two more rows of the ledger were dropped, by text_area and by motion."""
    samples = samples if samples is not None else [sample_of(clip) for clip in clips]
    by_key = {sample.key: sample for sample in samples}
    shards = []
    for split in ("train", "eval"):
        chosen = sorted((clip for clip in clips if clip.split == split), key=lambda clip: clip.key)
        shards += write_shards([by_key[clip.key] for clip in chosen], folder, split, max_bytes=10**9, max_samples=1000)
    rows = [{"key": clip.key, "verdict": "keep", "gate": "", "start_frame": clip.start_frame, "split": clip.split}
            for clip in clips]
    rows += [{"key": f"dropped-{gate}", "verdict": "drop", "gate": gate, "start_frame": 0, "split": ""}
             for gate in ("text_area", "motion")]
    pq.write_table(pa.Table.from_pylist(rows), folder / "clips.parquet")
    write_manifest(folder, Manifest(key="made", shards=shards))
    return folder


def make_job(shards: Path, out: Path, *, unit: Unit = Unit.DRAWINGS, spacings: Sequence[int] = (1, 2), per_shot: int = 1,
             least: float = 0.3, most: float = 0.99, votes: Path | None = None) -> TripletsJob:
    """Limits fit the drawn discs at the small size at which tests compare them."""
    return TripletsJob(
        shards=str(shards), out=str(out), executor=ExecutorName.INLINE, workers=1,
        candidates=CandidatesConfig(unit=unit, spacings=list(spacings), stride=1, per_shot=per_shot, seed=0),
        ssim=SsimLimits(min=least, max=most, size="192x108"), names=NamesConfig(origin="Other", japan="^blue"),
        votes=VotesConfig(file=None if votes is None else str(votes), min=2), tars=ShardsConfig(max_mb=256, max_samples=1000),
        ray=RayConfig(address="local", object_store_mb=64, temp_dir=None))
