"""Promise: calibration tells the truth about our decisions, and no change that leaves the drawings alone changes one."""

import json
import re
import shlex
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from decided import Decided, decide_pictures, small_job

from curation.calibration.calibrate import calibrate, label_of, main
from curation.calibration.curves import CURVES
from curation.cartoonist.film import Film, Script, describe, draw_film
from curation.cartoonist.reels import h264, vp9, write_video
from curation.cartoonist.shots import Beat
from pipeline import cli
from pipeline.config import freeze
from pipeline.errors import UserError

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data" / "cartoons"
SCRIPT = Script("Tin Drum", "tin drum", (
    Beat("walk", 2.2, place="forest"), Beat("talk", 2.2, place="room"), Beat("still_pan", 2.2, camera="pan"),
    Beat("static", 2.2), Beat("ball", 2.2, step="ones")))
RATIOS = {"precision", "recall", "f1", "true_positives", "false_positives", "false_negatives"}


@cache
def drawn() -> Film:
    return draw_film(SCRIPT, seed=5, size=(320, 180))


def archive_of(folder: Path, film: Film, name: str = "tin_drum.mkv", **changes: object) -> tuple[Path, Path]:
    """An archive of one film and its label, with changes to the label."""
    films, truth = folder / "films", folder / "truth"
    films.mkdir()
    truth.mkdir()
    write_video(films / name, film.frames, film.fps, h264(20))
    (truth / "label.json").write_text(json.dumps({"file": name, **describe(film), **changes}))
    return films, truth


def job_for(folder: Path, *overrides: str):
    return small_job(f"archive={folder / 'films'}", f"out={folder / 'out'}", "curation.executor=inline", *overrides)


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrated")
    _, truth = archive_of(folder, drawn())
    return calibrate(job_for(folder), truth), folder


def test_drawn_film_is_decided_as_it_was_drawn(calibrated):
    result, _ = calibrated
    film = result["films"]["tin_drum.mkv"]
    assert len(drawn().hard_cuts) == 4
    assert film["cuts"]["0"]["f1"] == 1.0 and film["cuts"]["0"]["true_positives"] == 4
    assert film["static"]["accuracy"] == 1.0 and film["static"]["true_positives"] == 1
    assert film["camera"]["accuracy"] == 1.0 and film["camera"]["true_positives"] == 1
    assert film["gradual"]["f1"] == 1.0 and film["gradual"]["true_positives"] == 1       # the last one fades out
    assert film["holds"]["accuracy"] >= 0.99 and film["holds"]["judged"] == len(drawn().frames) - 1


def test_calibration_json_holds_what_docs_promise(calibrated):
    result, folder = calibrated
    assert json.loads((folder / "out/calibration.json").read_text()) == json.loads(json.dumps(result))
    for rows in (result["overall"], result["films"]["tin_drum.mkv"]):
        assert set(rows["cuts"]) == {"0", "1", "2"}
        assert all(set(counts) == RATIOS for counts in rows["cuts"].values())
        assert all(set(rows[name]) >= RATIOS for name in ("gradual", "static", "text", "camera"))
        assert all("accuracy" in rows[name] for name in ("holds", "cadence"))
    assert set(result["curves"]) <= set(CURVES)
    assert [row["limit"] for row in result["curves"]["cuts_1"]] == sorted(row["limit"] for row in result["curves"]["cuts_1"])
    assert set(result["curves"]["cuts_2"][0]) == {"limit", "precision", "recall", "f1"}
    assert set(result["suggested"]) == {"curation.shots.cut", "curation.shots.graduals.min_score", "gates.text_area.max"}


def test_page_needs_no_network_and_shows_every_film(calibrated):
    _, folder = calibrated
    page = (folder / "out/calibration.html").read_text()
    assert "tin_drum.mkv" in page and page.count("<polyline") >= 3
    assert not re.search(r"<script|<link|https?://|url\(", page)


