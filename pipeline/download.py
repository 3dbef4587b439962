"""Ways to a weight file: the Hugging Face hub, the packages that know where theirs lie, any address.

Every function puts the file at `path` by rename, goes on where an earlier attempt stopped, and raises Unreachable with
the reason where the network or the other side fails.
"""

from __future__ import annotations

import hashlib
import shutil
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pipeline.errors import UserError, disk_is_full
from pipeline.hashing import file_digest
from pipeline.records import atomic_path, sync_file, write_text
from pipeline.weight_files import WeightFile
from pipeline.weights import parse_hub

if TYPE_CHECKING:
    from rich.progress import Progress

CHUNK_BYTES = 1 << 20
TIMEOUT_S = 30                 # without a byte; chosen here
PROBE_S = 10                   # for a first answer; chosen here
DIGEST_DIGITS = 8              # of the sha256, at the end of torchvision's file names


class Unreachable(Exception):
    """The network, the server or its terms stand between us and the file; the text says which."""


def is_complete(folder: Path) -> bool:
    """True for a hub repository that was fetched to its end, or put there by hand with its configuration."""
    return (folder / "config.json").is_file() and not any(folder.glob(".cache/huggingface/download/**/*.incomplete"))


def from_hub(file: WeightFile, path: Path, folder: Path) -> None:
    """Fetches through huggingface_hub, which resumes and knows the user's token; it shows its own progress."""
    import huggingface_hub
    from huggingface_hub import constants, errors

    hub = parse_hub(file.reference)
    if not answers(constants.ENDPOINT):  # the client would try for half a minute
        raise Unreachable("the Hugging Face hub cannot be reached")
    try:
        if hub.file:
            huggingface_hub.hf_hub_download(hub.repository, hub.file, revision=hub.revision or None,
                                            local_dir=folder / hub.folder)
        else:
            huggingface_hub.snapshot_download(hub.repository, revision=hub.revision or None, local_dir=folder / hub.folder,
                                              allow_patterns=list(file.patterns) or None)
    except errors.GatedRepoError as error:
        raise Unreachable(f"{hub.repository} asks to accept its terms on its page and then for HF_TOKEN") from error
    except errors.LocalEntryNotFoundError as error:  # also an EntryNotFoundError, and yet it says: no network
        raise Unreachable("the Hugging Face hub cannot be reached") from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError) as error:
        raise Unreachable(f"{file.reference} is not on the hub, or not for everybody") from error
    except (errors.HfHubHTTPError, OSError, HTTPException) as error:
        _raise_if_full(error, path)
        raise Unreachable(f"the Hugging Face hub cannot be reached ({type(error).__name__})") from error
    except Exception as error:
        # The client's transport is its own choice and changes with its versions; its errors are told by their package.
        if not type(error).__module__.startswith(("httpx", "requests", "urllib3", "hf_xet", "httpcore")):
            raise
        raise Unreachable(f"the Hugging Face hub cannot be reached ({type(error).__name__})") from error


def answers(address: str) -> bool:
    """True if a server answers at an http(s) address, whatever it says."""
    try:
        request = urllib.request.Request(address, method="HEAD")  # noqa: S310 - the hub's own address
        with urllib.request.urlopen(request, timeout=PROBE_S):  # noqa: S310
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, HTTPException):
        return False


def from_torchvision(file: WeightFile, path: Path, folder: Path) -> None:
    """Fetches from where torchvision says; the name of such a file ends in the first digits of its sha256."""
    from torchvision.models import get_weight

    get(str(get_weight(file.reference.partition(":")[2]).url), path)
    expected, found = path.stem.rpartition("-")[2], file_digest(path)
    if not found.startswith(expected[:DIGEST_DIGITS]):
        path.unlink()
        raise Unreachable(f"what came has sha256 {found[:DIGEST_DIGITS]}..., not {expected}...")


