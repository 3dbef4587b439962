"""Promise: a data set far away is read like one on disk, and only the bytes asked for are fetched."""

from __future__ import annotations

import pickle
from pathlib import Path

import fsspec
import pytest

from pipeline.errors import UserError
from pipeline.shard_files import Span, open_folder
from pipeline.shards import Manifest, Sample, ShardReader, write_manifest, write_shards

SAMPLES = [Sample(f"key-{index}", {"mp4": bytes([index]) * 300_000, "json": b"{}", "sketch.npz": bytes([9]) * 200_000})
           for index in range(5)]


@pytest.fixture
def local(tmp_path: Path) -> Path:
    shards = write_shards(SAMPLES, tmp_path, "train", max_bytes=1 << 30, max_samples=3)
    shards += write_shards([Sample("held-out", {"mp4": b"x"})], tmp_path, "eval", max_bytes=1 << 30, max_samples=3)
    write_manifest(tmp_path, Manifest("key", shards))
    return tmp_path


@pytest.fixture
def remote(local: Path, request: pytest.FixtureRequest) -> str:
    name = f"/{request.node.name}"
    files = fsspec.filesystem("memory")
    files.mkdirs(name, exist_ok=True)
    for path in local.iterdir():
        files.pipe_file(f"{name}/{path.name}", path.read_bytes())
    request.addfinalizer(lambda: files.rm(name, recursive=True))
    return f"memory:/{name}"


def test_distant_data_set_is_that_on_disk(local: Path, remote: str) -> None:
    for address in (remote, f"{remote}/", f"{remote}/manifest.json", f"file://{local}"):
        reader = ShardReader(address)
        assert reader.keys == ShardReader(local).keys
        assert list(reader.samples()) == list(ShardReader(local).samples())
    reader = pickle.loads(pickle.dumps(ShardReader(remote, "eval")))
    assert reader.keys == ["held-out"] and reader.read("held-out", "mp4") == b"x"
    ShardReader(remote).verify()


def test_only_what_is_asked_for_is_fetched(remote: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []
    memory = type(fsspec.filesystem("memory"))
    original = memory.cat_file

    def counted(self, path, start=None, end=None, **options):
        fetched.append(end - start)
        return original(self, path, start=start, end=end, **options)

    reader = ShardReader(remote)
    monkeypatch.setattr(memory, "cat_file", counted)
    sample = reader.sample("key-3", only=("mp4", "json"))
    assert sample.files == {name: SAMPLES[3].files[name] for name in ("mp4", "json")}
    # Two members side by side are one request: 300,000 bytes, padding and headers of 512, and no drawings.
    assert len(fetched) == 1 and fetched[0] < 302_000
    fetched.clear()
    assert reader.read_many(["key-4", "key-0"], "json") == [b"{}", b"{}"]
    assert sum(fetched) == 4


def test_damage_far_away_is_named_as_on_disk(local: Path, remote: str) -> None:
    files, root = fsspec.filesystem("memory"), remote.removeprefix("memory:/")
    tar = files.cat_file(f"{root}/train-000000.tar")
    files.pipe_file(f"{root}/train-000000.tar", tar[:-512])
    with pytest.raises(UserError, match=f"has {len(tar) - 512} bytes, not {len(tar)}"):
        ShardReader(remote)
    files.rm(f"{root}/train-000000.tar")
    with pytest.raises(UserError, match="it is absent"):
        ShardReader(remote)
    files.pipe_file(f"{root}/train-000000.tar", tar)
    files.pipe_file(f"{root}/train-000000.index.json", b"{")
    with pytest.raises(UserError, match=r"train-000000\.index\.json cannot be read"):
        ShardReader(remote)
    files.rm(f"{root}/train-000000.index.json")
    with pytest.raises(UserError, match=r"train-000000\.index\.json is absent"):
        ShardReader(remote)


def test_address_that_is_no_data_set_or_cannot_be_opened_is_refused() -> None:
    with pytest.raises(UserError, match="no data set"):
        ShardReader("memory://nothing/here")
    with pytest.raises(UserError, match="cannot be opened"):
        ShardReader("nosuchprotocol://bucket")


def test_file_that_ends_before_a_span_does_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"0123456789")
    for folder in (open_folder(tmp_path), open_folder(f"file://{tmp_path}")):
        assert folder.read([Span("a.tar", 4, 2), Span("a.tar", 0, 3)]) == [b"45", b"012"]
        with pytest.raises(UserError, match="ended 2 bytes before"):
            folder.read([Span("a.tar", 8, 4)])
