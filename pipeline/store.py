"""The artifact store: folders named by their content key that appear whole or not at all.

Layout: <root>/<kind>/<key[:2]>/<key>/ with the outputs and step.json; a folder without step.json does not exist for
readers. Work in progress lies in <root>/.tmp/<host>-<pid>-<token>/.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.records import sync_file, write_json

STEP_SCHEMA = 1
STEP_FILE = "step.json"
FOREIGN_AGE_S = 7 * 24 * 3600  # temporaries of other hosts, whose processes cannot be seen from here; chosen here

_in_progress: set[str] = set()  # names of this process's own temporaries


class Store:
    """Artifacts of many runs and processes, also on a shared file system."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, kind: str, key: str) -> Path:
        """Where the artifact is or would be."""
        assert re.fullmatch(r"[a-z0-9_]+", kind), f"{kind!r} is no kind of artifact"
        assert re.fullmatch(r"[A-Za-z0-9_-]{3,128}", key), f"{key!r} is no key"
        return self.root / kind / key[:2] / key

    def has(self, kind: str, key: str) -> bool:
        return (self.path(kind, key) / STEP_FILE).is_file()

    @contextmanager
    def publish(self, kind: str, key: str) -> Iterator[Path]:
        """Yields a temporary folder; what is in it at the end becomes the artifact, step.json last.

        If another process published the same key meanwhile, ours is dropped: both hold the same content. On an error
        nothing remains.
        """
        final = self.path(kind, key)
        temporary = self._temporary()
        try:
            yield temporary
            files = {str(path.relative_to(temporary).as_posix()): path for path in _files(temporary)}
            for path in files.values():
                sync_file(path)
            sizes = {name: path.stat().st_size for name, path in files.items()}
            write_json(temporary / STEP_FILE, {"schema": STEP_SCHEMA, "kind": kind, "key": key, "files": sizes})
            final.parent.mkdir(parents=True, exist_ok=True)
            if not self.has(kind, key):
                if final.exists():
                    self.remove(kind, key)  # a folder without step.json is debris
                try:
                    temporary.rename(final)
                except OSError:
                    if not self.has(kind, key):
                        raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            _in_progress.discard(temporary.name)

    def remove(self, kind: str, key: str) -> None:
        """Removes an artifact, if there is one; readers see all of it or nothing."""
        temporary = self._temporary()
        try:
            self.path(kind, key).rename(temporary)
        except FileNotFoundError:
            pass
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            _in_progress.discard(temporary.name)

    def sweep(self) -> int:
        """Removes what dead processes left behind; returns how many temporaries that were."""
        found = sorted((self.root / ".tmp").glob("*")) if self.root.is_dir() else []
        stale = [path for path in found if _is_stale(path)]
        for path in stale:
            shutil.rmtree(path, ignore_errors=True)
        return len(stale)

    def _temporary(self) -> Path:
        name = f"{_host()}-{os.getpid()}-{secrets.token_hex(6)}"
        _in_progress.add(name)
        path = self.root / ".tmp" / name
        path.mkdir(parents=True)
        return path


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", socket.gethostname())


def _is_stale(path: Path) -> bool:
    if path.name in _in_progress:
        return False
    host, _, rest = path.name.partition("-")
    pid = rest.partition("-")[0]
    if host != _host() or not pid.isdigit():
        try:
            return time.time() - path.stat().st_mtime > FOREIGN_AGE_S
        except FileNotFoundError:
            return False
    # A process number of ours that is not in progress belongs to an earlier process with the same number.
    return int(pid) == os.getpid() or not _is_alive(int(pid))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