def from_easyocr(file: WeightFile, path: Path, folder: Path) -> None:
    """Fetches EasyOCR's archive, takes the file out of it and compares it with the MD5 that the package holds."""
    from easyocr.config import detection_models

    known = detection_models[file.reference.partition(":")[2]]
    archive = path.with_name(f"{path.name}.zip")
    get(known["url"], archive)
    try:
        with zipfile.ZipFile(archive) as opened, opened.open(known["filename"]) as member, atomic_path(path) as temporary, \
                temporary.open("wb") as out:
            shutil.copyfileobj(member, out)
    except (zipfile.BadZipFile, KeyError) as error:
        raise Unreachable(f"the archive of EasyOCR is damaged ({error})") from error
    finally:
        archive.unlink(missing_ok=True)
    if hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() != known["md5sum"]:
        path.unlink()
        raise Unreachable("the file is not the one that EasyOCR knows")


def from_address(address: str) -> Callable[[WeightFile, Path, Path], None]:
    """Returns a way to the file at an http(s) address, or to a copy of a file on this machine."""
    def fetch(file: WeightFile, path: Path, folder: Path) -> None:
        if _is_web(address):
            get(address, path)
            return
        if not Path(address).is_file():
            raise UserError(f"source.{file.name}={address} is not there", fix="Give an http(s) address or a file")
        with atomic_path(path) as temporary:
            shutil.copyfile(address, temporary)
    return fetch


def get(address: str, path: Path) -> None:
    """Fetches an http(s) address to `path`, by way of `<path>.part`, which a later call continues.

    A part is continued only if the server says that the content is still the same (ETag or date); otherwise it starts
    anew. Raises Unreachable; the part stays.
    """
    if not _is_web(address):
        raise UserError(f"{address} cannot be fetched", "it is no http(s) address", "Give another")
    part, mark = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.part.mark")
    path.parent.mkdir(parents=True, exist_ok=True)
    have = part.stat().st_size if part.is_file() and mark.is_file() else 0
    request = urllib.request.Request(address)  # noqa: S310 - http(s) only, see above
    if have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", mark.read_text(encoding="utf-8").strip())
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310
            is_rest = response.status == 206
            have = have if is_rest else 0
            same = response.headers.get("ETag") or response.headers.get("Last-Modified")
            if same and not same.startswith("W/"):  # a weak tag promises no equal bytes
                write_text(mark, same + "\n")
            else:
                mark.unlink(missing_ok=True)
            total = have + int(response.headers["Content-Length"]) if "Content-Length" in response.headers else None
            _save(response, part, path.name, have, total)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the part is longer than the file: it is another file's
            part.unlink(missing_ok=True)
        raise Unreachable(f"the server answers {error.code} {error.reason}") from error
    except (OSError, HTTPException) as error:
        _raise_if_full(error, path)
        reason = getattr(error, "reason", None) or error
        raise Unreachable(f"no answer ({reason}); what has come is kept, the same command goes on there") from error
    if total is not None and part.stat().st_size != total:
        came = f"{part.stat().st_size:,} of {total:,} bytes"
        raise Unreachable(f"the connection broke after {came}; the same command goes on there")
    sync_file(part)
    part.replace(path)
    mark.unlink(missing_ok=True)


def _is_web(address: str) -> bool:
    return urlsplit(address).scheme in ("http", "https")


def _save(response: HTTPResponse, part: Path, name: str, have: int, total: int | None) -> None:
    with _progress() as progress, part.open("ab" if have else "wb") as out:
        task = progress.add_task(name, total=total, completed=have)
        while piece := response.read(CHUNK_BYTES):
            out.write(piece)
            progress.advance(task, len(piece))


def _progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    return Progress(TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
                    TimeRemainingColumn(), console=Console(stderr=True))


def _raise_if_full(error: BaseException, path: Path) -> None:
    if disk_is_full(error):
        raise UserError(f"{path} cannot be written", "the disk is full", "Make room and run the same command") from error
