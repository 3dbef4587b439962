"""Promise: raw films become shards by one command, the same bytes each time, and whatever stops it is told in a sentence."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import pyarrow.parquet as pq
import pytest
import webdataset

from curation.sample_archive import LOST, REELS, draw_archive
from curation.verdicts import NAMES
from pipeline.shards import read_manifest

ROOT = Path(__file__).resolve().parents[2]
SIZE = "160x90"
SMALL = ["gates.quality.min_side_px=32", "gates.quality.min_sharpness=0", "tracker=disabled"]    # of such small films
INLINE = "curation.executor=inline"
OUTPUTS = {"manifest.json", "sources.parquet", "clips.parquet", "summary.json", "report.html", "metrics.jsonl", "config.yaml"}
TIMEOUT_S = 300


@dataclass(frozen=True)
class Run:
    """A curation that has ended."""

    code: int
    stdout: str
    stderr: str
    out: Path

    @property
    def summary(self) -> dict[str, Any]:
        return json.loads((self.out / "summary.json").read_text())

    def table(self, name: str) -> list[dict[str, Any]]:
        return pq.read_table(self.out / name).to_pylist()

    @property
    def shards(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(self.out.glob("*.tar"))}

    def samples(self) -> list[dict[str, Any]]:
        """What plain WebDataset reads, split by split."""
        found = []
        for shard in read_manifest(self.out).shards:
            for sample in webdataset.WebDataset(str(self.out / shard.path), shardshuffle=False).decode():
                found.append({**sample, "split": shard.path.partition("-")[0]})
        return found


def command(archive: Path | str, out: Path | str, *overrides: str) -> list[str]:
    return [sys.executable, "-m", "pipeline", "curate", f"archive={archive}", f"out={out}", *SMALL, *overrides]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "WANDB_MODE": "disabled"}


def curate(archive: Path | str, out: Path, *overrides: str) -> Run:
    """Runs the command line in the archive's parent folder, where nothing is written."""
    done = subprocess.run(command(archive, out, *overrides), cwd=Path(archive).parent, env=environment(), capture_output=True,
                          text=True, timeout=TIMEOUT_S, check=False)
    return Run(done.returncode, done.stdout, done.stderr, out)


def assert_sentence(run: Run, *words: str) -> None:
    """Exit code 2, one sentence that says `words`, nothing else but progress, and no data set."""
    assert run.code == 2, run.stderr
    lines = [line for line in run.stderr.splitlines() if not re.match(r"\d\d:\d\d:\d\d ", line)]
    assert len(lines) == 1 and lines[0].startswith("toonforge: error: "), run.stderr
    assert all(word in lines[0] for word in words), lines[0]
    assert not (run.out / "manifest.json").exists()


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The films of a small sample archive."""
    return draw_archive(tmp_path_factory.mktemp("drawn") / "archive", seed=0, size=SIZE)


@pytest.fixture(scope="session")
def first(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The archive curated once, in one process."""
    return curate(drawn, tmp_path_factory.mktemp("first") / "out", INLINE)


@pytest.fixture(scope="session")
def few(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two of its films."""
    folder = tmp_path_factory.mktemp("few") / "films"
    folder.mkdir()
    for name in ("harbour_tales_s01e01.mp4", "paper_boats_vfr.mp4"):
        shutil.copy(drawn / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def few_curated(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The two films curated in one process."""
    run = curate(few, tmp_path_factory.mktemp("few_curated") / "out", INLINE)
    assert run.code == 0 and run.shards, run.stderr
    return run


def test_run_ends_well_and_leaves_every_file_of_the_contract(first: Run) -> None:
    assert first.code == 0, first.stderr
    names = {path.name for path in first.out.iterdir()}
    assert names >= OUTPUTS
    assert any(name.startswith("train-") for name in names) and any(name.startswith("eval-") for name in names)
    assert not [path for path in first.out.rglob("*") if ".tmp" in path.name and path.is_file()]
    assert not (first.out / "artifacts" / "spool").exists()          # what was unpacked is gone
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in first.stderr.splitlines()), first.stderr
    assert str(first.out / "manifest.json") in first.stdout
    assert (first.stdout + first.stderr).isascii()


def test_every_file_of_the_archive_is_a_source_with_its_status(first: Run) -> None:
    rows = {row["path"]: row for row in first.table("sources.parquet")}
    names = {reel.file if reel.coding is not None else f"{reel.file}/frame_*.png" for reel in REELS}
    assert set(rows) == names | {LOST}
    assert {name for name, row in rows.items() if row["status"] != "ok"} == {LOST}
    assert rows[LOST]["status"] == "quarantined" and rows[LOST]["error"]
    assert rows["attic_reel_damaged.mp4"]["note"]
    assert len({row["sha256"] for row in rows.values()}) == len(rows)


