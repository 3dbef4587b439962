"""Members of zip and tar archives as sources: windows where they are stored plainly, spooled once where packed.

Nothing an archive says is trusted: names are labels and never paths, sizes are counted while bytes flow, and whatever
cannot be used becomes a row with a reason.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import re
import secrets
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

from curation.config import SourcesConfig
from curation.decode import FileWindow
from curation.ledger import Access, Source, SourceRecord, Status
from pipeline.errors import disk_is_full

GIB = 1 << 30
CHUNK_BYTES = 1 << 20
MAX_HEADER_BYTES = 1 << 20   # of one tar header: real ones hold a path
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
OTHER_ARCHIVES = (".7z", ".rar", ".gz", ".bz2", ".xz", ".zst", ".lz4", ".cab", ".iso", ".cbz", ".cbr", ".jar")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".tga", ".ppm", ".pgm")
# Other things that lie beside films. A suffix that is not listed is left to the probe.
OTHER_SUFFIXES = (
    ".txt", ".md", ".rst", ".json", ".jsonl", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".log",
    ".html", ".htm", ".css", ".js", ".py", ".sh", ".bat", ".url", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".odt",
    ".srt", ".ass", ".ssa", ".vtt", ".sub", ".idx", ".sup", ".lrc", ".nfo", ".sfv", ".md5", ".sha1", ".sha256",
    ".torrent", ".par2", ".ttf", ".otf", ".woff", ".npy", ".npz", ".parquet", ".pt", ".pth", ".ckpt", ".safetensors",
    ".exe", ".dll", ".so", ".db", ".sqlite", ".svg", ".psd", ".exr", ".hdr", ".ico", ".mp3", ".flac", ".wav", ".m4a",
    ".aac", ".ogg", ".opus", ".ac3", ".dts", ".mid", ".ifo", ".bup", ".m3u", ".m3u8", ".mpd", ".cue", ".ds_store",
)


class ByteReader(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class Refused(Exception):
    """A member that is not used; the text is a sentence for the ledger."""


_UNPACKERS: tuple[tuple[tuple[str, ...], Callable[[Path], io.BufferedIOBase]], ...] = (
    ((".gz", ".tgz"), gzip.GzipFile),
    ((".bz2", ".tbz2"), bz2.BZ2File),
    ((".xz", ".txz"), lzma.LZMAFile),
)


class Budget:
    """How many bytes an archive may still unpack to; headers are not believed, so it is counted down while reading."""

    def __init__(self, packed_bytes: int, max_expansion: float) -> None:
        self.left = int(packed_bytes * max_expansion)
        self._why = f"unpacks to more than {max_expansion:g} times the archive's size (curation.sources.max_expansion)"

    def spend(self, num_bytes: int) -> None:
        self.left -= num_bytes
        if self.left < 0:
            raise Refused(self._why)


def quarantined(name: str, reason: str, num_bytes: int = 0) -> SourceRecord:
    return SourceRecord(name=name, status=Status.QUARANTINED, error=reason, num_bytes=num_bytes)


def label(name: str) -> str:
    """How the ledger shows a name: printable, and never used as a path."""
    return "".join(letter if letter.isprintable() else "?" for letter in name.removeprefix("./"))


def is_archive(name: str) -> bool:
    return name.lower().endswith(ARCHIVE_SUFFIXES)


def not_a_film(name: str) -> str:
    """Says why something of this name is surely no film; "" where probing must decide."""
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in OTHER_ARCHIVES:
        return f"not a video: {suffix} archives are not read, only {', '.join(ARCHIVE_SUFFIXES)}"
    if suffix in PICTURE_SUFFIXES:
        return "not a video: a single picture"
    if suffix in OTHER_SUFFIXES:
        return f"not a video: {suffix} file"
    return ""


def is_hidden(name: str) -> bool:
    """Dot files and what macOS adds to archives."""
    parts = _parts(name)
    return "__MACOSX" in parts or any(part.startswith(".") and part not in (".", "..") for part in parts)


def read_archive(path: Path, name: str, config: SourcesConfig, spool: Path) -> Iterator[Source | SourceRecord]:
    """Yields every member of the archive as "<name>!/<member>", in archive order, then what is wrong with the whole."""
    pictures: Counter[str] = Counter()
    members = _zip_members if name.lower().endswith(".zip") else _tar_members
    try:
        for row in members(path, name, config, spool):
            if isinstance(row, SourceRecord) and row.error.endswith("a single picture"):
                pictures[row.name[: row.name.rfind("/") + 1]] += 1
            else:
                yield row
    except Refused as refused:
        yield quarantined(name, str(refused))
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, struct.error,
            NotImplementedError, ValueError, OSError) as error:
        if disk_is_full(error):
            raise
        yield quarantined(name, f"the archive is damaged from here on: {_sentence(error)}")
    for folder, count in sorted(pictures.items()):
        yield quarantined(folder, f"not a video: {count} pictures inside an archive; unpack it to use them as a film")


def spool_stream(
    reader: ByteReader, spool: Path, suffix: str, *, max_bytes: int | None = None, budget: Budget | None = None
) -> tuple[str, int, Path]:
    """Copies a stream to <spool>/<sha256><suffix>; returns digest, size and path. On any error nothing remains."""
    spool.mkdir(parents=True, exist_ok=True)
    temporary = spool / f".{os.getpid()}-{secrets.token_hex(6)}.part"
    digest, num_bytes = hashlib.sha256(), 0
    try:
        with temporary.open("xb") as file:
            while piece := reader.read(CHUNK_BYTES):
                num_bytes += len(piece)
                if max_bytes is not None and num_bytes > max_bytes:
                    raise Refused(f"larger than {max_bytes / GIB:g} GB (curation.sources.max_member_gb)")
                if budget is not None:
                    budget.spend(len(piece))
                digest.update(piece)
                file.write(piece)
        final = spool / f"{digest.hexdigest()}{_safe_suffix(suffix)}"
        temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)
    return digest.hexdigest(), num_bytes, final


def _zip_members(path: Path, name: str, config: SourcesConfig, spool: Path) -> Iterator[Source | SourceRecord]:
    size = path.stat().st_size
    budget = Budget(size, config.max_expansion)
    with zipfile.ZipFile(path) as archive, path.open("rb") as raw:
        members = [info for info in archive.infolist() if not info.is_dir()]
        for index, info in enumerate(members):
            _check_count(index, config)
            member = f"{name}!/{label(info.orig_filename)}"
            if is_hidden(info.filename):
                continue
            try:
                # Names as written: zipfile hides what follows a NUL and turns backslashes on some systems.
                _check_member(info.orig_filename, info.file_size, config)
                if info.flag_bits & 0x1:
                    raise Refused("encrypted")
                if info.external_attr >> 16 & 0o170000 == 0o120000:
                    raise Refused("a link, which is not followed")
                if info.compress_type == zipfile.ZIP_STORED:
                    budget.spend(info.file_size)
                    yield _window(path, member, _zip_data_offset(raw, info), info.file_size)
                    continue
                with archive.open(info) as packed:
                    yield _spooled(packed, member, config, budget, spool)
            except (zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, struct.error, NotImplementedError,
                    ValueError, RuntimeError, OSError) as error:
                if disk_is_full(error):
                    raise
                yield quarantined(member, f"cannot be unpacked: {_sentence(error)}", info.file_size)
            except Refused as refused:
                yield quarantined(member, str(refused), info.file_size)
                if budget.left < 0:
                    return


def _zip_data_offset(raw: BinaryIO, info: zipfile.ZipInfo) -> int:
    """Where a member's bytes begin: its local header has its own name and extra fields."""
    raw.seek(info.header_offset)
    header = raw.read(30)
    if len(header) < 30 or header[:4] != b"PK\x03\x04":
        raise zipfile.BadZipFile("no local header where the directory points")
    name_bytes, extra_bytes = struct.unpack("<HH", header[26:30])
    return info.header_offset + 30 + int(name_bytes) + int(extra_bytes)


