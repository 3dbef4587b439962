"""The one contract of curation and training: WebDataset shards with an index of byte offsets, and their manifest.

A shard is a plain ustar archive, "train-000000.tar", whose members are "<key>.<extension>". Beside it lies
"train-000000.index.json", so single samples are read without reading the archive. manifest.json lists the shards and
is written last: a folder without it is not a data set. Rules of names: WebDataset splits a member at the first dot of
its base name, lower-cases the extension and takes names that begin with "_" for metadata; ustar holds 100 characters.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from pipeline.errors import UserError, nearest
from pipeline.hashing import file_digest
from pipeline.records import Json, atomic_path, read_json, write_json
from pipeline.shard_files import Span, open_folder

if TYPE_CHECKING:
    from webdataset import TarWriter

SHARD_SCHEMA = 1
MANIFEST_FILE = "manifest.json"
SPLITS = ("train", "eval")

_KEY = re.compile(r"[A-Za-z0-9-][A-Za-z0-9_-]{0,79}")
_EXTENSION = re.compile(r"[a-z0-9]+(\.[a-z0-9]+)*")
_SHARD = re.compile(r"(?P<prefix>.+)-(?P<number>\d{6})\.tar")
_BLOCK = 512        # tar: members start and end at multiples of this
_RECORD = 20 * 512  # tar: the archive's length is a multiple of this
_NAME_CHARS = 100   # ustar


@dataclass(frozen=True, slots=True)
class Sample:
    """One training sample: files by extension, e.g. "mp4", "txt", "json", "sketch.npz"."""

    key: str
    files: dict[str, bytes]

    @property
    def tar_bytes(self) -> int:
        """Bytes it takes in a tar, headers and padding included."""
        return sum(_BLOCK + _padded(len(data), _BLOCK) for data in self.files.values())


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """One shard as listed in the manifest."""

    path: str                          # file name, beside the manifest
    samples: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a data set is made of."""

    key: str                           # of everything that made it
    shards: list[ShardInfo]
    counts: Mapping[str, Json] = field(default_factory=dict)
    models: Mapping[str, Json] = field(default_factory=dict)
    versions: Mapping[str, Json] = field(default_factory=dict)
    schema: int = SHARD_SCHEMA


def write_shards(
    samples: Iterable[Sample], folder: Path, prefix: str, *, max_bytes: int, max_samples: int
) -> list[ShardInfo]:
    """Writes samples in the order given; the same samples give the same bytes.

    A shard is closed before it would exceed `max_bytes` (of the tar) or `max_samples`; a sample larger than that
    has a shard of its own. Only one sample is in memory. Old shards of this prefix are replaced, left-over ones
    removed, and before them the old manifest, which no longer describes them. One writer per folder at a time.
    ValueError where names break the rules above or a key occurs twice.
    """
    shards: list[ShardInfo] = []
    _remove_debris(folder, prefix)
    remaining = _checked(samples)
    sample = next(remaining, None)
    while sample is not None:
        path = folder / f"{prefix}-{len(shards):06d}.tar"
        (folder / MANIFEST_FILE).unlink(missing_ok=True)
        index_path(path).unlink(missing_ok=True)  # it describes the shard that is being replaced
        with atomic_path(path) as temporary, temporary.open("wb") as file, _tar_writer(file) as writer:
            size = count = 0
            while sample is not None:
                end = _padded(size + sample.tar_bytes + 2 * _BLOCK, _RECORD)  # two empty blocks close a tar
                if count and (end > max_bytes or count >= max_samples):
                    break
                writer.write({"__key__": sample.key, **sample.files})
                size, count = size + sample.tar_bytes, count + 1
                sample = next(remaining, None)
        shards.append(build_index(path))
    _remove_left_over(folder, prefix, first=len(shards))
    return shards


def index_path(tar_path: Path) -> Path:
    """Where the index of a shard lies: train-000000.tar -> train-000000.index.json."""
    return tar_path.with_suffix(".index.json")


def build_index(tar_path: Path) -> ShardInfo:
    """Writes the index of any WebDataset tar, ours or not, and returns what a manifest says about it.

    UserError if it is no uncompressed tar or holds the same member twice.
    """
    info, record = _scan(tar_path)
    write_json(index_path(tar_path), record)
    return info


