"""Weights: references to files, reading them without running code, and loading them strictly.

A reference is a path, `hf:owner/name/file@revision#sha256` (revision and digest may be left out, the file may lie in
subfolders, without a file the whole repository is meant), `torchvision:...` or `easyocr:...` as the catalogue writes
them, a name of the catalogue, or `embedded:...`: a small model of seeded random weights, which needs no file. Files are
looked for, never fetched: that is pipeline.fetch.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import weight_files, weight_kinds
from pipeline.errors import UserError, nearest
from pipeline.hashing import file_digest
from pipeline.records import atomic_path, write_text

if TYPE_CHECKING:
    from torch import Tensor, nn

FOLDER_VARIABLE = "TOONFORGE_WEIGHTS"
DEFAULT_FOLDER = "weights"
EMBEDDED = "embedded:"
FORWARD_PREFIX = "_forward_module."                     # 16 characters, put before every name by DeepSpeed's wrapper
_WRAPPERS = (FORWARD_PREFIX, "module.", "_orig_mod.")   # ... by DataParallel, by torch.compile
_CONTAINERS = ("state_dict", "module")                  # Lightning, DeepSpeed: these win over other entries
_OTHER_CONTAINERS = ("model", "model_state_dict", "ema", "params", "params_ema", "weights")
_HUB = re.compile(
    r"hf:(?P<repository>[\w.-]+/[\w.-]+)(?:/(?P<file>[^@#]+))?(?:@(?P<revision>[^#]+))?(?:#(?P<sha256>[0-9a-f]{64}))?")
_PATH = re.compile(r"(?P<path>.+?)(?:#(?P<sha256>[0-9a-f]{64}))?")


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file, or with an empty `file` all files, of a repository on the Hugging Face hub."""

    repository: str
    file: str
    revision: str              # empty: the newest
    sha256: str

    @property
    def folder(self) -> str:
        """Where the repository lies inside the weights folder; each revision has its own place."""
        return f"{self.repository}@{self.revision.replace('/', '_')}" if self.revision else self.repository


def is_embedded(reference: str) -> bool:
    """True for `embedded:...`: seeded random weights, no file."""
    return reference.startswith(EMBEDDED)


def parse_hub(reference: str) -> HubFile:
    """Takes `hf:owner/name/file@revision#sha256` apart; UserError for anything else."""
    found = _HUB.fullmatch(reference)
    if not found or {"", ".", ".."} & set(re.split(r"[@#]", reference)[0].removeprefix("hf:").split("/")):
        why = "a hub reference is hf:owner/name/file@revision#sha256, the digest being 64 hexadecimal digits"
        raise UserError(f"{reference} cannot be read", why, "Revision and digest may be left out")
    return HubFile(**{name: value or "" for name, value in found.groupdict().items()})


def weights_folder(folder: Path | None = None) -> Path:
    """Returns the given folder, or that of TOONFORGE_WEIGHTS, or weights/."""
    return folder if folder is not None else Path(os.environ.get(FOLDER_VARIABLE) or DEFAULT_FOLDER)


def resolve(reference: str, *, folder: Path | None = None) -> Path:
    """Returns the file (or the folder of a whole hub repository) that a reference stands for.

    Hub files are looked for in the weights folder, then in the cache of huggingface_hub. Where a digest is known, from
    the reference or the catalogue, it is checked. UserError says what is absent and what fetches it.
    """
    assert not is_embedded(reference), f"{reference} needs no file"
    folder = weights_folder(folder)
    known = weight_files.find(reference)
    if known is not None and reference == known.name and not Path(reference).exists():
        reference = known.reference
    if reference.startswith("hf:"):
        hub = parse_hub(reference)
        path, sha256 = folder / hub.folder / hub.file, hub.sha256
        if not path.exists():
            path = _cached(hub) or path
    elif known is not None and not known.is_by_hand:
        path, sha256 = folder / known.file, ""
    else:
        found = _PATH.fullmatch(reference)
        assert found, "an empty reference"
        path, sha256 = Path(found["path"]), found["sha256"] or ""
        path = path if path.exists() or path.is_absolute() else folder / path
    if not path.exists():
        raise _absent(reference, path, folder, known)
    _check(path, sha256 or (known.sha256 if known else None), reference)
    return path