def test_plain_webdataset_reads_every_shard_and_keys_are_unique_and_without_dots(first: Run) -> None:
    samples = first.samples()
    keys = [sample["__key__"] for sample in samples]
    assert len(set(keys)) == len(keys) == first.summary["kept"]["train"] + first.summary["kept"]["eval"] > 20
    assert not any("." in key or len(key) > 40 for key in keys)
    for sample in samples:
        record = sample["json"]
        assert record["key"] == sample["__key__"] and sum(record["holds"]) == record["frames"]
        assert sample["txt"] == record["captions"][0]["text"] and sample["txt"].endswith(".")


def test_clips_in_the_shards_hold_the_frames_that_their_record_promises(first: Run) -> None:
    for sample in first.samples()[::5]:
        with av.open(BytesIO(sample["mp4"])) as film:
            pictures = list(film.decode(video=0))
        record = sample["json"]
        assert len(pictures) == record["frames"]
        assert {(picture.width, picture.height) for picture in pictures} == {(record["width"], record["height"])}
        assert pictures[0].pts == 0
        assert float(pictures[-1].pts * pictures[-1].time_base) < record["end_s"] - record["start_s"]


def test_manifest_describes_the_shards(first: Run) -> None:
    manifest = read_manifest(first.out)
    assert {shard.path for shard in manifest.shards} == set(first.shards)
    for shard in manifest.shards:
        data = first.shards[shard.path]
        assert (shard.bytes, shard.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert (first.out / shard.path).with_suffix(".index.json").is_file()
    counts = manifest.counts
    assert counts["train"] + counts["eval"] == sum(shard.samples for shard in manifest.shards) == len(first.samples())
    assert counts["sources"] == len(REELS) + 1 and counts["clips"] == len(first.table("clips.parquet"))


def test_every_kept_clip_is_in_a_shard_of_its_split_and_every_dropped_one_has_a_reason(first: Run) -> None:
    rows = first.table("clips.parquet")
    assert {row["key"]: row["split"] for row in rows if row["verdict"] == "keep"} == {
        sample["__key__"]: sample["split"] for sample in first.samples()}
    for row in rows:
        if row["verdict"] != "keep":
            assert re.match(rf"({'|'.join(NAMES)}): \S", row["reason"]), row
            assert not row["split"]
    splits_of_title: dict[str, set[str]] = {}
    for row in rows:
        if row["verdict"] == "keep":
            splits_of_title.setdefault(row["title"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in splits_of_title.values()), splits_of_title


def test_repeats_static_shots_and_credits_are_dropped(first: Run) -> None:
    """The archive holds all of them, so each gate that is for them drops something."""
    dropped = first.summary["dropped"]
    assert dropped["motion"] and dropped["text_area"] and dropped["duplicates"] and dropped["duration"]


def assert_ray_agrees(inline: Run, archive: Path, out: Path) -> None:
    run = curate(archive, out, "curation.executor=ray", "curation.workers=2", "ray.object_store_mb=80")
    assert run.code == 0, run.stderr
    assert run.shards == inline.shards
    for name in ("clips.parquet", "sources.parquet"):
        assert run.table(name) == inline.table(name)
    # Quiet: progress and nothing of Ray's own.
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in run.stderr.splitlines()), run.stderr


def test_ray_gives_the_same_bytes(few_curated: Run, few: Path, tmp_path: Path) -> None:
    assert_ray_agrees(few_curated, few, tmp_path / "out")


@pytest.mark.slow
def test_ray_gives_the_same_bytes_of_every_kind_of_source(first: Run, drawn: Path, tmp_path: Path) -> None:
    assert_ray_agrees(first, drawn, tmp_path / "out")


def test_killed_run_given_again_ends_with_the_same_bytes(few_curated: Run, few: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen(command(few, out, INLINE), cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: any(out.glob("artifacts/survey/*/*/step.json")), process)     # the first of two films is surveyed
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    finally:
        process.kill()
        process.wait()
    assert not (out / "manifest.json").exists() and not list(out.glob("*.tar"))
    again = curate(few, out, INLINE)
    assert again.code == 0, again.stderr
    assert again.shards == few_curated.shards
    assert (out / "manifest.json").read_bytes() == (few_curated.out / "manifest.json").read_bytes()
    assert 0 < again.summary["frames_decoded"] < few_curated.summary["frames_decoded"]       # what was surveyed stands
    assert not list(out.glob("artifacts/.tmp/*"))


def test_second_run_decodes_nothing_and_a_changed_limit_only_decides_anew(few_curated: Run, few: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(few_curated.out, out)
    encoded = set(out.glob("artifacts/clip/*/*"))
    again = curate(few, out, INLINE)
    assert again.code == 0, again.stderr
    assert few_curated.summary["frames_decoded"] > again.summary["frames_decoded"] == 0
    assert again.shards == few_curated.shards
    assert set(out.glob("artifacts/clip/*/*")) == encoded
    other = curate(few, out, INLINE, "gates.duration.min_s=2.5")
    assert other.summary["frames_decoded"] == 0
    assert set(out.glob("artifacts/clip/*/*")) == encoded
    samples = other.samples()
    kept = {row["key"] for row in other.table("clips.parquet") if row["verdict"] == "keep"}
    assert {sample["__key__"] for sample in samples} == kept < {sample["__key__"] for sample in few_curated.samples()}
    assert samples and all(sample["json"]["end_s"] - sample["json"]["start_s"] >= 2.5 for sample in samples)


def test_typo_and_missing_archive_are_told_in_a_sentence(few: Path, tmp_path: Path) -> None:
    assert_sentence(curate(few, tmp_path / "out", "gates.text_area.mx=0.1"), "gates.text_area.mx", "gates.text_area.max")
    assert_sentence(curate(tmp_path / "flims", tmp_path / "out"), "archive=", "flims does not exist")
    assert not (tmp_path / "out").exists()


def test_archive_without_a_film_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    assert_sentence(curate(tmp_path / "films", tmp_path / "out", INLINE), "archive=", "is empty")


@pytest.mark.parametrize("place", ["file", "file/out", "/proc/out"])
def test_folder_that_cannot_be_written_is_told_in_a_sentence(place: str, few: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert_sentence(curate(few, tmp_path / place, INLINE), "out=", "cannot be written")


def test_folder_in_use_by_another_run_is_told_in_a_sentence(few: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with (out / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert_sentence(curate(few, out, INLINE), "out=", "in use")


def test_archive_in_which_nothing_is_a_film_ends_well_with_reasons(tmp_path: Path) -> None:
    films = tmp_path / "films"
    films.mkdir()
    (films / "empty.mp4").touch()
    (films / "notes.txt").write_text("no film")
    (films / "noise.mkv").write_bytes(bytes(range(256)) * 20)
    run = curate(films, tmp_path / "out", INLINE)
    assert run.code == 0, run.stderr
    rows = run.table("sources.parquet")
    assert {row["path"] for row in rows} == {"empty.mp4", "noise.mkv", "notes.txt"}
    assert all(row["status"] == "quarantined" and row["error"] for row in rows)
    assert run.shards == {} and read_manifest(run.out).shards == []


@pytest.mark.parametrize("size", ["300k", *(pytest.param(size, marks=pytest.mark.slow) for size in ("600k", "900k"))])
def test_full_disk_is_told_in_a_sentence_and_leaves_nothing_half_written(size: str, few: Path, tmp_path: Path) -> None:
    """Full while surveying, encoding or writing shards, on a small file system that goes away with the command."""
    if subprocess.run(in_small_disk(tmp_path, size, ["true"]), capture_output=True, check=False).returncode:
        pytest.skip("a small tmpfs is absent: mounting one in a user namespace is not permitted here")
    out = tmp_path / "disk" / "out"
    done = subprocess.run(in_small_disk(tmp_path, size, command(few, out, INLINE)), cwd=tmp_path, env=environment(),
                          capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    left = done.stdout.split()
    assert_sentence(Run(done.returncode, "", done.stderr, out), "the disk is full")
    assert str(out / "config.yaml") in left
    assert not [name for name in left if name.endswith("manifest.json") or ".tmp" in name.removeprefix(str(tmp_path))]


def in_small_disk(folder: Path, size: str, arguments: list[str]) -> list[str]:
    """The command with a tmpfs of `size` at <folder>/disk; lists the files left there on stdout."""
    script = 'mkdir -p "$0" && mount -t tmpfs -o size=' + size + ' tmpfs "$0" || exit 99; "$@" >/dev/null; code=$?; ' \
             'find "$0" -type f; exit $code'
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, str(folder / "disk"), *arguments]


def wait_until(is_so: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not is_so():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