def write_manifest(folder: Path, manifest: Manifest) -> None:
    write_json(folder / MANIFEST_FILE, manifest, indent=1)


def read_manifest(path: Path) -> Manifest:
    """Reads manifest.json, given itself or its folder; UserError if absent or of another schema."""
    return _manifest(read_json(path / MANIFEST_FILE if path.is_dir() else path, SHARD_SCHEMA))


class ShardReader:
    """Random access to the samples of a data set by number or key, through the indexes.

    `path` is a manifest or its folder, here or at an address that fsspec knows ("s3://bucket/cartoons"), where only the
    bytes asked for are fetched; a folder without manifest is read as all its indexed tars. `split` takes only
    the shards of that prefix. UserError where schema, size or digest of a shard does not fit; the digest compared
    here is the recorded one, `verify` reads the bytes. Picklable; holds no open files.
    """

    def __init__(self, path: Path | str, split: str | None = None) -> None:
        text = str(path)
        self._files = open_folder(text.removesuffix(MANIFEST_FILE) if text.endswith("/" + MANIFEST_FILE) else path)
        names = self._files.names()
        if MANIFEST_FILE in names:
            self.shards = _manifest(self._files.records([MANIFEST_FILE], SHARD_SCHEMA)[0]).shards
        else:
            tars = [name for name in names if name.endswith(".tar") and _index_name(name) in names]
            if not tars:
                raise UserError(f"{path} is no data set", f"it holds neither {MANIFEST_FILE} nor indexed tars",
                                "Give the shards folder of a curation, or index foreign tars with build_index")
            indexes = self._files.records([_index_name(tar) for tar in tars], SHARD_SCHEMA)
            self.shards = [_described(record) for record in indexes]
        if split is not None:
            self.shards = [shard for shard in self.shards if shard.path.startswith(f"{split}-")]
        self._places: dict[str, tuple[str, dict[str, list[int]]]] = {}
        records = self._files.records([_index_name(shard.path) for shard in self.shards], SHARD_SCHEMA)
        sizes = self._files.sizes([shard.path for shard in self.shards])
        for shard, record, size in zip(self.shards, records, sizes, strict=True):
            self._add(shard, record, size)
        self.keys = list(self._places)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        return self.sample(self.keys[index])

    def extensions(self, key: str) -> Collection[str]:
        """Which files a sample has, by the index; KeyError, with the nearest key, if there is no such sample."""
        return self._place(key)[1].keys()

    def sample(self, key: str, only: Collection[str] | None = None) -> Sample:
        """All files of one sample, or those of `only` that it has; KeyError if there is no such sample."""
        shard, members = self._place(key)
        wanted = [extension for extension in members if only is None or extension in only]
        found = self._files.read([Span(shard, *members[extension]) for extension in wanted])
        return Sample(key, dict(zip(wanted, found, strict=True)))

    def read(self, key: str, extension: str) -> bytes:
        """One file of one sample; KeyError if it has none such."""
        return self.read_many([key], extension)[0]

    def read_many(self, keys: Sequence[str], extension: str) -> list[bytes]:
        """One file of each of many samples, fetched together where they are far away; KeyError if one has none such."""
        places = [self._place(key) for key in keys]
        return self._files.read([Span(shard, *members[extension]) for shard, members in places])

    def samples(self) -> Iterator[Sample]:
        """All samples in the order of the shards."""
        return (self.sample(key) for key in self.keys)

    def verify(self) -> None:
        """Reads every byte; UserError names the first shard whose digest is not the recorded one."""
        for shard in self.shards:
            found = self._files.digest(shard.path)
            if found != shard.sha256:
                raise _damaged(self._files.place(shard.path), f"its sha256 is {found[:12]}, not {shard.sha256[:12]}")

    def _place(self, key: str) -> tuple[str, dict[str, list[int]]]:
        if key not in self._places:
            near = nearest(key, self.keys)
            raise KeyError(f"{key} is in no shard of {self._files.place()}" + (f"; did you mean {near}?" if near else ""))
        return self._places[key]

    def _add(self, shard: ShardInfo, record: Mapping[str, Any], size: int | None) -> None:
        path = self._files.place(shard.path)
        if record["sha256"] != shard.sha256:
            raise _damaged(path, "its index and the manifest name different digests")
        if size != shard.bytes:
            raise _damaged(path, "it is absent" if size is None else f"it has {size} bytes, not {shard.bytes}")
        # JSON sorts the keys; the order of the samples is that of their bytes.
        for key, members in sorted(record["samples"].items(), key=lambda item: min(item[1].values())):
            if key in self._places:
                raise _damaged(path, f"sample {key} is also in {self._places[key][0]}")
            self._places[key] = (shard.path, members)


