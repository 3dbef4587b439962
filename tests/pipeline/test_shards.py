"""Promise: WebDataset reads our shards, we read WebDataset's, and the same samples give the same bytes."""

import io
import json
import pickle
import tarfile

import numpy as np
import pytest
import webdataset

from pipeline.errors import UserError
from pipeline.hashing import file_digest
from pipeline.shards import (
    Manifest,
    Sample,
    ShardReader,
    build_index,
    index_path,
    read_manifest,
    write_manifest,
    write_shards,
)

BIG = 1 << 30


def make_sample(index, num_bytes=100):
    sketch = io.BytesIO()
    np.savez(sketch, lines=np.full((2, 2), index))
    files = {"mp4": bytes([index % 256]) * num_bytes, "txt": f"clip {index}".encode(),
             "json": json.dumps({"fps": 24, "index": index}).encode(), "sketch.npz": sketch.getvalue()}
    return Sample(f"key-{index:04d}", files)


def write(folder, samples, prefix="train", max_bytes=BIG, max_samples=1000):
    return write_shards(samples, folder, prefix, max_bytes=max_bytes, max_samples=max_samples)


def test_webdataset_decodes_our_samples(tmp_path):
    shards = write(tmp_path, map(make_sample, range(5)), max_samples=2)
    paths = [str(tmp_path / shard.path) for shard in shards]
    found = list(webdataset.WebDataset(paths, shardshuffle=False).decode())
    assert [sample["__key__"] for sample in found] == [f"key-{index:04d}" for index in range(5)]
    assert found[3]["txt"] == "clip 3"
    assert found[3]["json"] == {"fps": 24, "index": 3}
    assert found[3]["mp4"] == b"\x03" * 100
    assert found[3]["sketch.npz"]["lines"].tolist() == [[3, 3], [3, 3]]


def test_reader_returns_what_was_written_by_number_by_key_and_in_order(tmp_path):
    samples = [make_sample(index) for index in range(7)]
    write(tmp_path, samples, max_samples=3)
    reader = ShardReader(tmp_path)
    assert len(reader) == 7
    assert reader[4] == samples[4]
    assert reader.sample("key-0006") == samples[6]
    assert reader.read("key-0002", "txt") == b"clip 2"
    assert list(reader.samples()) == samples
    assert pickle.loads(pickle.dumps(reader))[0] == samples[0]  # data loaders send it to their workers


def test_reader_reads_a_tar_of_webdataset_alone(tmp_path):
    with webdataset.TarWriter(str(tmp_path / "foreign.tar")) as writer:
        for name in ("b", "a"):
            writer.write({"__key__": f"folder.v1/{name}", "MP4": b"film " + name.encode(), "json": {"name": name}})
    assert build_index(tmp_path / "foreign.tar").samples == 2
    reader = ShardReader(tmp_path)
    assert reader.keys == ["folder.v1/b", "folder.v1/a"]  # in the order of the tar
    assert reader.read("folder.v1/b", "mp4") == b"film b"
    assert json.loads(reader.sample("folder.v1/a").files["json"]) == {"name": "a"}


def test_same_samples_give_the_same_bytes(tmp_path):
    first = write(tmp_path / "a", map(make_sample, range(20)), max_bytes=20_480)
    second = write(tmp_path / "b", map(make_sample, range(20)), max_bytes=20_480)
    assert first == second
    for shard in first:
        assert (tmp_path / "a" / shard.path).read_bytes() == (tmp_path / "b" / shard.path).read_bytes()


def test_members_tell_nothing_about_the_machine(tmp_path):
    write(tmp_path, [make_sample(0)])
    with tarfile.open(tmp_path / "train-000000.tar") as tar:
        for member in tar:
            found = (member.mtime, member.uid, member.gid, member.uname, member.gname, member.mode)
            assert found == (0, 0, 0, "toonforge", "toonforge", 0o444)


def test_shards_stay_under_the_limits(tmp_path):
    # A sample of one 1,500-byte file takes 512 + 1,536 bytes; a tar closes with 1,024 and is a multiple of 10,240:
    # 4 samples give 8,192 + 1,024, rounded up 10,240; 5 would give 10,240 + 1,024, rounded up 20,480.
    samples = [Sample(f"k{index}", {"mp4": b"x" * 1500}) for index in range(9)]
    shards = write(tmp_path, samples, max_bytes=10_240)
    assert [(shard.path, shard.samples, shard.bytes) for shard in shards] == [
        ("train-000000.tar", 4, 10_240), ("train-000001.tar", 4, 10_240), ("train-000002.tar", 1, 10_240),
    ]
    by_count = write(tmp_path / "count", samples, max_samples=5)
    assert [shard.samples for shard in by_count] == [5, 4]


def test_sample_larger_than_a_shard_has_one_of_its_own(tmp_path):
    sizes = (100, 50_000, 100)
    samples = [Sample(f"k{index}", {"mp4": b"x" * size}) for index, size in enumerate(sizes)]
    assert [shard.samples for shard in write(tmp_path, samples, max_bytes=20_480)] == [1, 1, 1]


