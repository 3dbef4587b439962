"""What triplets are made of: the kept clips of a finished curation, out of its ledger and its shards.

A clip lies within one shot, passed the text and motion gates and belongs to one split, so none of its triplets crosses a
cut or mixes splits, and all of them inherit these decisions.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.shards import MANIFEST_FILE, SPLITS, ShardReader

CLIPS_FILE = "clips.parquet"
SAMPLE_SCHEMA = 1            # of the clips' json member
_COLUMNS = ("key", "verdict", "gate", "start_frame", "split")


@dataclass(frozen=True, slots=True)
class TripletClip:
    """A kept clip, without its pictures."""

    key: str
    split: str                         # "train" or "eval", as the curation decided for its title
    title: str
    source: str
    source_sha256: str
    shot: int                          # within the source
    start_frame: int                   # of the clip's first frame within the source
    start_s: float
    fps: float
    holds: tuple[int, ...]             # frames each drawing stays; sums to the clip's frames
    caption: str

    @property
    def shot_key(self) -> tuple[str, int]:
        """The same for all clips of one shot: long shots are divided into several."""
        return self.source_sha256, self.shot


@dataclass(frozen=True, slots=True)
class Curation:
    """The ledger in short, and the kept clips in the order of their keys."""

    num_proposed: int
    dropped: dict[str, int]            # clips by the gate that dropped them
    clips: tuple[TripletClip, ...]


def read_curation(folder: Path) -> Curation:
    """Reads a finished curation; UserError where it is none, or where a title is in both splits."""
    import pyarrow.parquet as pq

    fix = "Give the output folder of a curation, e.g. shards=out/sample after make curate"
    if not folder.is_dir():
        raise UserError(f"shards={folder} does not exist" if not folder.exists() else f"shards={folder} is no folder", fix=fix)
    absent = [name for name in (MANIFEST_FILE, CLIPS_FILE) if not (folder / name).is_file()]
    if absent:
        raise UserError(f"shards={folder} is no finished curation", f"it holds no {absent[0]}", fix)
    try:
        rows: list[dict[str, Any]] = pq.read_table(folder / CLIPS_FILE, columns=list(_COLUMNS)).to_pylist()
    except (OSError, ValueError) as error:        # what pyarrow raises on foreign files
        raise UserError(f"{folder / CLIPS_FILE} cannot be read", str(error).splitlines()[0], "Run the curation again") from error
    first_frames = {row["key"]: int(row["start_frame"]) for row in rows}
    clips: list[TripletClip] = []
    for split in SPLITS:
        reader = ShardReader(folder, split)
        for key in reader.keys:
            record = json.loads(reader.read(key, "json"))
            clips.append(_clip(key, split, record, reader, first_frames, folder))
    _check_titles(clips, folder)
    dropped = Counter(str(row["gate"]) for row in rows if row["verdict"] != "keep")
    return Curation(len(rows), dict(sorted(dropped.items())), tuple(sorted(clips, key=lambda clip: clip.key)))


def decode(mp4: bytes) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Yields (seconds from the first frame, RGB uint8 [h, w, 3]) of an encoded clip; FFmpegError or ValueError if damaged."""
    with av.open(BytesIO(mp4), "r") as film:
        film.streams.video[0].codec_context.thread_count = 1      # several clips are decoded at once
        first_s: float | None = None
        for picture in film.decode(video=0):
            if picture.is_corrupt:
                raise ValueError("the film of the clip is damaged")
            shown_s = float((picture.pts or 0) * (picture.time_base or 0))
            first_s = shown_s if first_s is None else first_s
            yield shown_s - first_s, np.asarray(picture.to_ndarray(format="rgb24"), np.uint8)


def _clip(key: str, split: str, record: dict[str, Any], reader: ShardReader, first_frames: dict[str, int], folder: Path
          ) -> TripletClip:
    if record.get("schema") != SAMPLE_SCHEMA:
        raise UserError(f"sample {key} of {folder} has schema {record.get('schema')}", f"this version reads {SAMPLE_SCHEMA}",
                        "Run the curation again with this version")
    if key not in first_frames:
        raise UserError(f"shards={folder} is no finished curation", f"{CLIPS_FILE} knows nothing of sample {key}",
                        "Run the curation again")
    caption = reader.read(key, "txt").decode() if "txt" in reader.extensions(key) else ""
    return TripletClip(
        key=key, split=split, title=str(record["title"]), source=str(record["source"]),
        source_sha256=str(record["source_sha256"]), shot=int(record["shot"]), start_frame=first_frames[key],
        start_s=float(record["start_s"]), fps=float(record["fps"]), holds=tuple(int(hold) for hold in record["holds"]),
        caption=caption)


def _check_titles(clips: list[TripletClip], folder: Path) -> None:
    """The curation splits by title; shards that somebody put together need not."""
    titles = {split: {clip.title for clip in clips if clip.split == split} for split in SPLITS}
    both = sorted(titles["train"] & titles["eval"])
    if both:
        raise UserError(f"shards={folder} has clips of the title {both[0]!r} in both splits",
                        "what is tested would have been trained on", "Curate again; a curation splits by title")
