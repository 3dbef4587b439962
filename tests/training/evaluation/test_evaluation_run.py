"""Promise: one command fills a table with intervals and protocols, nothing is measured twice, and an exact copy is perfect."""

import csv
import io
import json

import av
import pytest
import torch
from evaluation_sets import evaluate, make_job, numbers, results, write_atd12k, write_heldout
from PIL import Image

from pipeline.errors import EXIT_OK, EXIT_STOPPED, UserError
from training.evaluation import run as run_module
from training.evaluation.baselines import Baseline
from training.evaluation.measuring import Measurer
from training.evaluation.samples import HeldoutRecipe, read_heldout
from training.metrics.feature_weights import STAND_IN
from training.ranks import Ranks

ALL = "metrics=[fvd_kvd,lpips_alex,clip_vit_b_32,cpbd,psnr@interior,ssim_rgb,ssim_table1,lines,motion,end_frames]"


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_heldout(tmp_path_factory.mktemp("shards"))


def copy_of_truth(shards, folder, *, only_made=False, size="64x64"):
    for sample in read_heldout(shards, HeldoutRecipe(10, size)):
        (folder / sample.key).mkdir(parents=True)
        for index, frame in enumerate(sample.truth):
            if not only_made or index not in sample.given:
                pixels = (frame * 255).round().byte().permute(1, 2, 0).numpy()
                Image.fromarray(pixels).save(folder / sample.key / f"{index + 1:04d}.png")
    return folder


def test_every_system_and_metric_fills_the_table_offline(shards, tmp_path):
    code, printed = evaluate(f"shards={shards}", f"out={tmp_path}", ALL,
                             "systems=[repeat,flow_dis,tooncrafter]", "strata=[title,motion_amount,occlusion]",
                             "published=[tooncrafter_table1]")
    assert code == EXIT_OK and "random stand-ins" in printed
    found = results(tmp_path)
    for system in ("repeat", "flow_dis", "tooncrafter"):
        row = numbers(tmp_path, system)
        assert {"fvd@all", "kvd@all", "lpips_alex@all", "clip_img@all", "clip_txt@all", "cpbd@all", "psnr@interior",
                "ssim_rgb@all", "line_chamfer@all", "warping_error@all", "psnr_first_frame@ends"} <= set(row)
        for name, number in row.items():
            protocol = number["protocol"]
            assert protocol["num_clips"] == 3 and protocol["implementation"] and protocol["weights"], name
            assert protocol["num_frames"] == {"all": 10, "interior": 8, "first and last": 2}[protocol["frames"]]
            assert (protocol["width_px"], protocol["height_px"]) == (64, 64)
            assert float(number["low"]) <= float(number["value"]) <= float(number["high"]), name
        assert row["fvd@all"]["protocol"]["weights"].startswith(STAND_IN)
    assert [table["clips"] for table in found["tables"]][:3] == ["all clips", "title=film 0", "title=film 1"]
    assert [table["num_clips"] for table in found["tables"]][:3] == [3, 2, 1]
    assert all("fvd@all" not in row["numbers"] for table in found["tables"][1:] for row in table["rows"])
    assert found["random_weights"] == ["tooncrafter"] and str(tmp_path) not in json.dumps(found)
    assert any(row["source"] == "published: ToonCrafter (arXiv 2405.17933), Table 1" for row in found["tables"][0]["rows"])


