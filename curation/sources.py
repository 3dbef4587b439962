"""What a raw archive contains: a walk over names on the driver, then bytes hashed and archives opened by workers.

Everything found becomes a row: a source that can be probed, or a quarantined record that says why it cannot. Only
hidden files and the outputs of a curation are passed over.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import unquote, urlsplit

from curation.archives import (
    PICTURE_SUFFIXES,
    is_archive,
    is_hidden,
    label,
    not_a_film,
    quarantined,
    read_archive,
    spool_stream,
)
from curation.config import SourcesConfig
from curation.ledger import Access, Source, SourceRecord
from curation.stage import Resources
from pipeline.errors import UserError, disk_is_full
from pipeline.hashing import CHUNK_BYTES, file_digest

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

IDENTIFY_VERSION = 1
MAX_NUMBER_SPREAD = 2        # numbers of a picture film may span so many times its pictures: gaps are small
ARTIFACTS_FOLDER = "artifacts"
MANIFEST_FILE = "manifest.json"

_NUMBERED = re.compile(r"(.*?)(\d+)(\.[A-Za-z]+)")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


class EntryKind(StrEnum):
    FILE = "file"
    ARCHIVE = "archive"
    PICTURES = "pictures"
    URL = "url"


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing the walk found, known by name only."""

    name: str                          # inside the archive, with "/"; "scene/frame_*.png" for numbered pictures
    path: str                          # local path or URL; of pictures, their folder
    kind: EntryKind
    pictures: tuple[str, ...] = ()     # file names in order
    refused: str = ""                  # why it cannot be a source, where the name or the link already says so


def walk(archive: str, config: SourcesConfig) -> list[Entry]:
    """Lists what an archive holds, sorted by name: a folder, a file, an archive file, or a URL of either.

    UserError when it is missing or empty.
    """
    entries = _walk_url(archive, config) if _URL.match(archive) else _walk_local(Path(archive).expanduser(), config)
    if not entries:
        raise UserError(f"archive={archive} is empty", "there is no file in it",
                        "Give a folder, a film, a .zip or .tar, or a URL")
    return sorted(entries, key=lambda entry: (entry.name, entry.path))


class Identify:
    """Stage: an entry becomes the sources in it, each with the digest of its bytes."""

    name = "identify"
    version = IDENTIFY_VERSION
    takes = Entry
    batch_size = 1
    resources = Resources(cpus=0, memory_gb=0.5)

    def __init__(self, config: SourcesConfig, spool: str) -> None:
        self.config = config
        self.spool = spool             # folder for what has to be unpacked or downloaded

    def setup(self) -> None:
        pass

    def __call__(self, rows: list[Entry]) -> list[list[Source | SourceRecord]]:
        return [list(self._identify(entry)) for entry in rows]

    def failed(self, row: Entry, error: str) -> SourceRecord:
        return quarantined(row.name, error)

    def _identify(self, entry: Entry) -> Iterator[Source | SourceRecord]:
        reason = entry.refused or (not_a_film(entry.name) if entry.kind in (EntryKind.FILE, EntryKind.URL) else "")
        if reason:
            yield quarantined(entry.name, reason)
            return
        try:
            match entry.kind:
                case EntryKind.FILE:
                    path = Path(entry.path)
                    yield Source(entry.name, file_digest(path), path.stat().st_size, Access(entry.path))
                case EntryKind.PICTURES:
                    yield _identify_pictures(entry)
                case EntryKind.ARCHIVE:
                    yield from read_archive(Path(entry.path), entry.name, self.config, Path(self.spool))
                case EntryKind.URL:
                    yield from self._download(entry)
        except OSError as error:
            if disk_is_full(error):
                raise
            yield quarantined(entry.name, f"cannot be read: {error.strerror or error}")

    def _download(self, entry: Entry) -> Iterator[Source | SourceRecord]:
        """One pass over the network; archives are then read from the spool."""
        suffix = Path(entry.name).suffix
        try:
            with _open_url(entry.path, self.config.download_timeout_s) as stream:
                sha256, num_bytes, path = spool_stream(stream, Path(self.spool), suffix)
        except Exception as error:  # every file system and network library has its own
            what = str(error).replace(entry.path, entry.name) or "no reason given"   # a URL may hold a signature
            yield quarantined(entry.name, f"download failed: {type(error).__name__}: {what}")
            return
        if is_archive(entry.name):
            yield from read_archive(path, entry.name, self.config, Path(self.spool))
        else:
            yield Source(entry.name, sha256, num_bytes, Access(str(path)))


def _identify_pictures(entry: Entry) -> Source:
    """Names and bytes make the digest, in the order of showing; lengths keep them apart."""
    digest, num_bytes = hashlib.sha256(), 0
    for picture in entry.pictures:
        path = Path(entry.path, picture)
        size = path.stat().st_size
        name = os.fsencode(picture)
        digest.update(b"%d:%s:%d:" % (len(name), name, size))
        with path.open("rb") as file:
            while piece := file.read(CHUNK_BYTES):
                digest.update(piece)
        num_bytes += size
    return Source(entry.name, digest.hexdigest(), num_bytes, Access(entry.path, pictures=entry.pictures))