def _tar_members(path: Path, name: str, config: SourcesConfig, spool: Path) -> Iterator[Source | SourceRecord]:
    """Plain tars yield windows; packed ones are read once from front to back."""
    lower = name.lower()
    budget = Budget(path.stat().st_size, config.max_expansion)
    opener = next((opener for suffixes, opener in _UNPACKERS if lower.endswith(suffixes)), None)
    packed: io.BufferedIOBase = path.open("rb") if opener is None else opener(path)
    with packed, tarfile.open(fileobj=_Forward(packed, budget), mode="r:", errors="replace") as archive:
        for index, info in enumerate(archive):
            _check_count(index, config)
            if info.isdir() or is_hidden(info.name):
                continue
            member = f"{name}!/{label(info.name)}"
            try:
                _check_member(info.name, info.size, config)
                if info.issym() or info.islnk():
                    raise Refused("a link, which is not followed")
                if not info.isreg() or info.issparse():
                    raise Refused("no plain file (device, pipe or sparse)")
                if opener is None:
                    yield _window(path, member, info.offset_data, info.size)
                    continue
                content = archive.extractfile(info)
                assert content is not None, "a regular member has content"
                yield _spooled(content, member, config, None, spool)   # _Forward counts what is unpacked
            except (EOFError, zlib.error, lzma.LZMAError, tarfile.ReadError) as error:
                yield quarantined(member, f"cannot be unpacked: {_sentence(error)}", info.size)
                return
            except OSError as error:
                if disk_is_full(error):
                    raise
                yield quarantined(member, f"cannot be unpacked: {_sentence(error)}", info.size)
            except Refused as refused:
                yield quarantined(member, str(refused), info.size)
                if budget.left < 0:
                    return


