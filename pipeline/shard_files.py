"""Byte ranges of the files of one folder, here or at an address that fsspec knows: s3://, gs://, file://, memory://.

Far away, only the ranges asked for are fetched, and those of one call together. Both folders are picklable and hold nothing
open, so the processes of a data loader take them along.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pipeline.errors import UserError
from pipeline.hashing import CHUNK_BYTES, file_digest
from pipeline.records import Json, read_json

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_GAP_BYTES = 1 << 16    # ranges of a distant file with less between them are one request; chosen here


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A range of bytes of a file of the folder."""

    name: str
    offset: int
    length: int

    @property
    def end(self) -> int:
        return self.offset + self.length


class Folder(Protocol):
    """What ShardReader asks of the place where a data set lies."""

    def place(self, name: str = "") -> str:
        """Where the folder or a file of it is, for messages."""

    def names(self) -> list[str]:
        """The names in the folder, sorted; none where there is no such folder."""

    def records(self, names: Sequence[str], schema: int) -> list[dict[str, Json]]:
        """JSON records; UserError where one is absent, damaged or of another schema."""

    def sizes(self, names: Sequence[str]) -> list[int | None]:
        """Bytes of each file, None where it is absent."""

    def read(self, spans: Sequence[Span]) -> list[bytes]:
        """The bytes of each span, in the order given; UserError where a file ends before a span does."""

    def digest(self, name: str) -> str:
        """The sha256 of a whole file."""


def open_folder(path: Path | str) -> Folder:
    """The folder at a path or at an address with "://"; a path to a file means the folder it is in."""
    if isinstance(path, str) and "://" in path:
        return _RemoteFolder(path.rstrip("/"))
    path = Path(path)
    return _LocalFolder(path if path.is_dir() else path.parent)


@dataclass(frozen=True, slots=True)
class _LocalFolder:
    folder: Path

    def place(self, name: str = "") -> str:
        return str(self.folder / name)

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir()) if self.folder.is_dir() else []

    def records(self, names: Sequence[str], schema: int) -> list[dict[str, Json]]:
        return [read_json(self.folder / name, schema) for name in names]

    def sizes(self, names: Sequence[str]) -> list[int | None]:
        paths = [self.folder / name for name in names]
        return [path.stat().st_size if path.is_file() else None for path in paths]

    def read(self, spans: Sequence[Span]) -> list[bytes]:
        found = []
        for span in spans:
            with (self.folder / span.name).open("rb") as file:
                file.seek(span.offset)
                found.append(_whole(file.read(span.length), span, self.place(span.name)))
        return found

    def digest(self, name: str) -> str:
        return file_digest(self.folder / name)


@dataclass(frozen=True, slots=True)
class _RemoteFolder:
    address: str

    def place(self, name: str = "") -> str:
        return f"{self.address}/{name}" if name else self.address

    def names(self) -> list[str]:
        return sorted(self._listing())

    def records(self, names: Sequence[str], schema: int) -> list[dict[str, Json]]:
        if not names:
            return []
        files, root = self._open()
        found = files.cat([f"{root}/{name}" for name in names], on_error="return")
        by_name = {path.rpartition("/")[2]: data for path, data in found.items()}
        return [self._record(name, by_name.get(name, FileNotFoundError(name)), schema) for name in names]

    def sizes(self, names: Sequence[str]) -> list[int | None]:
        listing = self._listing()
        return [listing.get(name) for name in names]

    def read(self, spans: Sequence[Span]) -> list[bytes]:
        files, root = self._open()
        requests, request_of = _merge(spans)
        found = files.cat_ranges([f"{root}/{request.name}" for request in requests],
                                 [request.offset for request in requests], [request.end for request in requests],
                                 on_error="raise")
        pieces = []
        for span in spans:
            index = request_of[span]
            start = span.offset - requests[index].offset
            pieces.append(_whole(found[index][start : start + span.length], span, self.place(span.name)))
        return pieces

    def digest(self, name: str) -> str:
        files, root = self._open()
        digest = hashlib.sha256()
        with files.open(f"{root}/{name}", "rb") as file:
            while piece := file.read(CHUNK_BYTES):
                digest.update(piece)
        return digest.hexdigest()

    def _open(self) -> tuple[AbstractFileSystem, str]:
        """The file system and the folder's path in it; fsspec keeps one a process, so a forked worker opens its own."""
        import fsspec

        try:
            files, root = fsspec.core.url_to_fs(self.address)
        except (ImportError, ValueError) as error:
            raise UserError(f"{self.address} cannot be opened", str(error),
                            "Install what it needs, e.g. pip install 'toonforge[s3]', or copy the shards to a disk") from error
        return files, str(root).rstrip("/")

    def _listing(self) -> dict[str, int | None]:
        files, root = self._open()
        files.invalidate_cache()         # a listing from before the last curation is out of date
        try:
            entries = files.ls(root, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        return {str(entry["name"]).rstrip("/").rpartition("/")[2]: entry["size"] for entry in entries}

    def _record(self, name: str, data: bytes | Exception, schema: int) -> dict[str, Json]:
        place = self.place(name)
        if isinstance(data, FileNotFoundError):
            raise UserError(f"{place} is absent", fix="Copy the data set again")
        try:
            if isinstance(data, Exception):
                raise data
            record = json.loads(data)
        except (OSError, ValueError) as error:
            raise UserError(f"{place} cannot be read", str(error), "Copy the data set again") from error
        found = record.get("schema") if isinstance(record, dict) else None
        if found != schema:
            raise UserError(f"{place} does not fit", f"it has schema {found}; this version reads {schema}",
                            "Write it again with this version, or read it with its own")
        return record


def _merge(spans: Sequence[Span]) -> tuple[list[Span], Mapping[Span, int]]:
    """The fewest requests that hold all spans with small gaps, and which request holds each span."""
    requests: list[Span] = []
    request_of: dict[Span, int] = {}
    for span in sorted(spans):
        last = requests[-1] if requests else None
        if last is not None and last.name == span.name and span.offset <= last.end + _GAP_BYTES:
            requests[-1] = Span(last.name, last.offset, max(last.end, span.end) - last.offset)
        else:
            requests.append(span)
        request_of[span] = len(requests) - 1
    return requests, request_of


def _whole(data: bytes, span: Span, place: str) -> bytes:
    if len(data) != span.length:
        raise UserError(f"shard {place} cannot be used", f"it ended {span.length - len(data)} bytes before a sample did",
                        "Run the curation again, or copy the shard again")
    return data