def test_second_run_decodes_nothing_and_gives_the_same_bytes(calibrated, monkeypatch):
    _, folder = calibrated
    before = (folder / "out/calibration.json").read_bytes()

    def refuse(*_, **__):
        raise AssertionError("decoded again")

    monkeypatch.setattr("curation.survey._write_survey", refuse)
    calibrate(job_for(folder), folder / "truth")
    assert (folder / "out/calibration.json").read_bytes() == before


def test_wrong_label_lowers_the_numbers_and_is_listed(calibrated):
    _, folder = calibrated
    truth = folder / "wrong"
    truth.mkdir()
    film = drawn()
    cuts = [film.hard_cuts[0] + 20, *film.hard_cuts[1:]]
    shots = [{**shot, "static": not shot["static"]} if shot["kind"] == "static" else shot for shot in film.shots]
    (truth / "label.json").write_text(json.dumps({"file": "tin_drum.mkv", **describe(film), "hard_cuts": cuts, "shots": shots}))
    result = calibrate(job_for(folder), truth)["films"]["tin_drum.mkv"]
    counts = result["cuts"]["2"]
    assert (counts["true_positives"], counts["false_positives"], counts["false_negatives"]) == (3, 1, 1)
    assert result["static"]["false_positives"] == 1
    told = [(mistake["what"], mistake["start"]) for mistake in result["mistakes"]]
    assert ("cut", film.hard_cuts[0]) in told and ("cut", cuts[0]) in told
    assert any(what == "static" for what, _ in told)


def test_films_without_label_labels_without_film_and_what_is_no_film_are_listed(calibrated):
    _, folder = calibrated
    other = folder / "more"
    other.mkdir()
    (folder / "films/notes.mp4").write_text("no film")
    (folder / "films/second.mkv").write_bytes((folder / "films/tin_drum.mkv").read_bytes() + b"\0")
    (other / "a.json").write_text(json.dumps({"file": "tin_drum.mkv", "hard_cuts": drawn().hard_cuts}))
    (other / "b.json").write_text(json.dumps({"file": "gone.mkv", "hard_cuts": []}))
    (other / "c.json").write_text(json.dumps({"file": "notes.mp4", "expect": "reject"}))
    result = calibrate(job_for(folder), other)
    assert result["without_truth"] == ["second.mkv"]
    assert result["truth_without_film"] == ["gone.mkv"]
    assert list(result["unreadable"]) == ["notes.mp4"]
    assert list(result["films"]) == ["tin_drum.mkv"]
    assert "camera" not in result["overall"] and "holds" not in result["overall"]      # nobody labelled them


def test_labels_that_fit_no_film_are_a_user_error(calibrated):
    _, folder = calibrated
    other = folder / "misfit"
    other.mkdir()
    (other / "a.json").write_text(json.dumps({"file": "tin_drum.mp4"}))
    with pytest.raises(UserError, match=r"labels no film of archive"):
        calibrate(job_for(folder), other)


def test_stock_tools_are_measured_on_the_same_films(calibrated):
    _, folder = calibrated
    result = calibrate(job_for(folder), folder / "truth", stock=True)
    assert set(result["stock"]["cuts"]) == {"content_27", "adaptive_3", "ours"}
    assert result["stock"]["cuts"]["ours"] == result["overall"]["cuts"]
    # Cuts between differently painted places are what ContentDetector is made for.
    assert result["stock"]["cuts"]["content_27"]["1"]["true_positives"] >= 3
    assert result["stock"]["static"]["even_stride_2fps"]["true_negatives"] >= 1


