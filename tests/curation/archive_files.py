"""Archives for tests, and what the identify stage makes of them."""

from __future__ import annotations

import io
import random
import tarfile
import zipfile
from pathlib import Path

from curation.config import SourcesConfig
from curation.decode import FileWindow
from curation.ledger import Source, SourceRecord, Status
from curation.sources import Identify, walk

NOISE = random.Random(3).randbytes(50_000)   # does not pack: never over an expansion limit
FILMS = {"a/film.mp4": NOISE, "b.mkv": NOISE[:999] + b"end", "notes.txt": b"words"}


def make_config(**changes) -> SourcesConfig:
    values = {"max_pixels": 1 << 26, "max_member_gb": 1.0, "max_expansion": 100.0, "max_members": 1000,
              "min_pictures": 8, "picture_fps": 24.0, "download_timeout_s": 5.0}
    return SourcesConfig(**{**values, **changes})


def identify(archive: Path | str, spool: Path, **changes) -> dict[str, Source | SourceRecord]:
    config = make_config(**changes)
    stage = Identify(config, str(spool))
    stage.setup()
    rows = [row for rows in stage(walk(str(archive), config)) for row in rows]
    names = [row.name for row in rows]
    assert len(names) == len(set(names))
    return {row.name: row for row in rows}


def read_bytes(source: Source) -> bytes:
    with FileWindow(source.access.path, source.access.offset or 0, source.access.length) as window:
        return window.read()


def reason(row: Source | SourceRecord) -> str:
    assert isinstance(row, SourceRecord) and row.status is Status.QUARANTINED
    return row.error


def make_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def make_zip(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path