def test_report_is_the_same_table_in_four_formats_with_a_footnote_for_each_column(shards, tmp_path):
    evaluate(f"shards={shards}", f"out={tmp_path}", "metrics=[psnr@interior,lpips_alex]", "published=[tooncrafter_table1]")
    value = numbers(tmp_path, "crossfade")["psnr@interior"]["value"]
    for name in ("report.md", "report.tex", "report.html"):
        text = (tmp_path / name).read_text()
        assert f"{value:.2f}" in text and "crossfade" in text and "psnr_per_frame" in text.replace("\\", "")
        assert "stand-in" in text and "published: ToonCrafter" in text and "0.1733" in text
    lines = list(csv.DictReader(io.StringIO((tmp_path / "report.csv").read_text())))
    mine = next(line for line in lines if line["system"] == "crossfade" and line["metric"] == "psnr@interior")
    assert float(mine["value"]) == value and mine["implementation"] == "psnr_per_frame" and mine["num_clips"] == "3"
    notes = results(tmp_path)["footnotes"]
    assert notes[0].startswith("[1] psnr@interior: psnr_per_frame; no weights; interior frames, 8 of a clip, 64x64 px; 3 clips;")
    (film,) = (tmp_path / "films").glob("*/video.mp4")
    with av.open(str(film)) as container:
        pictures = list(container.decode(video=0))
    assert len(pictures) == 10 and (pictures[0].width, pictures[0].height) == (3 * 64, 64 + 18)
    assert f"films/{film.parent.name}/video.mp4" in (tmp_path / "report.html").read_text()


def test_second_run_makes_and_measures_nothing_and_a_new_metric_makes_nothing(shards, tmp_path, monkeypatch):
    given = (f"shards={shards}", f"out={tmp_path}")
    evaluate(*given)
    before = (tmp_path / "results.json").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(Baseline, "make", lambda *a: pytest.fail("a clip was made"))
        with patch.context() as inner:
            inner.setattr(Measurer, "measure", lambda *a: pytest.fail("a clip was measured"))
            assert "everything was measured already" in evaluate(*given)[1]
            assert (tmp_path / "results.json").read_bytes() == before
        assert "measured 6 times" in evaluate(*given, "metrics=[psnr@interior,ssim_rgb]")[1]
    assert "measured 6 times" in evaluate(*given, "rounding=false")[1]
    with pytest.raises(pytest.fail.Exception, match="a clip was made"), monkeypatch.context() as patch:
        patch.setattr(Baseline, "make", lambda *a: pytest.fail("a clip was made"))
        evaluate(*given, "size=64x32")                  # other clips, other keys


def test_exact_copy_is_perfect_whether_given_frames_are_in_the_folder_or_not(shards, tmp_path):
    whole = copy_of_truth(shards, tmp_path / "whole")
    made = copy_of_truth(shards, tmp_path / "made", only_made=True)
    evaluate(f"shards={shards}", f"out={tmp_path / 'out'}", ALL, f"folders=[copy:{whole},made:{made}]")
    perfect = {"fvd@all": 0, "lpips_alex@all": 0, "clip_img@all": 1, "psnr@interior": float("inf"), "ssim_rgb@all": 1,
               "ssim_table1@all": 1, "line_chamfer@all": 0, "line_ratio@all": 1, "psnr_first_frame@ends": float("inf")}
    for system in ("copy", "made"):
        row = numbers(tmp_path / "out", system)
        for name, value in perfect.items():
            assert float(row[name]["value"]) == pytest.approx(value, abs=1e-6), name
        for name in ("cpbd@all", "clip_txt@all", "warping_error@all", "motion@all"):
            assert row[name]["value"] == pytest.approx(row[name]["of_truth"], abs=1e-12), name
        assert row["kvd@all"]["value"] <= 0
    assert numbers(tmp_path / "out", "repeat")["fvd@all"]["value"] > 0.01


def test_changed_frames_of_a_folder_are_measured_again_for_that_clip_alone(shards, tmp_path):
    folder = copy_of_truth(shards, tmp_path / "copy")
    given = (f"shards={shards}", f"out={tmp_path / 'out'}", "systems=[]", f"folders=[copy:{folder}]",
             "metrics=[interpolation_error@interior]")
    evaluate(*given)
    assert numbers(tmp_path / "out", "copy")["interpolation_error@interior"]["value"] == 0
    Image.new("RGB", (64, 64)).save(folder / "clip-01" / "0005.png")
    assert "measured 1 times" in evaluate(*given)[1]
    assert numbers(tmp_path / "out", "copy")["interpolation_error@interior"]["value"] > 1


class Nobody:
    """Asks to stop never."""

    def requested(self):
        return False


