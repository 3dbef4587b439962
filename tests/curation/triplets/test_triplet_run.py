"""Promise: a curation becomes triplets of one shot each, disjoint by title, counted rule by rule, the same bytes each time."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import webdataset
from triplet_films import CLIPS, make_job, sample_of, write_curation

import pipeline.config
from curation.triplets.__main__ import main
from curation.triplets.config import TripletsJob, Unit
from curation.triplets.funnel import print_funnel
from curation.triplets.layout import read_layout
from curation.triplets.run import build_triplets
from pipeline.config import Kind, freeze
from pipeline.errors import EXIT_OK, EXIT_USER, UserError
from pipeline.shards import ShardReader

KIND = Kind("triplets", TripletsJob, "triplets")


@pytest.fixture(scope="module")
def curation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_curation(tmp_path_factory.mktemp("curation"))


@pytest.fixture(scope="module")
def built(curation: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """One triplet a shot, of drawings."""
    out = tmp_path_factory.mktemp("triplets")
    return out, build_triplets(make_job(curation, out))


def records(out: Path, split: str | None = None) -> list[dict[str, Any]]:
    return [json.loads(sample.files["json"]) for sample in ShardReader(out, split).samples()]


def outputs(out: Path) -> dict[str, bytes]:
    """Every file but the artifacts, which are named by what is in them."""
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*"))
            if path.is_file() and "artifacts" not in path.parts}


def test_every_shot_gives_a_triplet_and_titles_stay_in_their_split(built: tuple[Path, dict[str, Any]]) -> None:
    out, summary = built
    assert summary["triplets"]["kept"] == {"train": 2, "eval": 1}
    assert {record["title"] for record in records(out, "train")} == {"red"}
    assert {record["title"] for record in records(out, "eval")} == {"blue"}
    assert {record["split"] for record in records(out, "eval")} == {"eval"}
    shots = sorted((record["source"], record["shot"]) for record in records(out))
    assert shots == [("blue.mp4", 0), ("red.mp4", 0), ("red.mp4", 1)]


def test_triplets_are_three_drawings_at_equal_spacing_within_one_clip(tmp_path: Path) -> None:
    build_triplets(make_job(write_curation(tmp_path / "curation", CLIPS[3:]), tmp_path / "out", per_shot=0))
    found = records(tmp_path / "out")
    assert len(found) == 4            # of five drawings three neighbours and one at spacing 2
    for record in found:
        clip = CLIPS[3]
        starts = [clip.start_frame + sum(clip.holds[:index]) for index in range(len(clip.holds))]
        places = [starts.index(frame) for frame in record["frames"]]          # ValueError for a frame outside the clip
        assert places == [places[0], places[0] + record["spacing"], places[0] + 2 * record["spacing"]]


def test_pictures_are_the_frames_that_the_record_names(built: tuple[Path, dict[str, Any]]) -> None:
    for sample in ShardReader(built[0]).samples():
        assert set(sample.files) == {"0.png", "1.png", "2.png", "json"}
        record = json.loads(sample.files["json"])
        clip = next(clip for clip in CLIPS if clip.key == record["clip"])
        for number, frame in enumerate(record["frames"]):
            shown = drawing(clip.holds, frame - clip.start_frame)
            picture = cv2.imdecode(np.frombuffer(sample.files[f"{number}.png"], np.uint8), cv2.IMREAD_COLOR)
            blue, green, red = np.moveaxis(picture.astype(int), -1, 0)
            columns = np.flatnonzero(((red > 190) & (green < 100) & (blue < 90)).sum(axis=0) > 6)     # of the red disc
            assert (columns[0] + columns[-1]) / 2 == pytest.approx(20 + 6 * shown, abs=2)


def test_record_says_what_the_readers_of_triplets_ask_for(built: tuple[Path, dict[str, Any]]) -> None:
    for record in records(built[0]):
        x, y, width, height = record["roi"]
        assert 0 <= x < x + width <= 192 and 0 <= y < y + height <= 108
        assert y <= 45 and y + height >= 63, "the disc lies in the middle row"
        assert record["schema"] == 1 and record["difficulty"] in (0, 1, 2) and "toonforge" in record["difficulty_by"]
        assert record["annotation"]["level"] == record["difficulty"]
        assert 0.3 < record["midtime"] < 0.7 and record["midtime_from"] == "motion" and record["midtime_spread"] < 0.5
        assert record["motion"]["mean"] > 0 and set(record["ssim"]) == {"12", "23", "13"}
        times, frames = record["times_s"], record["frames"]
        assert times == pytest.approx([frame / 24 for frame in frames], abs=1e-4)
        assert record["midtime_shown"] == pytest.approx((frames[1] - frames[0]) / (frames[2] - frames[0]), abs=1e-3)


def test_plain_webdataset_reads_the_shards(built: tuple[Path, dict[str, Any]]) -> None:
    paths = sorted(str(path) for path in built[0].glob("*.tar"))
    samples = list(webdataset.WebDataset(paths, shardshuffle=False, empty_check=False))
    assert [sample["__key__"] for sample in samples] == [record["key"] for record in
                                                         [*records(built[0], "eval"), *records(built[0], "train")]]
    assert all({"0.png", "1.png", "2.png", "json"} <= set(sample) for sample in samples)


def test_folder_holds_the_same_triplets_as_the_shards(built: tuple[Path, dict[str, Any]]) -> None:
    root = built[0] / "datasets"
    assert [triplet.name for triplet in read_layout(root, "train")] == [record["key"] for record in records(built[0], "train")]
    (test,), (record,) = read_layout(root), records(built[0], "eval")
    assert test.name == record["key"] and test.name.startswith("Japan_v") and test.annotation is not None
    assert test.annotation.as_json() == record["annotation"]


def test_the_same_curation_gives_the_same_bytes(built: tuple[Path, dict[str, Any]], curation: Path, tmp_path: Path) -> None:
    build_triplets(make_job(curation, tmp_path))
    assert outputs(tmp_path) == outputs(built[0])
    build_triplets(make_job(curation, tmp_path))                       # again in the same folder, out of its artifacts
    assert outputs(tmp_path) == outputs(built[0])


def test_every_candidate_is_counted_by_the_rule_that_dropped_it(built: tuple[Path, dict[str, Any]], curation: Path,
                                                                 tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = build_triplets(make_job(curation, tmp_path, unit=Unit.FRAMES, spacings=(1, 3), least=0.5, most=0.97))
    counts = summary["triplets"]
    assert counts["candidates"] == sum(sum(clip.holds) - 2 * spacing for clip in CLIPS for spacing in (1, 3))
    assert counts["candidates"] - sum(counts["dropped"].values()) == sum(counts["kept"].values())
    # At spacing 1 only the neighbouring drawings held one frame each can differ three times: 3, 1, 1 of the third clip.
    assert counts["dropped"]["same_drawing"] == sum(
        len({drawing(clip.holds, first + spacing * step) for step in range(3)}) < 3
        for clip in CLIPS for spacing in (1, 3) for first in range(sum(clip.holds) - 2 * spacing))
    assert summary["clips"] == {"proposed": 6, "dropped": {"motion": 1, "text_area": 1}, "failed": 0, "without_candidate": 0}
    print_funnel(summary, tmp_path)
    shown = capsys.readouterr().out
    assert "text_area" in shown and "same_drawing" in shown and json.loads((tmp_path / "summary.json").read_text()) == summary


def drawing(holds: tuple[int, ...], frame: int) -> int:
    return next(index for index in range(len(holds)) if frame < sum(holds[: index + 1]))


def test_ssim_limits_drop_by_their_own_rules(curation: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no triplet is left.*16 candidates.*16 by too_alike"):
        build_triplets(make_job(curation, tmp_path, least=-1.0, most=-0.9))
    with pytest.raises(UserError, match=r"no triplet is left.*16 by too_different"):
        build_triplets(make_job(curation, tmp_path, least=0.9998, most=0.9999))
    assert not (tmp_path / "manifest.json").exists()


def test_votes_of_two_reviewers_keep_a_triplet_and_give_its_tags(built: tuple[Path, dict[str, Any]], curation: Path,
                                                                 tmp_path: Path) -> None:
    one, two, *_ = [record["key"] for record in records(built[0])]
    votes = tmp_path / "votes.csv"
    votes.write_text(f"triplet,reviewer,eligible,motion\n{one},ann,yes,translation\n{one},bob,yes,\n{two},ann,yes,\n"
                     "Other_v1_1_000001_s1,ann,yes,\nOther_v1_1_000001_s1,bob,yes,\n")
    summary = build_triplets(make_job(curation, tmp_path / "out", votes=votes))
    (record,) = records(tmp_path / "out")
    assert record["key"] == one and record["votes"] == {"eligible": 2, "against": 0}
    assert record["annotation"]["general_motion_type"] == ["translation"]
    assert summary["triplets"]["dropped"]["votes"] == 2 and summary["votes_of_others"] == 1


def test_a_clip_that_cannot_be_decoded_costs_only_its_own_triplets(tmp_path: Path) -> None:
    longer = sample_of(replace(CLIPS[1], holds=(2, 2, 2, 2, 3))).files["json"]
    whole = [sample_of(clip) for clip in CLIPS]
    samples = [whole[0], replace(whole[1], files={**whole[1].files, "json": longer}), sample_of(CLIPS[2], b"no film"), whole[3]]
    summary = build_triplets(make_job(write_curation(tmp_path / "curation", samples=samples), tmp_path / "out"))
    assert summary["clips"]["failed"] == 2 and set(summary["failed_clips"]) == {CLIPS[1].key, CLIPS[2].key}
    assert summary["failed_clips"][CLIPS[1].key] == "the film has 10 frames, its record 11"
    assert summary["triplets"]["kept"] == {"train": 1, "eval": 1}


def test_shards_with_a_title_in_both_splits_are_refused(tmp_path: Path) -> None:
    clips = (*CLIPS[:3], replace(CLIPS[3], title="red"))
    with pytest.raises(UserError, match="title 'red' in both splits"):
        build_triplets(make_job(write_curation(tmp_path / "curation", clips), tmp_path / "out"))


def test_a_folder_that_is_no_finished_curation_is_told(curation: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(curation, tmp_path / "copy")
    for name, words in (("clips.parquet", "no finished curation"), ("manifest.json", "no finished curation")):
        (copy / name).rename(tmp_path / name)
        with pytest.raises(UserError, match=words):
            build_triplets(make_job(copy, tmp_path / "out"))
        (tmp_path / name).rename(copy / name)
    (copy / "clips.parquet").write_bytes(b"no table")
    with pytest.raises(UserError, match="cannot be read"):
        build_triplets(make_job(copy, tmp_path / "out"))
    with pytest.raises(UserError, match="does not exist"):
        build_triplets(make_job(tmp_path / "absent", tmp_path / "out"))


def test_a_curation_is_never_written_over(curation: Path) -> None:
    before = outputs(curation)
    with pytest.raises(UserError, match="holds a curation"):
        build_triplets(make_job(curation, curation))
    assert outputs(curation) == before


def test_module_runs_a_frozen_job_and_tells_mistakes_in_a_sentence(
        curation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(pipeline.config, "TRIPLETS", KIND, raising=False)
    freeze(make_job(curation, tmp_path), tmp_path / "config.yaml")
    assert main([str(tmp_path / "config.yaml")]) == EXIT_OK
    assert "3" in capsys.readouterr().out and (tmp_path / "manifest.json").is_file()
    freeze(make_job(tmp_path / "absent", tmp_path), tmp_path / "config.yaml")
    assert main([str(tmp_path / "config.yaml")]) == EXIT_USER
    told = capsys.readouterr().err
    assert told.startswith("toonforge: error: shards=") and "Traceback" not in told and told.count("\n") == 1


def test_conf_gives_the_limits_of_the_paper_and_refuses_typos(monkeypatch: pytest.MonkeyPatch) -> None:
    known = (*(kind for kind in pipeline.config.KINDS if kind.command != "triplets"), KIND)
    monkeypatch.setattr(pipeline.config, "KINDS", known)
    job = pipeline.config.load(["shards=out/films", "executor=inline"], KIND)
    assert (job.ssim.min, job.ssim.max, job.candidates.spacings, job.votes.min) == (0.75, 0.95, [1, 2, 3], 2)
    assert (job.candidates.unit, job.out) == (Unit.DRAWINGS, "out/triplets")
    with pytest.raises(UserError, match=r"Did you mean candidates\.per_shot"):
        pipeline.config.load(["candidates.pershot=2"], KIND)
    with pytest.raises(UserError, match=r"ssim\.min=0\.96"):
        pipeline.config.load(["ssim.min=0.96"], KIND)