def digest(path: Path) -> str:
    """Returns the sha256 of a file, from the record beside it where that is still true."""
    record, stat = _record(path), path.stat()
    if record.is_file():
        lines = record.read_text(encoding="utf-8", errors="replace").splitlines()
        if len(lines) == 2 and lines[1] == f"# {stat.st_size} bytes, changed {stat.st_mtime_ns}":
            return lines[0].partition(" ")[0]
    return file_digest(path)


def record_digest(path: Path) -> str:
    """Writes the sha256 beside the file, as `sha256sum -c` reads it, and returns it; what was recorded is not read again."""
    found, stat = digest(path), path.stat()
    with contextlib.suppress(OSError):  # a folder of somebody else's; the next reader computes it again
        write_text(_record(path), f"{found}  {path.name}\n# {stat.st_size} bytes, changed {stat.st_mtime_ns}\n")
    return found


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Returns the named tensors of a safetensors or torch file, in the file's own precision, on the CPU.

    Containers are opened (`state_dict`, DeepSpeed's `module`, `model`), prefixes of wrappers removed, and the fps layers
    of the 256 model get their later name. No code of the file is run: a pickle that needs some is refused. UserError
    for everything that cannot be read.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise UserError(f"{path} cannot be read", error.strerror or str(error), "Give a weight file") from error
    found = _read_safetensors(path) if head[8:9] == b"{" else _read_torch(path, head)
    return {name.replace("framestride_embed", "fps_embedding"): tensor for name, tensor in _unwrap(found, path).items()}


def load_into(module: nn.Module, tensors: Mapping[str, Tensor], *, source: str, prefix: str = "",
              may_miss: Callable[[str], bool] = lambda name: False) -> list[str]:
    """Loads the tensors whose names begin with `prefix`, which is cut off, into a module, in the module's precision.

    Strict: UserError with a table and a guess what `source` is, unless names and shapes agree. Only names for which
    `may_miss` is true may be absent; those keep their values and are returned. A module on the meta device gets its
    memory here.
    """
    chosen = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    own = module.state_dict()
    kept = [name for name in own if name not in chosen and may_miss(name)]
    expected = {name: tuple(tensor.shape) for name, tensor in own.items() if name not in kept}
    given = {name: tuple(tensor.shape) for name, tensor in chosen.items()}
    if expected != given:
        all_shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        raise weight_kinds.mismatch(type(module).__name__, expected, given, source=source, prefix=prefix, whole=all_shapes)
    on_meta = any(tensor.is_meta for tensor in own.values())
    if on_meta:  # nothing to copy into: the module takes over a copy, so that it does not hang on the file
        chosen = {name: tensor.to(own[name].dtype, copy=True) for name, tensor in chosen.items()}
    module.load_state_dict(chosen, strict=not kept, assign=on_meta)
    left = [name for name, buffer in module.named_buffers() if buffer.is_meta]
    assert not left, f"no file fills {left}: such buffers must be made in the forward pass"
    return kept


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes safetensors by rename; memory that several names share is written out for each."""
    from safetensors.torch import save_file

    seen: set[int] = set()
    plain: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        address = tensor.untyped_storage().data_ptr()
        plain[name] = tensor.clone() if address in seen else tensor
        seen.add(address)
    with atomic_path(path) as temporary:
        save_file(plain, temporary, metadata=dict(metadata))


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error


def _read_torch(path: Path, head: bytes) -> object:
    import torch

    if head[:9].lower() in (b"<!doctype", b"<html>\n<h") or head[:5].lower() == b"<html":
        raise UserError(f"{path} is a web page", "the download saved a page instead of the file", "Fetch it again")
    if head.startswith(b"version ") and b"git-lfs" in head:
        raise UserError(f"{path} is a pointer of Git LFS", "the file itself was not fetched", "Run: git lfs pull")
    is_zip = head.startswith(b"PK")
    if is_zip and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any("/code/" in name for name in archive.namelist()):
                raise _has_code(path, "it is a TorchScript program")
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        if found is None:
            raise _damaged(path, str(error).splitlines()[0]) from error
        raise _has_code(path, f"it names {found.group(1)}") from error
    except Exception as error:  # damaged bytes raise whatever they happen to spell
        raise _damaged(path, (str(error) or type(error).__name__).splitlines()[0]) from error


def _unwrap(found: object, path: Path) -> dict[str, Tensor]:
    from torch import Tensor

    while isinstance(found, Mapping):
        inner = [name for name in _CONTAINERS if isinstance(found.get(name), Mapping)][:1]
        inner = inner or [name for name in _OTHER_CONTAINERS if isinstance(found.get(name), Mapping)]
        tensors = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
        if tensors and not inner:
            for wrapper in _WRAPPERS:
                if all(name.startswith(wrapper) for name in tensors):
                    tensors = {name.removeprefix(wrapper): value for name, value in tensors.items()}
            return tensors
        if len(inner) > 1:
            raise UserError(f"{path} holds several sets of weights", ", ".join(inner), "Write one of them to a file of its own")
        if not inner:
            break
        found = found[inner[0]]
    kind = "the state of an optimizer" if isinstance(found, Mapping) and "param_groups" in found else "no named tensors"
    raise UserError(f"{path} holds {kind}", "weights are wanted", "Give the file of the weights themselves")


def _has_code(path: Path, why: str) -> UserError:
    fix = "Where you trust it, convert it to safetensors with its own program, then give that file"
    return UserError(f"{path} would have to run code to be read", f"{why}, and weights are read without running any", fix)


def _damaged(path: Path, reason: str) -> UserError:
    size_mb = path.stat().st_size / 1e6
    return UserError(f"{path} ({size_mb:,.1f} MB) is damaged or incomplete", reason.strip().rstrip("."), "Fetch it again")


def _absent(reference: str, path: Path, folder: Path, known: weight_files.WeightFile | None) -> UserError:
    if known is not None:
        profile = f"make weights PROFILE={known.profiles[0]}"
        command = f"{profile} FILES={known.name}" if known.is_optional else profile
        size = f"{known.purpose}, {weight_kinds.size_text(known.size_mb)}"
        if known.is_by_hand:
            return UserError(f"{path} is absent", size, f"Get it from {known.origin} and put it there; see docs/weights.md")
        return UserError(f"{path} is absent", size, f"Fetch it with {command}, or put it there by hand")
    if reference.startswith("hf:"):
        fix = f"Fetch it with make weights FILES='{reference}', or put it there by hand"
        return UserError(f"{path} is absent", f"{reference} is not here", fix)
    choices = [file.name for file in weight_files.CATALOGUE]
    choices += [found.name for found in folder.iterdir()] if folder.is_dir() else []
    choices += [found.name for found in Path(reference).parent.iterdir()] if Path(reference).parent.is_dir() else []
    near = nearest(Path(reference).name, choices)
    fix = f"Did you mean {near}?" if near else "Give a path, hf:owner/name/file or a name of docs/weights.md"
    return UserError(f"weights {reference} are absent", f"neither the path nor {folder / reference} exists", fix)


def _check(path: Path, sha256: str | None, reference: str) -> None:
    if sha256 and path.is_file() and record_digest(path) != sha256:
        why = f"its sha256 is {digest(path)[:12]}..., and {reference.partition('#')[0]} has {sha256[:12]}..."
        raise UserError(f"{path} is not the file it should be", why, "Remove it and fetch it again")


def _cached(hub: HubFile) -> Path | None:
    """Returns where huggingface_hub keeps the file, if another program has fetched it already."""
    if not hub.file:
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(hub.repository, hub.file, revision=hub.revision or None)
    return Path(found) if isinstance(found, str) else None


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")
