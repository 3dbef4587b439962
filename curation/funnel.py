"""What became of everything: the counts of a curation, and its ledger as two tables.

All of it are pure functions of the rows. The tables keep the same columns whatever was measured, so that tables of
several curations can be put together; where a gate did not measure a clip, its columns are null.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from fractions import Fraction
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq

from curation.gates.text_detector import OVERLAY, TextOverlay
from curation.ledger import Clip, SourceRecord, Status, flat_scores
from curation.verdicts import CASCADE, NAMES, SECOND_LOOKS
from pipeline.records import Json, atomic_path

SUMMARY_SCHEMA = 1
NOT_MEASURED = ("aesthetic", "alignment")              # by profile=embedded: models of these lie in no wheel
GATE_SCORES: dict[str, type] = {gate.GATE: get_type_hints(gate.decide)["score"] for gate in CASCADE}

OTHER_SCORES: dict[str, type] = {OVERLAY: TextOverlay,
    **{name: get_type_hints(decide)["score"] for name, decide in SECOND_LOOKS.values()}}

_SOURCE_COLUMNS: dict[str, pa.DataType] = {
    "path": pa.string(), "sha256": pa.string(), "bytes": pa.int64(), "title": pa.string(), "status": pa.string(),
    "error": pa.string(), "note": pa.string(), "duplicate_of": pa.string(), "container": pa.string(),
    "codec": pa.string(), "pix_fmt": pa.string(), "bit_depth": pa.int32(), "width": pa.int32(), "height": pa.int32(),
    "rotation_deg": pa.int32(), "sample_aspect": pa.string(), "fps": pa.float64(), "duration_s": pa.float64(),
    "frames": pa.int64(), "decode_errors": pa.int64(), "shots": pa.int64(), "has_audio": pa.bool_(),
    "logo": pa.list_(pa.float64()), "subtitles": pa.list_(pa.float64()),
}
_PROBE_COLUMNS = ("container", "codec", "pix_fmt", "bit_depth", "width", "height", "rotation_deg", "fps", "duration_s",
                  "has_audio")
_CLIP_COLUMNS: dict[str, pa.DataType] = {
    "key": pa.string(), "source": pa.string(), "sha256": pa.string(), "title": pa.string(), "shot": pa.int64(),
    "clip": pa.int64(), "start_pts": pa.int64(), "end_pts": pa.int64(), "time_base": pa.string(),
    "start_s": pa.float64(), "end_s": pa.float64(), "frames": pa.int64(), "fps": pa.float64(),
    "start_frame": pa.int64(), "end_frame": pa.int64(), "cadence": pa.string(), "drawings": pa.int64(),
    "crop": pa.list_(pa.int32()), "repeat_kind": pa.string(), "repeat_level": pa.string(), "repeat_first": pa.string(),
    "repeat_copies": pa.int64(),
}
_DECISION_COLUMNS: dict[str, pa.DataType] = {
    "verdict": pa.string(), "reason": pa.string(), "gate": pa.string(), "split": pa.string(), "caption": pa.string(),
    "caption_model": pa.string(), "not_measured": pa.string(),
}


def summarise(records: Sequence[SourceRecord], clips: Sequence[Clip], timings: Mapping[str, Mapping[str, float]],
              wall_s: float, *, not_measured: Sequence[str] = NOT_MEASURED) -> dict[str, Json]:
    """The content of summary.json; every clip must have its verdict. Gates `not_measured` have no count.

    timings: per stage rows, wall_s and cpu_s over all workers (executor.add_up); wall_s: of the whole run, seconds.
    `frames` are all frames of the usable sources; `frames_decoded` those surveyed in this run, because a survey that
    lies in the store is not made again.
    """
    usable = [record for record in records if record.status is Status.OK]
    statuses = Counter(record.status for record in records)
    frames_decoded = sum(record.num_frames for record in usable if record.cpu_s > 0)
    kept = [clip for clip in clips if is_kept(clip)]
    return {
        "schema": SUMMARY_SCHEMA,
        "sources": {"found": len(records), "ok": len(usable), "quarantined": statuses[Status.QUARANTINED],
                    "duplicates": statuses[Status.DUPLICATE], "damaged": sum(is_damaged(record) for record in usable)},
        "shots": sum(record.num_shots for record in usable),
        "clips": len(clips),
        "dropped": {gate: count for gate, count in _dropped(clips) if count or gate not in not_measured},
        "kept": {split: sum(clip.split == split for clip in kept) for split in ("train", "eval")},
        "kept_seconds": round(sum(clip.end_s - clip.start_s for clip in kept), 3),
        "frames": sum(record.num_frames for record in usable),
        "frames_decoded": frames_decoded,
        "film_seconds": round(sum(map(film_seconds, usable)), 3),
        "wall_s": round(wall_s, 3),
        "frames_per_s": round(frames_decoded / wall_s, 1) if wall_s > 0 else 0.0,
        "stages": {name: _stage(name, timing, frames_decoded) for name, timing in timings.items()},
    }


def is_kept(clip: Clip) -> bool:
    assert clip.verdict is not None, f"{clip.key} has no verdict"
    return clip.verdict.keep


def is_damaged(record: SourceRecord) -> bool:
    """Whether a usable source is one of which not everything could be read."""
    return record.decode_errors > 0 or "damaged" in record.note or "truncated" in record.note


def film_seconds(record: SourceRecord) -> float:
    """Length of what was decoded of a source; as announced where its frame rate is unknown."""
    if record.probe is None:
        return 0.0
    return record.num_frames / record.probe.fps if record.probe.fps > 0 else record.probe.duration_s or 0.0


def write_sources(path: Path, records: Sequence[SourceRecord]) -> None:
    """Writes sources.parquet: one row per source in the order of names; the same rows give the same bytes."""
    rows = [_source_row(record) for record in sorted(records, key=lambda record: (record.name, record.sha256))]
    _write_table(path, rows, _SOURCE_COLUMNS)


def write_clips(path: Path, clips: Sequence[Clip], *, not_measured: Sequence[str] = NOT_MEASURED) -> None:
    """Writes clips.parquet: one row per clip in the order of sources and frames; the same rows give the same bytes."""
    rows = [_clip_row(clip, ",".join(not_measured)) for clip in sorted(clips, key=lambda clip: (clip.source, clip.start_frame))]
    _write_table(path, rows, {**_CLIP_COLUMNS, **score_columns(), **_DECISION_COLUMNS})


def score_columns() -> dict[str, pa.DataType]:
    """Column and type of every score of every gate, "<gate>_<field>", in cascade order, then of second models."""
    columns: dict[str, pa.DataType] = {}
    for gate, score in {**GATE_SCORES, **OTHER_SCORES}.items():
        hints = get_type_hints(score)
        columns.update({f"{gate}_{spec.name}": _column_type(hints[spec.name]) for spec in fields(score)})
    return columns


def _dropped(clips: Sequence[Clip]) -> list[tuple[str, int]]:
    """How many clips each gate dropped, gates in cascade order, then what else dropped clips (a failed encode)."""
    counts = Counter(clip.verdict.gate for clip in clips if not is_kept(clip) and clip.verdict is not None)
    others = sorted(set(counts) - set(NAMES))
    return [(gate, counts[gate]) for gate in (*NAMES, *others)]


def _stage(name: str, timing: Mapping[str, float], frames_decoded: int) -> dict[str, Json]:
    entry: dict[str, Json] = {"rows": int(timing["rows"]), "wall_s": round(timing["wall_s"], 3),
                              "cpu_s": round(timing["cpu_s"], 3)}
    if name == "survey" and frames_decoded and timing["cpu_s"] > 0:
        entry["frames_per_cpu_s"] = round(frames_decoded / timing["cpu_s"], 1)
    return entry


def _source_row(record: SourceRecord) -> dict[str, Any]:
    probe = record.probe
    row: dict[str, Any] = {
        "path": record.name, "sha256": record.sha256, "bytes": record.num_bytes, "title": record.title,
        "status": record.status.value, "error": record.error if record.status is Status.OK else _why_unusable(record),
        "note": record.note, "duplicate_of": record.duplicate_of, "frames": record.num_frames,
        "decode_errors": record.decode_errors, "shots": record.num_shots,
    }
    if record.overlays is not None:
        row |= {name: list(place) for name in ("logo", "subtitles") if (place := getattr(record.overlays, name)) is not None}
    if probe is not None:
        row |= {name: getattr(probe, name) for name in _PROBE_COLUMNS}
        row["sample_aspect"] = _fraction(probe.sample_aspect)
    return row


def _why_unusable(record: SourceRecord) -> str:
    """Never empty, so that readers of the table need not know that duplicates explain themselves elsewhere."""
    if record.duplicate_of:
        return f"the same bytes as {record.duplicate_of}"
    return record.error or record.note or "unknown"


def _clip_row(clip: Clip, not_measured: str) -> dict[str, Any]:
    verdict = clip.verdict
    assert verdict is not None, f"{clip.key} has no verdict"
    repeat = {} if clip.repeat is None else {f"repeat_{name}": value for name, value in asdict(clip.repeat).items()}
    return {
        "key": clip.key, "source": clip.source, "sha256": clip.sha256, "title": clip.title, "shot": clip.shot_index,
        "clip": clip.clip_index, "start_pts": clip.start_pts, "end_pts": clip.end_pts,
        "time_base": _fraction(clip.time_base), "start_s": clip.start_s, "end_s": clip.end_s, "frames": clip.num_frames,
        "fps": clip.fps, "start_frame": clip.start_frame, "end_frame": clip.end_frame, "cadence": clip.cadence,
        "drawings": len(clip.holds), "crop": list(clip.crop), **repeat, **flat_scores(clip),
        "verdict": "keep" if verdict.keep else "drop", "reason": "" if verdict.keep else verdict.reason,
        "gate": "" if verdict.keep else verdict.gate, "split": clip.split, "caption": clip.caption,
        "caption_model": clip.caption_model, "not_measured": not_measured,
    }


def _write_table(path: Path, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, pa.DataType]) -> None:
    """Columns without a value are null; a value without a column is an error, or it would disappear."""
    unknown = sorted({name for row in rows for name in row} - set(columns))
    assert not unknown, f"{path.name} has no column for {', '.join(unknown)}"
    arrays = [pa.array([row.get(name) for row in rows], kind) for name, kind in columns.items()]
    with atomic_path(path) as temporary:
        pq.write_table(pa.table(arrays, names=list(columns)), temporary, compression="zstd")


def _fraction(value: Fraction) -> str:
    return f"{value.numerator}/{value.denominator}"


def _column_type(kind: Any) -> pa.DataType:
    """The column a score's field goes into; "float | None" is a float that may be null, a tuple is written as text."""
    if isinstance(kind, UnionType):
        kind = next(part for part in get_args(kind) if part is not type(None))
    if get_origin(kind) is tuple:
        return pa.string()
    for base, column in ((bool, pa.bool_()), (int, pa.int64()), (float, pa.float64()), (str, pa.string())):
        if issubclass(kind, base):
            return column
    raise TypeError(f"{kind} is no kind of score: use bool, int, float, str or a tuple of them")