def _tar_writer(file: BinaryIO) -> TarWriter:
    from webdataset import TarWriter  # imports torch

    # The fixed owner, mode and time make the bytes a function of the samples.
    return TarWriter(file, user="toonforge", group="toonforge", mode=0o444, mtime=0, encoder=False)


def _checked(samples: Iterable[Sample]) -> Iterator[Sample]:
    seen: set[str] = set()
    for sample in samples:
        key = sample.key
        if not _KEY.fullmatch(key):
            raise ValueError(f"sample key {key!r} must be 1 to 80 ASCII letters, digits, - or _, and not begin with _")
        if key in seen:
            raise ValueError(f"sample key {key} occurs twice")
        if not sample.files:
            raise ValueError(f"sample {key} has no files")
        for extension in sample.files:
            if not _EXTENSION.fullmatch(extension) or len(key) + 1 + len(extension) > _NAME_CHARS:
                raise ValueError(f"sample {key}: {extension!r} is no extension (short, lower case, e.g. sketch.npz)")
        seen.add(key)
        yield sample


def _remove_debris(folder: Path, prefix: str) -> None:
    for path in folder.glob(f".tmp-*-{prefix}-*"):
        path.unlink(missing_ok=True)


def _remove_left_over(folder: Path, prefix: str, first: int) -> None:
    for path in sorted(folder.glob(f"{prefix}-*.tar")):
        match = _SHARD.fullmatch(path.name)
        if match and match["prefix"] == prefix and int(match["number"]) >= first and index_path(path).exists():
            (folder / MANIFEST_FILE).unlink(missing_ok=True)
            index_path(path).unlink()
            path.unlink()


def _scan(tar_path: Path) -> tuple[ShardInfo, dict[str, object]]:
    samples: dict[str, dict[str, list[int]]] = {}
    try:
        with tarfile.open(tar_path, "r:") as tar:
            for member in tar:
                if not member.isreg() or re.match(r"__[^/]*__($|/)", member.name):  # WebDataset's metadata
                    continue
                folder, slash, base = member.name.rpartition("/")
                stem, dot, extension = base.partition(".")
                if not stem or not dot:
                    continue
                files = samples.setdefault(folder + slash + stem, {})
                if extension.lower() in files:
                    raise _damaged(tar_path, f"it holds {member.name} twice")
                files[extension.lower()] = [member.offset_data, member.size]
    except tarfile.TarError as error:
        raise _damaged(tar_path, f"it is no uncompressed tar ({error})") from error
    info = ShardInfo(tar_path.name, len(samples), tar_path.stat().st_size, file_digest(tar_path))
    record = {"schema": SHARD_SCHEMA, "shard": info.path, "bytes": info.bytes, "sha256": info.sha256,
              "samples": samples}
    return info, record


def _manifest(record: Mapping[str, Any]) -> Manifest:
    return Manifest(**{**record, "shards": [ShardInfo(**shard) for shard in record["shards"]]})


def _described(record: Mapping[str, Any]) -> ShardInfo:
    return ShardInfo(record["shard"], len(record["samples"]), record["bytes"], record["sha256"])


def _index_name(tar_name: str) -> str:
    return tar_name.removesuffix(".tar") + ".index.json"


def _damaged(path: Path | str, why: str) -> UserError:
    return UserError(f"shard {path} cannot be used", why, "Run the curation again, or copy the shard again")


def _padded(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