def test_ranks_share_the_clips_and_their_table_is_that_of_one(shards, tmp_path):
    evaluate(f"shards={shards}", f"out={tmp_path / 'one'}", "metrics=[psnr@interior,fvd_kvd]")
    job = make_job(f"shards={shards}", f"out={tmp_path / 'two'}", "metrics=[psnr@interior,fvd_kvd]")
    console = run_module.Console(quiet=True)
    shares = []
    for rank in (1, 0):
        work = run_module._prepare(job, Ranks(0, 1, 0, torch.device("cpu")), console)
        run_module._measure_share(work, Ranks(rank, 2, rank, torch.device("cpu")), Nobody())
        shares.append(work.num_measured)
    run_module._report(work, sum(shares))
    assert shares == [2, 4]                             # 3 clips by 2 systems
    assert (tmp_path / "two" / "results.json").read_bytes() == (tmp_path / "one" / "results.json").read_bytes()


def test_stop_file_ends_the_run_and_the_same_command_continues(shards, tmp_path, monkeypatch):
    make = Baseline.make

    def stops(self, sample):
        (tmp_path / "STOP").touch()
        return make(self, sample)

    with monkeypatch.context() as patch:
        patch.setattr(Baseline, "make", stops)
        assert evaluate(f"shards={shards}", f"out={tmp_path}")[0] == EXIT_STOPPED
    assert not (tmp_path / "results.json").exists()
    assert "measured 5 times" in evaluate(f"shards={shards}", f"out={tmp_path}")[1]


def test_atd12k_folder_gives_whole_region_and_levels_unrounded(tmp_path):
    root = write_atd12k(tmp_path / "atd")
    code, _ = evaluate(f"triplets={root}", f"out={tmp_path / 'out'}", "size=own", "rounding=false",
                       "strata=[difficulty,region]", "metrics=[psnr@interior,psnr@roi,ssim_table1@roi]",
                       "published=[atd12k_table1]", "systems=[crossfade,flow_dis]")
    assert code == EXIT_OK
    tables = results(tmp_path / "out")["tables"]
    assert [table["clips"] for table in tables] == [
        "all clips", "difficulty=easy", "difficulty=medium", "region=east", "region=west"]
    row = numbers(tmp_path / "out", "crossfade")
    assert row["psnr@roi"]["value"] < row["psnr@interior"]["value"]      # what moves lies in the region
    assert row["psnr@roi"]["protocol"]["region"] == "region of motion" and row["psnr@roi"]["protocol"]["rounded"] is False
    published = [row for row in tables[1]["rows"] if row["source"].startswith("published")]
    assert {row["system"]: row["numbers"]["psnr@interior"]["value"] for row in published}["AnimeInterp"] == 31.86


@pytest.mark.parametrize(("overrides", "sentence"), [
    (["metrics=[psnrr]"], "metrics has psnrr, which is no metric. Did you mean psnr?"),
    (["metrics=[psnr@middle]"], "metrics has psnr@middle: what follows @ is all, interior or roi"),
    (["strata=[cadense]"], "Did you mean cadence?"),
    (["published=[table1]"], "published has table1, which is no table"),
    (["num_frames=40"], "has no held-out clip that is long enough"),
    (["num_frames=8", "metrics=[fvd_kvd]"], "I3D needs at least 9"),
    (["weights=published", "metrics=[fvd_kvd,lpips_alex]"], "absent: alexnet, i3d, lpips_alex"),
    (["weights=published", "metrics=[lpips_alex]"], "make weights PROFILE=evaluation"),
    (["systems=[flow_raft]"], "systems has flow_raft, whose weights are absent"),
    (["folders=[film:nowhere]"], "folders has film:nowhere, which is no folder"),
    (["checkpoints=[IV:nowhere.safetensors]"], "weights nowhere.safetensors are absent"),
    (["systems=[]"], "there is no system to measure"),
    (["triplets=x"], "shards and triplets are both given"),
])
def test_mistakes_are_one_sentence_before_anything_is_made(shards, tmp_path, monkeypatch, overrides, sentence):
    monkeypatch.setenv("TOONFORGE_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "none"))
    monkeypatch.setattr(Baseline, "make", lambda *a: pytest.fail("a clip was made"))
    with pytest.raises(UserError) as caught:
        evaluate(f"shards={shards}", f"out={tmp_path}", *overrides)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)
