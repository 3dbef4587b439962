"""ATD-12K's folders and annotations, written and read.

    datasets/train_10k/<triplet>/frame1.jpg frame2.jpg frame3.jpg
    datasets/test_2k_540p/<triplet>/frame1.png frame2.png frame3.png       960x540, what is evaluated
    datasets/test_2k_original/<triplet>/frame1.jpg ...                     the size of the clips
    datasets/test_2k_annotations/<triplet>/<triplet>.json                  in pixels of the latter

Names and fields as the public loaders of the data set read them. Frame 2 is what is to be interpolated. The reader takes the
official data set too: any names of files that sort into the order of the frames, tags as text or list, further keys.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.triplets.roi import Roi
from pipeline.errors import UserError
from pipeline.records import canonical_json, write_json

ROOT = "datasets"
TRAIN, TEST, ORIGINAL, ANNOTATIONS = "train_10k", "test_2k_540p", "test_2k_original", "test_2k_annotations"
MARKER, MARKER_SCHEMA = "toonforge.json", 1      # what we wrote is ours to replace
TEST_SIZE = (960, 540)
JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]   # chosen here
_PICTURES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True, slots=True)
class Annotation:
    """The content of one annotation file."""

    image_size: tuple[int, int]        # width and height that the box refers to
    roi: Roi
    level: int                         # 0 easy, 1 medium, 2 hard
    motion_tags: tuple[str, ...] = ()
    behavior_tags: tuple[str, ...] = ()

    def as_json(self) -> dict[str, object]:
        return {"image_size": list(self.image_size), "motion_RoI": {"x": self.roi.x, "y": self.roi.y, "width": self.roi.width,
                "height": self.roi.height}, "level": self.level, "general_motion_type": list(self.motion_tags),
                "behavior": list(self.behavior_tags)}


@dataclass(frozen=True, slots=True)
class LaidTriplet:
    """A triplet on disk."""

    name: str
    frames: tuple[Path, Path, Path]
    annotation: Annotation | None = None         # of the test split only


@dataclass(frozen=True, slots=True)
class TripletFiles:
    """A triplet to be written: three PNG files, and its annotation where it is of the test split."""

    name: str
    pngs: Sequence[bytes]
    annotation: Annotation | None


def write_layout(out: Path, triplets: Iterable[TripletFiles]) -> None:
    """Writes out/datasets as a whole: it is made beside and renamed; an earlier one of ours is replaced.

    UserError where a folder of that name was not written by us.
    """
    final = out / ROOT
    if final.exists() and not (final / MARKER).is_file():
        raise UserError(f"{final} was not written by this command", "it would be replaced", "Choose another folder with out=...")
    for debris in out.glob(".tmp-datasets-*"):
        shutil.rmtree(debris, ignore_errors=True)
    beside = Path(tempfile.mkdtemp(prefix=".tmp-datasets-", dir=out))
    beside.chmod(0o755)
    try:
        for part in (TRAIN, TEST, ORIGINAL, ANNOTATIONS):
            (beside / part).mkdir()
        names = [_write_triplet(beside, triplet) for triplet in triplets]
        write_json(beside / MARKER, {"schema": MARKER_SCHEMA, "triplets": sorted(names)}, indent=1)
        if final.exists():
            shutil.rmtree(final)
        beside.rename(final)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def read_layout(root: Path, split: str = "test", *, original: bool = False) -> list[LaidTriplet]:
    """The triplets of a split ("train" or "test") in the order of their names; `original`: the test split in its own size.

    `root` is the folder that holds train_10k and test_2k_540p. UserError where a part is missing or damaged.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split {split!r} is neither train nor test")
    folder = root / (TRAIN if split == "train" else ORIGINAL if original else TEST)
    if not folder.is_dir():
        raise UserError(f"{root} is no folder of triplets", f"it holds no {folder.name}",
                        f"Give the folder that holds {TRAIN} and {TEST}")
    return [LaidTriplet(path.name, _frames(path), _annotation(root, path.name) if split == "test" else None)
            for path in sorted(folder.iterdir()) if path.is_dir()]


def read_frames(triplet: LaidTriplet) -> list[NDArray[np.uint8]]:
    """Three RGB uint8 [h, w, 3]; UserError where one is no picture."""
    found = []
    for path in triplet.frames:
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if picture is None:
            raise UserError(f"{path} is no picture", fix="Write the triplets again, or copy them again")
        found.append(np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8))
    return found


def parse_annotation(record: Mapping[str, Any]) -> Annotation:
    """Of one file's content; KeyError, TypeError or ValueError where a field that is evaluated is missing or of another kind."""
    box = record["motion_RoI"]
    width, height = record["image_size"]
    level = int(record["level"])
    if level not in (0, 1, 2):
        raise ValueError(f"level is {level}, not 0, 1 or 2")
    roi = Roi(*(int(box[name]) for name in ("x", "y", "width", "height")))
    return Annotation((int(width), int(height)), roi, level, _tags(record.get("general_motion_type")),
                      _tags(record.get("behavior")))


def _write_triplet(root: Path, triplet: TripletFiles) -> str:
    pictures = [np.asarray(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR), np.uint8) for png in triplet.pngs]
    note = triplet.annotation
    for number, picture in enumerate(pictures, 1):
        jpeg = cv2.imencode(".jpg", picture, JPEG)[1].tobytes()
        _write(root / (TRAIN if note is None else ORIGINAL) / triplet.name / f"frame{number}.jpg", jpeg)
        if note is not None:
            png = cv2.imencode(".png", _at_test_size(picture))[1].tobytes()
            _write(root / TEST / triplet.name / f"frame{number}.png", png)
    if note is not None:
        _write(root / ANNOTATIONS / triplet.name / f"{triplet.name}.json", canonical_json(note.as_json()).encode())
    return triplet.name


def _write(path: Path, data: bytes) -> None:
    """Without care for interruptions: the whole folder appears by rename."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)


def _at_test_size(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    shrinks = picture.shape[1] >= TEST_SIZE[0] and picture.shape[0] >= TEST_SIZE[1]
    return np.asarray(cv2.resize(picture, TEST_SIZE, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC), np.uint8)


def _frames(folder: Path) -> tuple[Path, Path, Path]:
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in _PICTURES)
    if len(paths) != 3:
        raise UserError(f"triplet {folder} cannot be used", f"it holds {len(paths)} pictures, not 3", "Write or copy it again")
    return paths[0], paths[1], paths[2]


def _annotation(root: Path, name: str) -> Annotation | None:
    """None where the data set came without annotations."""
    if not (root / ANNOTATIONS).is_dir():
        return None
    path = root / ANNOTATIONS / name / f"{name}.json"
    try:
        return parse_annotation(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(f"triplet {name} has no annotation", f"{path} is absent", "Write or copy it again") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{path} is no annotation", why, "Write or copy it again") from error


def _tags(value: object) -> tuple[str, ...]:
    if value is None or value == "":
        return ()
    return (value,) if isinstance(value, str) else tuple(str(tag) for tag in value) if isinstance(value, list) else ()