def test_recorded_digest_is_that_of_the_bytes(tmp_path):
    (shard,) = write(tmp_path, [make_sample(0)])
    assert shard.sha256 == file_digest(tmp_path / shard.path)
    assert json.loads(index_path(tmp_path / shard.path).read_text())["sha256"] == shard.sha256


def test_interrupted_writing_shows_no_half_shard(tmp_path):
    def samples():
        yield from map(make_sample, range(3))
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        write(tmp_path, samples(), max_samples=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train-000000.index.json", "train-000000.tar"]


def test_fewer_shards_than_last_time_leave_no_old_ones(tmp_path):
    write_manifest(tmp_path, Manifest("key", write(tmp_path, map(make_sample, range(6)), max_samples=2)))
    write(tmp_path, [make_sample(9)], prefix="eval")
    (tmp_path / ".tmp-0123-train-000002.tar").write_bytes(b"half")  # of a killed writer
    (tmp_path / "train-000009.tar").write_bytes(b"not ours: it has no index")
    write(tmp_path, map(make_sample, range(2)), max_samples=2)
    assert sorted(path.name for path in tmp_path.glob("*.tar")) == [
        "eval-000000.tar", "train-000000.tar", "train-000009.tar",
    ]
    assert not list(tmp_path.glob(".tmp*"))
    assert not (tmp_path / "manifest.json").exists()  # it described shards that are no more


def test_manifest_is_gone_before_the_shards_it_describes(tmp_path):
    write_manifest(tmp_path, Manifest("key", write(tmp_path, map(make_sample, range(2)), max_samples=1)))

    def samples():
        yield make_sample(5)
        yield make_sample(6)  # asked for while the first shard is being written
        assert not (tmp_path / "manifest.json").exists()

    assert len(write(tmp_path, samples(), max_samples=1)) == 2


@pytest.mark.parametrize(("key", "extension"), [
    ("a.b", "mp4"), ("a/b", "mp4"), ("_a", "mp4"), ("", "mp4"), ("k" * 81, "mp4"), ("\u00e9", "mp4"), ("a", "MP4"),
    ("a", ""), ("a", ".mp4"), ("a", "x" * 99),
])
def test_names_that_webdataset_or_tar_would_misread_are_refused(tmp_path, key, extension):
    with pytest.raises(ValueError, match="sample"):
        write(tmp_path, [Sample(key, {extension: b"x"})])
    assert not list(tmp_path.glob("*"))


def test_key_that_occurs_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="twice"):
        write(tmp_path, [make_sample(1), make_sample(2), make_sample(1)], max_samples=1)


def test_manifest_is_read_back_and_chooses_the_split(tmp_path):
    shards = write(tmp_path, map(make_sample, range(4)), max_samples=3)
    shards += write(tmp_path, map(make_sample, range(7, 9)), prefix="eval")
    manifest = Manifest("abc", shards, counts={"kept": 6}, models={"text": "rapidocr"}, versions={"survey": 1})
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    assert read_manifest(tmp_path / "manifest.json") == manifest
    assert len(ShardReader(tmp_path)) == 6
    assert ShardReader(tmp_path / "manifest.json", split="eval").keys == ["key-0007", "key-0008"]


def test_damaged_data_sets_are_refused_in_one_sentence(tmp_path):
    with pytest.raises(UserError, match="no data set"):
        ShardReader(tmp_path)
    shards = write(tmp_path, map(make_sample, range(4)))
    write_manifest(tmp_path, Manifest("abc", shards))
    tar = tmp_path / "train-000000.tar"
    data, index = tar.read_bytes(), index_path(tar).read_text()

    tar.write_bytes(data[:-512])
    with pytest.raises(UserError, match=f"has {len(data) - 512} bytes, not {len(data)}"):
        ShardReader(tmp_path)
    tar.write_bytes(data.replace(b"clip 1", b"clip X"))
    with pytest.raises(UserError, match="its sha256 is"):
        ShardReader(tmp_path).verify()
    tar.unlink()
    with pytest.raises(UserError, match="absent"):
        ShardReader(tmp_path)
    tar.write_bytes(data)
    ShardReader(tmp_path).verify()

    index_path(tar).write_text(index.replace(shards[0].sha256, "0" * 64))
    with pytest.raises(UserError, match="different digests"):
        ShardReader(tmp_path)
    index_path(tar).write_text(index.replace('"schema":1', '"schema":99'))
    with pytest.raises(UserError, match="schema 99"):
        ShardReader(tmp_path)


@pytest.mark.parametrize("data", [b"", b"no tar at all" * 100])
def test_file_that_is_no_tar_is_refused(tmp_path, data):
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(UserError, match="no uncompressed tar"):
        build_index(tmp_path / "a.tar")


def test_unknown_key_names_the_nearest(tmp_path):
    write(tmp_path, [make_sample(1)])
    with pytest.raises(KeyError, match="did you mean key-0001"):
        ShardReader(tmp_path).sample("key-001")
