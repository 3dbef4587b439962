"""What must be known of every clip before the first step: which can be used at all, for which size, and how long they are.

The facts come from the json members of the shards. Reading those of a large data set far away takes a while, so the table is
kept in the cache folder under the digests of the shards.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.errors import UserError
from pipeline.hashing import content_key
from pipeline.records import read_json, write_json
from pipeline.shards import ShardReader
from training.data.clips import SAMPLE_SCHEMA

TABLE_SCHEMA = 1
_AT_ONCE = 4096              # members asked for together

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ClipFacts:
    """One clip, by its record and the index of its shard."""

    key: str
    num_frames: int
    num_drawings: int
    width: int               # 0 where the record does not say
    height: int
    has_sketches: bool


@dataclass(frozen=True, slots=True)
class Damage:
    """A sample that cannot be used, and the sample number at which that was seen; None: before the first."""

    key: str
    reason: str
    number: int | None = None


class DamageReport:
    """Damaged clips, each logged once: `damages` in the order they were met."""

    def __init__(self) -> None:
        self.damages: list[Damage] = []
        self._keys: set[str] = set()

    def add(self, damages: Sequence[Damage], *, is_logged: bool = True) -> None:
        for damage in damages:
            if damage.key in self._keys:
                continue
            self._keys.add(damage.key)
            self.damages.append(damage)
            if is_logged:
                _log.warning("event=damaged_sample key=%s sample=%s reason=%s", damage.key,
                             "none" if damage.number is None else damage.number, damage.reason)


@dataclass(frozen=True, slots=True)
class ClipTable:
    clips: tuple[ClipFacts, ...]       # in the order of the shards
    damages: tuple[Damage, ...]


def read_table(shards: ShardReader, cache_folder: Path | None = None) -> ClipTable:
    """The facts of all clips of a reader; UserError where its samples were written with another schema."""
    digest = content_key(shards=[shard.sha256 for shard in shards.shards], samples=SAMPLE_SCHEMA, table=TABLE_SCHEMA)
    cached = cache_folder / "clips" / f"{digest}.json" if cache_folder else None
    if cached is not None and cached.is_file():
        try:
            return _from_record(read_json(cached, TABLE_SCHEMA))
        except (UserError, KeyError, TypeError) as error:
            _log.warning("event=clip_table_unreadable path=%s reason=%s; it is written again", cached, error)
    table = _build(shards)
    if cached is not None:
        write_json(cached, {"schema": TABLE_SCHEMA, **asdict(table)})
    return table


def _build(shards: ShardReader) -> ClipTable:
    clips: list[ClipFacts] = []
    damages = [Damage(key, f"it has no {name}") for key in shards.keys for name in ("mp4", "json")
               if name not in shards.extensions(key)]
    broken = {damage.key for damage in damages}
    keys = [key for key in shards.keys if key not in broken]
    for first in range(0, len(keys), _AT_ONCE):
        some = keys[first : first + _AT_ONCE]
        for key, data in zip(some, shards.read_many(some, "json"), strict=True):
            try:
                clips.append(_facts(key, data, has_sketches="sketch.npz" in shards.extensions(key)))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                damages.append(Damage(key, f"its json cannot be read ({type(error).__name__}: {error})"))
    return ClipTable(tuple(clips), tuple(damages))


def _facts(key: str, data: bytes, *, has_sketches: bool) -> ClipFacts:
    record = json.loads(data)
    if record.get("schema") != SAMPLE_SCHEMA:
        # Not one damaged sample: the whole data set is of another version.
        raise UserError(f"sample {key} has schema {record.get('schema')}", f"this version reads {SAMPLE_SCHEMA}",
                        "Run the curation again with this version")
    holds = [int(hold) for hold in record["holds"]]
    if not holds or min(holds) < 1 or not float(record["fps"]) > 0:
        raise ValueError("holds and fps must be positive")
    return ClipFacts(key, sum(holds), len(holds), int(record.get("width", 0)), int(record.get("height", 0)), has_sketches)


def _from_record(record: Mapping[str, object]) -> ClipTable:
    clips, damages = record["clips"], record["damages"]
    assert isinstance(clips, list) and isinstance(damages, list)
    return ClipTable(tuple(ClipFacts(**clip) for clip in clips), tuple(Damage(**damage) for damage in damages))
