"""Promise: means, intervals and strata are those of the clips, seeded, and numbers of two protocols never share a column."""

import numpy as np
import pytest
import torch

from pipeline.errors import UserError
from training.evaluation.measuring import NEEDS, MetricSpec, Part
from training.evaluation.published import TABLES, find_published
from training.evaluation.table import Bootstrap, Measurements, make_tables, thirds
from training.metrics.distances import frechet_distance
from training.metrics.suite import METRICS, MeasuringOptions, build_metrics

PSNR = MetricSpec("psnr", Part.INTERIOR)
FVD = MetricSpec("fvd_kvd", Part.ALL)


def record(value, *, column="psnr@interior", of_truth=None, **protocol):
    return {"column": column, "direction": "higher is better", "note": "", "value": value, "of_truth": of_truth,
            "protocol": {"implementation": "i", "weights": "no weights", "width_px": 64, **protocol}}


def tables(values, strata=None, published=(), **systems):
    measured = Measurements({name: {PSNR: [[record(value)] if value is not None else [] for value in found]}
                             for name, found in {"a": values, **systems}.items()})
    return make_tables(measured, strata or {}, find_published(published), replicates=200, confidence=0.9, seed=7)


def cell(table, system="a"):
    return next(row for row in table.rows if row.system == system).cells["psnr@interior"]


def test_mean_has_a_seeded_interval_of_the_right_width():
    values = np.random.default_rng(0).normal(30, 2, 400).tolist()
    (table,) = tables(values)
    found = cell(table)
    assert found.value == pytest.approx(np.mean(values)) and found.num_clips == 400
    # 1.645 standard errors on each side: 2 / sqrt(400) = 0.1.
    assert found.high - found.low == pytest.approx(2 * 1.645 * 0.1, rel=0.2)
    assert cell(tables(values)[0]) == found


def test_exact_clips_make_infinite_means_and_bounds_not_errors():
    found = cell(tables(["inf", "inf"])[0])
    assert (found.value, found.low, found.high) == (float("inf"),) * 3
    found = cell(tables([20.0, "inf", 22.0])[0])
    assert found.value == float("inf") and found.high == float("inf") and not np.isnan(found.low)


def test_one_clip_has_no_interval():
    assert cell(tables([30.0])[0]).low is None


def test_strata_have_their_own_means_and_counts_and_clips_without_a_number_do_not_count():
    _, easy, hard = tables([10.0, 20.0, None, 40.0], {"difficulty": ["hard", "easy", "easy", "hard"]})
    assert (easy.title, easy.num_clips, cell(easy).value, cell(easy).num_clips) == ("difficulty=easy", 2, 20.0, 1)
    assert (hard.title, cell(hard).value) == ("difficulty=hard", 25.0)
    assert not tables([10.0, None], {"difficulty": ["easy", "hard"]})[2].rows[0].cells


def test_published_numbers_of_a_stratum_stand_in_its_table_and_are_marked():
    whole, hard = tables([10.0, 20.0], {"difficulty": ["hard", "hard"]}, ["atd12k_table1"])
    for table, value in ((whole, 29.68), (hard, 27.07)):
        row = next(row for row in table.rows if row.system == "AnimeInterp")
        assert row.source == "published: AnimeInterp (arXiv 2104.02495), Table 1" and row.cells["psnr@interior"].value == value
        assert row.cells["psnr@interior"].low is None


def test_two_protocols_never_share_a_column():
    measured = Measurements({"a": {PSNR: [[record(1.0)], [record(2.0, width_px=32)]]}})
    with pytest.raises(UserError, match=r"clips differ in how psnr@interior of a was measured: width_px is 64 and 32"):
        make_tables(measured, {}, [], replicates=2, confidence=0.9, seed=0)
    measured = Measurements({"a": {PSNR: [[record(1.0)]]}, "b": {PSNR: [[record(1.0, weights="other")]]}})
    with pytest.raises(UserError, match="psnr@interior of b was measured otherwise than of a"):
        make_tables(measured, {}, [], replicates=2, confidence=0.9, seed=0)


def test_distances_come_from_all_features_and_their_interval_surrounds_them():
    draws = torch.Generator().manual_seed(0)
    truth, made = torch.randn(12, 400, generator=draws), 0.3 + torch.randn(12, 400, generator=draws)
    clips = [[{**record(None, column=f"{name}@all"), "features": features if name == "fvd" else None} for name in ("fvd", "kvd")]
             for features in made.tolist()]
    measured = Measurements({"a": {FVD: clips}}, {FVD: truth.tolist()})
    whole, stratum = make_tables(measured, {"title": ["x"] * 12}, [], replicates=50, confidence=0.95, seed=0)
    found = whole.rows[0].cells
    assert found["fvd@all"].value == pytest.approx(frechet_distance(made, truth), rel=1e-6)
    assert found["fvd@all"].low < found["fvd@all"].value < found["fvd@all"].high
    assert set(found) == {"fvd@all", "kvd@all"} and not stratum.rows[0].cells


def test_resamples_are_the_same_for_all_systems():
    bootstrap = Bootstrap(5, 0.9, 1)
    assert (bootstrap.indices(4, 5) == bootstrap.indices(4, 5)).all()
    assert (Bootstrap(5, 0.9, 2).indices(4, 5) != bootstrap.indices(4, 5)).any()


def test_thirds_follow_the_rank_and_equal_amounts_stay_together():
    assert thirds([3.0, 1.0, 2.0, None]) == ["high third", "low third", "middle third", "unknown"]
    assert thirds([1.0, 1.0, 1.0]) == ["low third"] * 3
    assert thirds([None]) == ["unknown"]


def test_published_tables_are_the_papers():
    tooncrafter = {row.system: row.values for row in TABLES["tooncrafter_table1"].rows}["ToonCrafter"]
    assert tooncrafter == {"fvd@all": 43.92, "kvd@all": 1.52, "lpips_alex@all": 0.1733, "clip_img@all": 0.9221,
                           "clip_txt@all": 0.3129, "cpbd@all": 0.6723}
    assert [len(table.rows) for table in TABLES.values()] == [5, 5, 3, 13]


def test_weights_are_needed_by_exactly_the_metrics_that_fail_without_them(tmp_path, monkeypatch):
    monkeypatch.setenv("TOONFORGE_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    for name in METRICS:
        try:
            build_metrics([name], MeasuringOptions())
        except UserError:
            assert name in NEEDS
        else:
            assert name not in NEEDS
