"""Triplets: the first and the third picture are given, the second is to be made.

Two sources: a folder laid out as ATD-12K (arXiv 2104.02495) publishes its test split, and shards whose samples hold 0.png, 1.png,
2.png and a record. The region of motion and the level of difficulty come from annotations where there are any.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pipeline.errors import UserError
from pipeline.hashing import content_key
from pipeline.shards import MANIFEST_FILE, ShardReader
from training.evaluation.samples import UNKNOWN, Entry, EvalSample, Region, sized, to_unit
from training.metrics.pixels import roi_px

PICTURES, ANNOTATIONS = "test_2k_540p", "test_2k_annotations"
SUFFIXES = (".png", ".jpg", ".jpeg")
MEMBERS = ("0.png", "1.png", "2.png")
LEVELS = {0: "easy", 1: "medium", 2: "hard"}
REGIONS = {"Japan": "east", "Disney": "west"}       # EISAI's names for the two origins
FPS = 24                                            # of films; a triplet of spacing s is shown at FPS / s
GIVEN = (0, 2)

# Origin, film, clip, frame, spacing; the reading of the last ones is inferred from the release's names.
_NAME = re.compile(r"(?P<origin>[A-Za-z]+)(_(?P<film>[^_]+))?.*?(_s(?P<spacing>[1-9]))?")


def read_triplets(place: Path | str, *, size: str) -> Iterator[EvalSample]:
    """The triplets of a folder or of shards, decoded one by one."""
    return (entry.load() for entry in list_triplets(place, size=size))


def list_triplets(place: Path | str, *, size: str, num_clips: int = 0) -> list[Entry]:
    """The triplets in the order of their names; `num_clips` takes the first so many, 0 all. UserError where there are none."""
    folder = Path(place)
    if "://" in str(place) or (folder / MANIFEST_FILE).is_file() or folder.name == MANIFEST_FILE or any(folder.glob("*.tar")):
        return _of_shards(str(place), size, num_clips)
    if not folder.is_dir():
        raise UserError(f"triplets={place} is no folder", fix="Give a folder laid out as ATD-12K, or shards of triplets")
    return _of_folder(folder, size, num_clips)


def region_of_motion(box: object, annotated_px: tuple[int, int] | None, picture_px: tuple[int, int]) -> Region | None:
    """The region in pixels of the picture; None where there is none, or where pictures were cut to another shape."""
    if isinstance(box, list) and len(box) == 4:
        box = dict(zip(("x", "y", "width", "height"), box, strict=True))
    if not isinstance(box, Mapping) or not {"x", "y", "width", "height"} <= set(box):
        return None
    annotated_px = annotated_px or picture_px
    if abs(annotated_px[0] * picture_px[1] / (annotated_px[1] * picture_px[0]) - 1) > 0.01:
        return None
    x, y, width, height = roi_px(box, annotated_px, picture_px)
    x, y = max(0, x), max(0, y)
    width, height = min(width, picture_px[0] - x), min(height, picture_px[1] - y)
    return (x, y, width, height) if width > 0 and height > 0 else None


def _of_folder(root: Path, size: str, num_clips: int) -> list[Entry]:
    pictures = root / PICTURES if (root / PICTURES).is_dir() else root
    annotations = (root if pictures != root else root.parent) / ANNOTATIONS
    entries: list[Entry] = []
    for folder in sorted(path for path in pictures.iterdir() if path.is_dir() and not path.name.startswith(".")):
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
        if len(files) != 3:
            continue
        if num_clips and len(entries) == num_clips:
            break
        path = annotations / folder.name / f"{folder.name}.json"
        entries.append(_entry(folder.name, [file.read_bytes() for file in files], _annotation(path), size, files))
    if not entries:
        raise UserError(f"triplets={root} holds no triplets", "a triplet is a folder of three pictures, frame1 to frame3",
                        f"Give the folder that holds {PICTURES}, or that folder itself")
    return entries


def _of_shards(place: str, size: str, num_clips: int) -> list[Entry]:
    reader = ShardReader(place)
    if any(shard.path.startswith("eval-") for shard in reader.shards):
        reader = ShardReader(place, "eval")
    entries: list[Entry] = []
    for key in sorted(reader.keys):
        if num_clips and len(entries) == num_clips:
            break
        sample = reader.sample(key)
        missing = next((name for name in (*MEMBERS, "json") if name not in sample.files), None)
        if missing is not None:
            raise UserError(f"sample {key} of triplets={place} is no triplet", f"it has no {missing}",
                            "Clips of a curation are measured with shards=FOLDER")
        record = json.loads(sample.files["json"])
        entries.append(_entry(key, [sample.files[name] for name in MEMBERS], record, size, None, reader))
    if not entries:
        raise UserError(f"triplets={place} holds no triplets", fix="Give other shards")
    return entries


def _entry(key: str, pictures: list[bytes], record: Mapping[str, Any], size: str, files: list[Path] | None,
           reader: ShardReader | None = None) -> Entry:
    match = _NAME.fullmatch(key)
    parts = match.groupdict() if match else {}
    level = record.get("level", record.get("difficulty"))
    title = str(record.get("title") or "_".join(part for part in (parts.get("origin"), parts.get("film")) if part) or UNKNOWN)
    spacing = int(record.get("spacing") or parts.get("spacing") or 1)
    strata = {"title": title, "difficulty": LEVELS.get(level, str(level)) if level is not None else UNKNOWN,
              "region": REGIONS.get(parts.get("origin") or "", UNKNOWN), "spacing": str(spacing)}
    motion = record.get("motion")
    amounts = {"motion_amount": float(motion["mean"])} if isinstance(motion, Mapping) and "mean" in motion else {}
    annotated = record.get("image_size")
    annotated_px = (int(annotated[0]), int(annotated[1])) if isinstance(annotated, list) and len(annotated) == 2 else None
    box = record.get("motion_RoI", record.get("roi"))
    caption, fps = str(record.get("caption") or ""), max(1, round(float(record.get("fps") or FPS) / spacing))
    identity = content_key(kind="triplet", pictures=[hashlib.sha256(data).hexdigest() for data in pictures], size=size, fps=fps,
                           caption=caption, given=GIVEN, roi=box, annotated=annotated)

    def load() -> EvalSample:
        found = [file.read_bytes() for file in files] if files is not None else _members(reader, key)
        decoded = [_decoded(data, key) for data in found]
        if len({picture.shape for picture in decoded}) > 1:
            raise UserError(f"the pictures of triplet {key} differ in size", fix="Give three pictures of one size")
        stacked = np.stack(decoded)
        own_px = (stacked.shape[2], stacked.shape[1])
        truth = to_unit(sized(stacked, size))
        roi = region_of_motion(box, annotated_px or own_px, (truth.shape[3], truth.shape[2]))
        return EvalSample(key, title, caption, fps, truth, GIVEN, strata, roi, identity)

    return Entry(key, identity, 3, GIVEN, strata, amounts, load)


def _members(reader: ShardReader | None, key: str) -> list[bytes]:
    assert reader is not None
    files = reader.sample(key, MEMBERS).files
    return [files[name] for name in MEMBERS]


def _decoded(data: bytes, key: str) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return np.array(picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError) as error:
        raise UserError(f"a picture of triplet {key} cannot be read", str(error), "Copy it again") from error


def _annotation(path: Path) -> Mapping[str, Any]:
    """The annotation of a triplet; nothing where there is none. Keys that are not known are left alone."""
    if not path.is_file():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read", str(error), "Copy it again") from error
    return record if isinstance(record, dict) else {}
