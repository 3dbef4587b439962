"""Records on disk: canonical JSON and files that appear whole or not at all."""

from __future__ import annotations

import json
import math
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

from pipeline.errors import UserError

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


def canonical_json(obj: object) -> str:
    """Returns the one text that stands for `obj`: sorted keys, no spaces, ASCII.

    Dataclasses become objects, enums their values, fractions "1/24". TypeError for anything else, paths above all:
    what depends on a machine has no place in a key. ValueError for NaN and infinities.
    """
    return json.dumps(to_plain(obj), sort_keys=True, separators=(",", ":"), allow_nan=False)


def to_plain(obj: object) -> Json:
    """Returns `obj` out of JSON's own types; see canonical_json for what is refused."""
    if isinstance(obj, Enum):
        return to_plain(obj.value)
    if obj is None or isinstance(obj, bool | int | str):
        return obj
    if isinstance(obj, float):
        if not math.isfinite(obj):
            raise ValueError(f"{obj} cannot be recorded: records hold finite numbers only")
        return obj
    if isinstance(obj, Fraction):
        return f"{obj.numerator}/{obj.denominator}"
    if is_dataclass(obj) and not isinstance(obj, type):
        return {spec.name: to_plain(getattr(obj, spec.name)) for spec in fields(obj)}
    if isinstance(obj, Mapping):
        for name in obj:
            if not isinstance(name, str):
                raise TypeError(f"{name!r} ({type(name).__name__}) cannot name a field of a record; only text can")
        return {str(name): to_plain(value) for name, value in obj.items()}
    if isinstance(obj, list | tuple):
        return [to_plain(value) for value in obj]
    raise TypeError(f"{type(obj).__name__} cannot be recorded: {obj!r}")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary name (same suffix); the file written there becomes `path`, or vanishes on any error.

    Parent folders are created. The bytes are on disk before the name is, so a power cut leaves no empty file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{secrets.token_hex(6)}-{path.name}")
    try:
        yield temporary
        sync_file(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_file(path: Path) -> None:
    """Returns once the bytes of `path` are on disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def write_bytes(path: Path, data: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 with the line ends as given."""
    write_bytes(path, text.encode())


def write_json(path: Path, obj: object, indent: int | None = None) -> None:
    """Writes what canonical_json accepts: the same bytes for the same content, ending in a newline."""
    separators = (",", ":") if indent is None else (",", ": ")
    text = json.dumps(to_plain(obj), sort_keys=True, separators=separators, allow_nan=False, indent=indent)
    write_text(path, text + "\n")


def read_json(path: Path, schema: int) -> dict[str, Json]:
    """Returns a record of this schema; UserError where it is absent, damaged or of another schema."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is absent", fix="Run the step that writes it again") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read", str(error), "Remove it and run the step that writes it") from error
    found = record.get("schema") if isinstance(record, dict) else None
    if found != schema:
        why = f"it has schema {found}; this version reads {schema}"
        raise UserError(f"{path} does not fit", why, "Write it again with this version, or read it with its own")
    return record
