"""Promise: what is known of the clips before the first step is what their records say, read once."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_shards import changed, make_clip, write_data_set

from pipeline.errors import UserError
from pipeline.shards import ShardReader
from training.data.clip_table import ClipFacts, read_table


def test_facts_are_those_of_the_records(tmp_path: Path) -> None:
    write_data_set(tmp_path, [make_clip(0, sketches=True), make_clip(1, num_frames=6, holds=(4, 2), width=64)])
    assert read_table(ShardReader(tmp_path)).clips == (
        ClipFacts("clip-00", 12, 12, 96, 64, True), ClipFacts("clip-01", 6, 2, 64, 64, False))


def test_samples_without_a_film_or_with_a_broken_record_are_set_aside(tmp_path: Path) -> None:
    clips = [make_clip(0), changed(make_clip(1), {"mp4": None}), changed(make_clip(2), {"json": b"{"}),
             changed(make_clip(3), {"json": b'{"schema": 1, "fps": 24, "holds": [0, 3]}'}), changed(make_clip(4), {"json": None})]
    table = read_table(ShardReader(write_data_set(tmp_path, clips)))
    assert [clip.key for clip in table.clips] == ["clip-00"]
    assert {damage.key: damage.number for damage in table.damages} == dict.fromkeys(
        ["clip-01", "clip-02", "clip-03", "clip-04"])
    reasons = {damage.key: damage.reason for damage in table.damages}
    assert reasons["clip-01"] == "it has no mp4" and "must be positive" in reasons["clip-03"]


def test_samples_of_another_version_are_refused(tmp_path: Path) -> None:
    write_data_set(tmp_path, [changed(make_clip(0), {"json": b'{"schema": 2}'})])
    with pytest.raises(UserError, match="schema 2"):
        read_table(ShardReader(tmp_path))


def test_table_is_kept_until_the_shards_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards, cache = tmp_path / "shards", tmp_path / "cache"
    reader = ShardReader(write_data_set(shards, [make_clip(0), changed(make_clip(1), {"mp4": None})]))
    table = read_table(reader, cache)
    with monkeypatch.context() as patched:
        patched.setattr(ShardReader, "read_many", lambda *_: pytest.fail("the records were read again"))
        assert read_table(reader, cache) == table
    for path in (cache / "clips").iterdir():
        path.write_text("{")
    assert read_table(reader, cache) == table                # a damaged table is made again
    assert [clip.key for clip in read_table(ShardReader(write_data_set(shards, [make_clip(7)])), cache).clips] == ["clip-07"]