def _walk_local(archive: Path, config: SourcesConfig) -> list[Entry]:
    if not archive.exists():
        raise UserError(f"archive={archive} does not exist", "", "Give a folder, a film, a .zip or .tar, or a URL")
    if not archive.is_dir():
        return [_file_entry(archive, archive.name)]
    entries: list[Entry] = []
    root = archive.resolve()
    for folder, folders, files in os.walk(archive):
        here = Path(folder)
        if here != archive and _is_output(here):
            folders.clear()
            continue
        inside = "" if here == archive else here.relative_to(archive).as_posix() + "/"
        for name in folders:
            if (here / name).is_symlink() and not is_hidden(name):
                entries.append(_refused(inside + name, here / name, "a link to a folder, which is not followed"))
        folders[:] = sorted(name for name in folders if not is_hidden(name) and not (here / name).is_symlink())
        plain: list[str] = []
        for name in sorted(files):
            if is_hidden(name):
                continue
            reason = _why_refused(here / name, root)
            if reason:
                entries.append(_refused(inside + name, here / name, reason))
            else:
                plain.append(name)
        films, rest = _group_pictures(plain, config.min_pictures)
        entries += [Entry(label(inside + name), str(here), EntryKind.PICTURES, pictures) for name, pictures in films]
        entries += [_file_entry(here / name, inside + name) for name in rest]
    return entries


def _group_pictures(names: list[str], min_pictures: int) -> tuple[list[tuple[str, tuple[str, ...]]], list[str]]:
    """Splits names into films of numbered pictures, as (label, names by number), and the rest."""
    groups: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    for name in names:
        match = _NUMBERED.fullmatch(name)
        if match and match[3].lower() in PICTURE_SUFFIXES:
            groups[match[1], match[3]].append((int(match[2]), name))
    films: list[tuple[str, tuple[str, ...]]] = []
    for (prefix, suffix), numbered in groups.items():
        numbered.sort()
        spread = numbered[-1][0] - numbered[0][0] + 1
        if len(numbered) >= min_pictures and spread <= MAX_NUMBER_SPREAD * len(numbered):
            films.append((f"{prefix}*{suffix}", tuple(name for _, name in numbered)))
    taken = {name for _, pictures in films for name in pictures}
    return films, [name for name in names if name not in taken]


def _file_entry(path: Path, name: str) -> Entry:
    return Entry(label(name), str(path), EntryKind.ARCHIVE if is_archive(name) else EntryKind.FILE)


def _refused(name: str, path: Path, reason: str) -> Entry:
    return Entry(label(name), str(path), EntryKind.FILE, refused=reason)


def _why_refused(path: Path, root: Path) -> str:
    try:
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            return "a link that leaves the archive, which is not followed"
        mode = path.stat().st_mode
    except (OSError, RuntimeError) as error:
        return f"cannot be read: {getattr(error, 'strerror', None) or 'a link in a circle'}"
    return "" if stat.S_ISREG(mode) else "not a video: no plain file (device, pipe or socket)"


def _is_output(folder: Path) -> bool:
    """Whether a curation wrote this folder: its artifacts, or shards with their manifest."""
    if folder.name == ARTIFACTS_FOLDER:
        return True
    try:
        manifest = json.loads((folder / MANIFEST_FILE).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(manifest, dict) and {"schema", "key", "shards"} <= manifest.keys()


def _walk_url(url: str, config: SourcesConfig) -> list[Entry]:
    """A URL of one file, or of a folder that its file system can list (over HTTP: a page of links, ending in "/")."""
    try:
        files, system = _open_file_system(url, config.download_timeout_s)
        if not (url.endswith("/") if _is_http(url) else files.isdir(system)):
            if not files.exists(system):
                raise UserError(f"archive={url} does not exist", "", "Check the address")
            return [Entry(_url_name(url), url, EntryKind.URL)]
        files.ls(system, detail=False)     # find() would hide why nothing can be listed
        found = files.find(system)
    except UserError:
        raise
    except ImportError as error:
        raise UserError(f"archive={url} needs a file system that is not installed", str(error),
                        "Install it, for S3: pip install 'toonforge[s3]'") from error
    except Exception as error:  # every file system has its own
        raise UserError(f"archive={url} cannot be listed", f"{type(error).__name__}: {error}",
                        "Check the address and your access") from error
    base = system.rstrip("/") + "/"
    names = {path: unquote(urlsplit(path).path if _is_http(path) else path) for path in found}
    base_name = unquote(urlsplit(base).path) if _is_http(base) else base
    return [
        Entry(name.removeprefix(base_name), path if _URL.match(path) else files.unstrip_protocol(path), EntryKind.URL)
        for path, name in names.items() if name.startswith(base_name) and not is_hidden(name.removeprefix(base_name))
    ]


def _open_file_system(url: str, timeout_s: float) -> tuple[AbstractFileSystem, str]:
    import fsspec

    options: dict[str, object] = {}
    if _is_http(url):
        import aiohttp

        # Silence is limited, not the whole download.
        options["client_kwargs"] = {
            "timeout": aiohttp.ClientTimeout(total=None, sock_connect=timeout_s, sock_read=timeout_s)
        }
    return fsspec.core.url_to_fs(url, **options)


def _open_url(url: str, timeout_s: float) -> BinaryIO:
    files, path = _open_file_system(url, timeout_s)
    # Without block size 0 an HTTP server without ranges would be read into memory.
    return files.open(path, "rb", block_size=0) if _is_http(url) else files.open(path, "rb")


def _is_http(url: str) -> bool:
    return url.lower().startswith(("http://", "https://"))


def _url_name(url: str) -> str:
    return unquote(urlsplit(url).path).rstrip("/").rpartition("/")[2] or urlsplit(url).netloc