def test_frozen_job_prints_a_table_in_plain_ascii(calibrated, capsys):
    _, folder = calibrated
    path = folder / "out/config.yaml"
    freeze(job_for(folder), path)
    assert main([str(path), "--truth", str(folder / "truth")]) == 0
    printed = capsys.readouterr().out
    assert printed.isascii() and "overall" in printed and "calibration.json" in printed
    assert main([str(path)]) == 2
    assert main([str(path), "--truth", str(folder / "nowhere")]) == 2
    assert "nowhere does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "label"), [
    ("film.mp4", "film.mp4"), ("pack.zip!/a/film.mp4", "pack.zip!/a/film.mp4"), ("test/frame_*.png", "test"),
    ("test/frame_*.png", "test/frame_*.png"), ("film.mkv", None), ("test/film.mp4", None)])
def test_label_belongs_to_the_source_or_the_folder_of_its_pictures(name, label):
    assert label_of(name, ["film.mp4", "pack.zip!/a/film.mp4", label or "test"]) == label


@pytest.mark.parametrize("command", re.findall(r"^make calibrate.*$", (ROOT / "docs/calibrate.md").read_text(), re.MULTILINE))
def test_commands_of_the_page_are_taken(command, tmp_path, monkeypatch):
    words = dict(word.split("=", 1) for word in shlex.split(command)[2:])
    started = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli.os, "execv", lambda program, arguments: started.append(arguments))
    for name in ("ARCHIVE", "TRUTH"):
        if name in words:
            (tmp_path / words[name]).mkdir()
    cli.main(["calibrate", *(f"{name.lower()}={words[name]}" for name in ("ARCHIVE", "TRUTH", "OUT") if name in words),
              *shlex.split(words.get("ARGS", ""))])
    assert started and started[0][1:3] == ["-m", "curation.calibration"]


# Metamorphic: the same drawings in another file.

@cache
def pictures() -> list[np.ndarray]:
    return drawn().frames


def told(decided: Decided) -> list[tuple[str, bool, str]]:
    """Kind of motion and verdict of every clip, in order."""
    return [(kind.value, *verdict) for kind, verdict in zip(decided.kinds, decided.verdicts, strict=True)]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return decide_pictures(pictures(), tmp_path_factory.mktemp("original"), coding=h264(20))


def mirrored():
    mirror: dict[int, np.ndarray] = {}
    return [mirror.setdefault(id(picture), np.ascontiguousarray(picture[:, ::-1])) for picture in pictures()]


@pytest.mark.parametrize(("change", "shift"), [
    ("first frame gone", -1), ("first frame twice", 1), ("low bitrate", 0), ("high bitrate", 0), ("mirrored", 0), ("mp4", 0),
    ("webm", 0)])
def test_same_drawings_in_another_file_are_decided_alike(tmp_path, original, change, shift):
    frames, name, coding = pictures(), "film.mkv", h264(20)
    match change:
        case "first frame gone":
            frames = frames[1:]
        case "first frame twice":
            frames = [frames[0], *frames]
        case "low bitrate":
            coding = h264(30)
        case "high bitrate":
            coding = h264(14)
        case "mirrored":
            frames = mirrored()
        case "mp4":
            name = "film.mp4"
        case "webm":
            name, coding = "film.webm", vp9(30)
    decided = decide_pictures(frames, tmp_path, name=name, coding=coding)
    assert len(original.cuts) == 4
    assert len(decided.cuts) == len(original.cuts)
    assert all(abs(new - old - shift) <= 1 for new, old in zip(decided.cuts, original.cuts, strict=True))
    assert told(decided) == told(original)


@pytest.mark.slow
def test_real_films_are_cut_where_people_see_cuts(tmp_path):
    """All three cuts of Steamboat Willie, which PySceneDetect's defaults miss; 27 cuts of 14 films."""
    if not REAL.is_dir():
        pytest.skip(f"real films are absent: {REAL}")
    result = calibrate(small_job(f"archive={REAL}", f"out={tmp_path}"), REAL / "truth")
    assert result["films"]["steamboat_willie_28s.mp4"]["cuts"]["2"]["recall"] == 1.0
    assert result["overall"]["cuts"]["2"]["f1"] >= 0.97
