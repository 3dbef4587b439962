"""Promise: every source and every clip is counted once and stands in the ledger, whatever became of it."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from ledger_rows import make_clip, make_record

from curation.executor import Timing, add_up
from curation.funnel import NOT_MEASURED, summarise, write_clips, write_sources
from curation.ledger import SourceRecord, Status, Verdict
from curation.verdicts import NAMES


def test_counts_add_up_from_found_to_kept() -> None:
    records = [make_record("a.mkv", num_shots=3), make_record("b.mkv", num_shots=2, cpu_s=0.0),
               make_record("c.mkv", num_shots=1, decode_errors=2),
               SourceRecord("d.txt", Status.QUARANTINED, error="no film"),
               SourceRecord("e.mkv", Status.DUPLICATE, duplicate_of="a.mkv")]
    clips = [make_clip("a.mkv", 0), make_clip("a.mkv", 1, dropped_by="motion"),
             make_clip("a.mkv", 2, dropped_by="duration"), make_clip("b.mkv", 0, split="eval"),
             make_clip("b.mkv", 1, dropped_by="motion"), make_clip("c.mkv", 0)]
    timings = add_up([Timing("survey", 2, 5.0, 4.0), Timing("survey", 1, 1.0, 2.0), Timing("propose", 3, 1.0, 1.0)])
    summary: Any = summarise(records, clips, timings, 48.0)
    assert summary["sources"] == {"found": 5, "ok": 3, "quarantined": 1, "duplicates": 1, "damaged": 1}
    assert (summary["shots"], summary["clips"]) == (6, 6)
    assert summary["dropped"] == {"duration": 1, "quality": 0, "motion": 2, "text_area": 0, "credits": 0, "duplicates": 0}
    assert summary["kept"] == {"train": 2, "eval": 1}
    # Three films of 240 frames at 24 fps; b.mkv was surveyed in an earlier run.
    assert (summary["frames"], summary["frames_decoded"], summary["film_seconds"]) == (720, 480, 30.0)
    assert summary["frames_per_s"] == 480 / 48.0
    assert summary["kept_seconds"] == 3 * 48 / 24
    assert summary["stages"]["survey"] == {"rows": 3, "wall_s": 6.0, "cpu_s": 6.0, "frames_per_cpu_s": 80.0}
    assert summary["stages"]["propose"] == {"rows": 3, "wall_s": 1.0, "cpu_s": 1.0}


def test_gates_are_listed_in_cascade_order_and_a_failed_encode_after_them() -> None:
    clips = [make_clip(index=0, dropped_by="encode"), make_clip(index=1, dropped_by="text_area")]
    summary: Any = summarise([make_record()], clips, {}, 1.0)
    assert list(summary["dropped"]) == [*(name for name in NAMES if name not in NOT_MEASURED), "encode"]
    assert summary["clips"] == sum(summary["dropped"].values())


def test_an_empty_archive_has_a_summary_of_zeros() -> None:
    summary = summarise([], [], {}, 0.0)
    assert (summary["clips"], summary["film_seconds"], summary["frames_per_s"]) == (0, 0, 0.0)


def test_a_clip_without_a_verdict_is_an_error_and_does_not_disappear(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="has no verdict"):
        summarise([make_record()], [make_clip(verdict=None)], {}, 1.0)
    with pytest.raises(AssertionError, match="has no verdict"):
        write_clips(tmp_path / "clips.parquet", [make_clip(verdict=None)])


def test_columns_do_not_depend_on_what_was_measured(tmp_path: Path) -> None:
    write_clips(tmp_path / "all.parquet", [make_clip()])
    write_clips(tmp_path / "none.parquet", [make_clip(scores={}, dropped_by="duration")])
    write_clips(tmp_path / "empty.parquet", [])
    schemas = [pq.read_schema(tmp_path / f"{name}.parquet") for name in ("all", "none", "empty")]
    assert schemas[0].equals(schemas[1]) and schemas[0].equals(schemas[2])
    row = pq.read_table(tmp_path / "none.parquet").to_pylist()[0]
    assert row["motion_mean"] is None and row["text_area_share"] is None and row["duplicates_group"] is None


def test_clip_rows_hold_verdict_reason_scores_and_what_was_not_measured(tmp_path: Path) -> None:
    path = tmp_path / "clips.parquet"
    still = make_clip("a.mkv", 1, verdict=Verdict.drop("motion", "nothing moves"), split="")
    write_clips(path, [make_clip("b.mkv"), still, make_clip("a.mkv", 0, split="eval")])
    rows = pq.read_table(path).to_pylist()
    assert [(row["source"], row["start_frame"]) for row in rows] == [("a.mkv", 0), ("a.mkv", 48), ("b.mkv", 0)]
    kept, dropped, _ = rows
    assert (kept["verdict"], kept["reason"], kept["gate"], kept["split"]) == ("keep", "", "", "eval")
    assert (dropped["verdict"], dropped["reason"], dropped["gate"]) == ("drop", "motion: nothing moves", "motion")
    # 48 frames on twos are 24 drawings and end after 2 s in ticks of 1/1000 s.
    assert (kept["frames"], kept["drawings"], kept["end_pts"], kept["end_s"]) == (48, 24, 2000, 2.0)
    assert kept["time_base"] == "1/1000"
    assert (kept["motion_kind"], kept["motion_drawn_share"], kept["crop"]) == ("drawn", 0.5, [0, 0, 640, 360])
    assert {row["not_measured"] for row in rows} == {"aesthetic,alignment"}


def test_source_rows_hold_the_probe_and_say_why_a_source_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "sources.parquet"
    write_sources(path, [make_record("b.mkv"), SourceRecord("a.mkv", Status.QUARANTINED, error="no film in it"),
                         SourceRecord("c.mkv", Status.DUPLICATE, duplicate_of="b.mkv")])
    bad, good, copy = pq.read_table(path).to_pylist()
    assert (bad["path"], bad["status"], bad["error"], bad["codec"]) == ("a.mkv", "quarantined", "no film in it", None)
    assert (good["status"], good["error"], good["codec"], good["frames"]) == ("ok", "", "h264", 240)
    assert good["sample_aspect"] == "4/3"
    assert copy["duplicate_of"] == "b.mkv" and "b.mkv" in copy["error"]


def test_tables_have_the_same_bytes_whatever_the_order_of_the_rows(tmp_path: Path) -> None:
    records = [make_record(name) for name in ("a.mkv", "b.mkv", "c.mkv")]
    clips = [make_clip(record.name, index) for record in records for index in range(3)]
    for name, order in (("one", 1), ("two", -1)):
        write_sources(tmp_path / f"sources_{name}", records[::order])
        write_clips(tmp_path / f"clips_{name}", clips[::order])
    for table in ("sources", "clips"):
        assert (tmp_path / f"{table}_one").read_bytes() == (tmp_path / f"{table}_two").read_bytes()
