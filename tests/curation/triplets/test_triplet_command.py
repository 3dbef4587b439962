"""Promise: the command checks its job, freezes it and starts the one process that reads it; a curation's folder is left alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import pipeline.config
from curation.triplets.config import TripletsJob
from pipeline.config import Kind, thaw
from pipeline.errors import UserError
from pipeline.launch.triplets import triplets

KIND = Kind("triplets", TripletsJob, "triplets")


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that would have replaced this process."""
    known = (*(kind for kind in pipeline.config.KINDS if kind.command != "triplets"), KIND)
    monkeypatch.setattr(pipeline.config, "KINDS", known)
    monkeypatch.setattr(pipeline.config, "TRIPLETS", KIND, raising=False)
    commands: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda program, command: commands.append(command))
    return commands


def test_job_is_frozen_and_its_process_started(tmp_path: Path, started: list[list[str]]) -> None:
    triplets([f"shards={tmp_path / 'films'}", f"out={tmp_path / 'out'}", "candidates.per_shot=3", "candidates.unit=frames"])
    ((_, *words),) = started
    assert words == ["-m", "curation.triplets", str(tmp_path / "out" / "config.yaml")]
    job = thaw(tmp_path / "out" / "config.yaml", KIND)
    assert (job.candidates.per_shot, job.candidates.unit.value, job.shards) == (3, "frames", str(tmp_path / "films"))


def test_a_changed_setting_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for least in ("0.75", "0.7"):
        triplets([f"shards={tmp_path / 'films'}", f"out={tmp_path / 'out'}", f"ssim.min={least}"])
    assert "ssim.min 0.75 -> 0.7" in capsys.readouterr().out


def test_the_folder_of_a_curation_keeps_its_frozen_job(tmp_path: Path, started: list[list[str]]) -> None:
    (tmp_path / "config.yaml").write_text("dear")
    with pytest.raises(UserError, match="holds a curation"):
        triplets([f"shards={tmp_path}", f"out={tmp_path}"])
    (tmp_path / "clips.parquet").touch()
    with pytest.raises(UserError, match="holds a curation"):
        triplets([f"shards={tmp_path / 'others'}", f"out={tmp_path}"])
    assert (tmp_path / "config.yaml").read_text() == "dear" and not started


@pytest.mark.parametrize(("arguments", "words"), [
    ([], "shards has no value"), (["-m", "shards=a"], "takes no -m"), (["shards=a", "ssim.mim=0.7"], r"Did you mean ssim\.min"),
    (["shards=a", "candidates.unit=holds"], "drawings")])
def test_mistakes_are_told_before_anything_is_written(arguments: list[str], words: str, tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=words):
        triplets(arguments)
    assert not list(tmp_path.iterdir())


def test_cfg_shows_the_job_and_starts_nothing(capsys: pytest.CaptureFixture[str], started: list[list[str]]) -> None:
    triplets(["--cfg", "job"])
    assert "per_shot: 1" in capsys.readouterr().out and not started
