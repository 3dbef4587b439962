"""Promise: a sample holds the film as encoded, its caption and a record that says where every frame came from."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
from ledger_rows import make_clip

from curation.encode import CLIP_FILE, CLIP_KIND, SKETCH_FILE, EncodedClip
from curation.ledger import Clip
from curation.samples import build_sample
from pipeline.shards import Sample
from pipeline.store import Store


def sample_of(clip: Clip, folder: Path, *, sketch: bytes | None = None) -> Sample:
    """The sample of a clip whose encoded film is the word "film"."""
    store = Store(folder)
    with store.publish(CLIP_KIND, "artifact") as made:
        (made / CLIP_FILE).write_bytes(b"film")
        if sketch is not None:
            (made / SKETCH_FILE).write_bytes(sketch)
    return build_sample(clip, EncodedClip(clip.key, "artifact", clip.num_frames, 512, 320, 4), store,
                        not_measured=("aesthetic",))


def test_sample_holds_film_caption_and_record(tmp_path: Path) -> None:
    clip = make_clip("pack.zip!/a b/film.v2.mkv", 3, caption="A cartoon in blue \u00e9.")
    sample = sample_of(clip, tmp_path)
    assert sample.key == clip.key and "." not in sample.key
    assert set(sample.files) == {"mp4", "txt", "json"}
    assert (sample.files["mp4"], sample.files["txt"].decode()) == (b"film", clip.caption)


def test_record_says_which_frames_of_which_film_these_are(tmp_path: Path) -> None:
    clip = make_clip(index=2, time_base=Fraction(1, 90000), start_pts=7507, end_pts=187687, crop=(0, 22, 640, 316))
    record = json.loads(sample_of(clip, tmp_path).files["json"])
    assert record["schema"] == 1
    assert (record["key"], record["source"], record["source_sha256"]) == (clip.key, "film.mkv", clip.sha256)
    assert (record["shot"], record["frames"], record["crop"]) == (2, 48, [0, 22, 640, 316])
    assert (record["start_pts"], record["end_pts"], Fraction(record["time_base"])) == (7507, 187687, Fraction(1, 90000))
    assert record["start_s"] == pytest.approx(7507 / 90000)
    assert record["end_s"] == pytest.approx(187687 / 90000)
    assert (record["width"], record["height"]) == (512, 320)


def test_record_holds_the_hold_map_the_scores_and_the_caption_with_its_model(tmp_path: Path) -> None:
    clip = make_clip()
    record = json.loads(sample_of(clip, tmp_path).files["json"])
    assert record["holds"] == [2] * 24 and sum(record["holds"]) == record["frames"]
    assert (record["drawings"], record["cadence"]) == (24, "twos")
    assert list(record["scores"]) == sorted(clip.scores)
    assert record["scores"]["motion"]["kind"] == "drawn" and record["scores"]["quality"]["side_px"] == 360
    assert record["not_measured"] == ["aesthetic"]
    assert record["captions"] == [{"text": "A cartoon.", "model": "measured-facts/1"}]


def test_sketch_is_a_member_where_one_was_made(tmp_path: Path) -> None:
    assert sample_of(make_clip(), tmp_path, sketch=b"lines").files["sketch.npz"] == b"lines"


def test_same_clip_gives_the_same_bytes_wherever_the_store_lies(tmp_path: Path) -> None:
    one, other = (sample_of(make_clip(), tmp_path / place) for place in ("here", "there"))
    assert one == other