class _Forward(io.RawIOBase):
    """A packed stream for tarfile that reads headers of bounded size and counts every byte, skipped ones too."""

    def __init__(self, stream: io.BufferedIOBase, budget: Budget) -> None:
        self._stream = stream
        self._budget = budget
        self._is_plain = not isinstance(stream, gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile)
        self._furthest = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._stream.tell()

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        data = self._stream.read(size)
        self._count()
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if self._is_plain or offset <= self._stream.tell():
            return self._stream.seek(offset, whence)
        while (left := offset - self._stream.tell()) > 0:
            if not self._stream.read(min(left, CHUNK_BYTES)):
                break
            self._count()
        return self._stream.tell()

    def _count(self) -> None:
        position = self._stream.tell()
        if position > self._furthest and not self._is_plain:
            self._budget.spend(position - self._furthest)
            self._furthest = position


def _window(path: Path, name: str, offset: int, length: int) -> Source:
    """A member in place; of one that the archive's end cuts off, what is there."""
    digest = hashlib.sha256()
    with FileWindow(str(path), offset, length) as window:
        available = len(window)
        while piece := window.read(CHUNK_BYTES):
            digest.update(piece)
    return Source(name, digest.hexdigest(), available, Access(str(path), offset, available))


def _spooled(
    reader: ByteReader, name: str, config: SourcesConfig, budget: Budget | None, spool: Path
) -> Source:
    max_bytes = int(config.max_member_gb * GIB)
    sha256, num_bytes, path = spool_stream(reader, spool, PurePosixPath(name).suffix, max_bytes=max_bytes,
                                           budget=budget)
    return Source(name, sha256, num_bytes, Access(str(path)))


def _check_count(index: int, config: SourcesConfig) -> None:
    if index >= config.max_members:
        raise Refused(f"more than {config.max_members} members (curation.sources.max_members); the rest is not read")


def _check_member(name: str, size: int, config: SourcesConfig) -> None:
    """Refuses by name and announced size, before anything is read."""
    if ".." in _parts(name) or name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name) or "\0" in name:
        raise Refused("unsafe name: it points outside the archive")
    if is_archive(name):
        raise Refused("archive inside an archive; unpack the outer one")
    if reason := not_a_film(name):
        raise Refused(reason)
    if size > config.max_member_gb * GIB:
        raise Refused(f"larger than {config.max_member_gb:g} GB (curation.sources.max_member_gb)")


def _parts(name: str) -> list[str]:
    return re.split(r"[/\\]", name)


def _safe_suffix(suffix: str) -> str:
    return suffix.lower() if re.fullmatch(r"\.[A-Za-z0-9]{1,8}", suffix) else ""


def _sentence(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
