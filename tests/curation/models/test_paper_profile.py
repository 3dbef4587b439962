"""Promise: profile=paper runs every model through its real library, offline, and its scores and captions land in the outputs."""

from __future__ import annotations

import json
import shutil
import socket
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from paper_run import draw_films, paper_job, poison, write_weights

from curation.cascade import curate
from curation.search import find_clips
from pipeline.config import load
from pipeline.errors import UserError
from pipeline.shards import ShardReader, read_manifest

MODEL_COLUMNS = ("motion_raft_mean", "motion_raft_drawn_max", "text_area_share", "text_overlay_drawn", "aesthetic_mean",
                 "aesthetic_lowest", "alignment_first", "alignment_middle", "alignment_last", "alignment_mean",
                 "alignment_lowest", "semantic_cosine")


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_films(tmp_path_factory.mktemp("films") / "archive")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def run(films: Path, weights: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The films curated once, with a network that cannot be reached."""
    out = tmp_path_factory.mktemp("run") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", _no_network)
        curate(paper_job(films, out, *weights))
    return out


def _no_network(*_: object) -> None:
    raise AssertionError("something asked the network")


def rows(out: Path) -> list[dict[str, Any]]:
    return pq.read_table(out / "clips.parquet").to_pylist()


def test_every_model_measures_every_clip_that_the_gates_before_left(run: Path) -> None:
    found = rows(run)
    kept = [row for row in found if row["verdict"] == "keep"]
    assert len(kept) == 3
    for row in kept:
        assert all(row[name] is not None for name in MODEL_COLUMNS), {name: row[name] for name in MODEL_COLUMNS}
        assert row["not_measured"] == ""
        assert min(row["alignment_first"], row["alignment_middle"], row["alignment_last"]) == row["alignment_lowest"]
    still = next(row for row in found if row["source"] == "still.mkv")
    assert still["gate"] in ("motion", "duration") and still["aesthetic_mean"] is None     # costs no model anything


def test_samples_hold_vectors_scores_and_captions_with_their_origin(run: Path) -> None:
    reader = ShardReader(run)
    for index in range(len(reader)):
        files = reader[index].files
        record = json.loads(files["json"])
        vectors = np.load(BytesIO(files["clip.npy"]))
        sketch = np.load(BytesIO(files["sketch.npz"]))["sketch"]
        assert sketch.shape == (record["frames"], record["height"], record["width"]) and set(np.unique(sketch)) <= {0, 255}
        assert record["sketches"] == {"extractors": ["opencv"], "error": ""}
        assert vectors.shape == (3, 32) and np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
        assert {"motion", "motion_raft", "aesthetic", "alignment"} <= set(record["scores"])
        whole, one = record["captions"]
        assert whole["text"] == files["txt"].decode() == one["text"] + "."
        assert one["model"].startswith("blip2 sha256:") and one["prompt"] == "a photo of"
        assert one["frame_index"] == (record["frames"] - 1) // 2


def test_manifest_names_every_model_with_its_digest(run: Path) -> None:
    models = read_manifest(run).models
    assert {"clip", "aesthetic", "alignment", "caption", "text_area", "flow"} <= set(models)
    assert models["text_area"].startswith("craft sha256:") and "raft_small sha256:" in models["flow"]


def test_second_run_asks_no_model_and_gives_the_same_bytes(run: Path, films: Path, weights: list[str], tmp_path: Path,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("curation.label.embed.ImageTower", "curation.label.captions.Captioner", "curation.flow.RaftFlow",
                 "curation.gates.alignment.TextTower", "curation.gates.text_detector.build_detector"):
        monkeypatch.setattr(name, _loaded_again)
    again = tmp_path / "again"
    curate(replace(paper_job(films, again, *weights), store=str(run / "artifacts")))
    for shard in sorted(run.glob("*.tar")):
        assert (again / shard.name).read_bytes() == shard.read_bytes()


@pytest.mark.slow
def test_ray_gives_the_shards_of_a_plain_loop(run: Path, films: Path, weights: list[str], tmp_path: Path) -> None:
    """Batches span films there, and every model has a worker of its own."""
    curate(paper_job(films, tmp_path / "out", *weights, "curation.executor=ray", "curation.workers=2", "ray.object_store_mb=80"))
    shards = sorted(path.name for path in run.glob("*.tar"))
    assert shards == sorted(path.name for path in (tmp_path / "out").glob("*.tar"))
    for name in shards:
        assert (tmp_path / "out" / name).read_bytes() == (run / name).read_bytes()


def _loaded_again(*_: object, **__: object) -> None:
    raise AssertionError("a model was loaded although everything is known")


def test_clips_are_found_by_words(run: Path, weights: list[str]) -> None:
    job = paper_job(Path("films"), run, *weights)
    found = find_clips(run, "a red boat", job.models, count=2)
    assert len(found) == 2 and found[0].cosine >= found[1].cosine
    kept = {row["key"] for row in rows(run) if row["verdict"] == "keep"}
    assert {one.key for one in found} <= kept and found[0].caption


@pytest.mark.slow
def test_model_that_returns_nan_sets_the_clip_aside(films: Path, weights: list[str], tmp_path: Path) -> None:
    """RAFT's weights are poisoned: every clip that reaches it is dropped by its gate with the reason, and the run ends well."""
    name = next(option for option in weights if option.startswith("models.flow.weights=")).partition("=")[2]
    bad = tmp_path / "bad.pth"
    shutil.copy(name, bad)
    poison(bad)
    one = tmp_path / "one"
    one.mkdir()
    shutil.copy(films / "second.mkv", one)
    out = tmp_path / "out"
    curate(paper_job(one, out, *weights, f"models.flow.weights={bad}"))
    dropped = [row for row in rows(out) if row["gate"] == "motion"]
    assert dropped and all("could not be measured: RAFT returned a value that is no number" in row["reason"] for row in dropped)


@pytest.mark.parametrize(("option", "instead"), [
    ("models.clip.weights", "profile=embedded"), ("models.text.weights", "models.text.name=rapidocr"),
    ("models.flow.weights", "models.flow.name=none"), ("models.caption.weights", "models.caption.name=facts"),
])
def test_missing_weight_is_one_sentence_that_names_the_command_and_what_needs_none(
        option: str, instead: str, weights: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        curate(paper_job(tmp_path, tmp_path / "out", *weights, f"{option}={tmp_path / 'absent.pth'}"))
    sentence = str(caught.value)
    assert sentence.startswith(f"{option}=") and "make weights PROFILE=paper" in sentence and instead in sentence
    assert "\n" not in sentence


def test_embedded_profile_asks_for_no_weights_and_says_what_it_does_not_measure() -> None:
    from curation.models.files import find_all

    models = load([]).models
    assert find_all(models) == {} and models.not_measured == ("aesthetic", "alignment")


def test_gate_without_its_model_is_told_before_anything_runs() -> None:
    with pytest.raises(UserError, match=r"gates.alignment.enabled=true, but models.alignment.name=none"):
        load(["gates.alignment.enabled=true"])
