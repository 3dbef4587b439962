"""Promise: flows written into shards are those of the matching, all else stays as it was, and a second run matches nothing."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from drawn_triplets import draw_triplet, triplet_sample, write_drawn, write_triplets

from pipeline.errors import UserError
from pipeline.shards import ShardReader, read_manifest
from pipeline.store import Store
from training.animeinterp import precompute, sgm
from training.animeinterp.features import stand_in_vgg19
from training.animeinterp.precompute import add_flows, main, with_flows
from training.animeinterp.sgm import CachedMatching
from training.data.triplets import read_flows

SIZE = (128, 96)


@pytest.fixture
def matching(tmp_path):
    return CachedMatching(Store(tmp_path / "store"), stand_in_vgg19())


def test_flows_of_every_triplet_are_beside_its_frames(tmp_path, matching, monkeypatch):
    source = write_drawn(tmp_path / "plain", num_train=2, num_heldout=1)
    assert add_flows(source, tmp_path / "out", matching, SIZE) == 3
    before, after = ShardReader(source), ShardReader(tmp_path / "out")
    after.verify()
    for key in before.keys:
        files = dict(after.sample(key).files)
        flows = read_flows(files.pop("flow.npz"), SIZE)
        assert files == before.sample(key).files
        first, _, last = draw_triplet(int(key[-4:]))
        found = matching.flows(np.ascontiguousarray(first[..., ::-1]), np.ascontiguousarray(last[..., ::-1]))
        assert np.array_equal(flows, np.stack([found.flow01, found.flow10]))
    assert [len(ShardReader(tmp_path / "out", split)) for split in ("train", "eval")] == [2, 1]
    record = read_manifest(tmp_path / "out").models["sgm"]
    assert "stand-in" in record["features"] and record["size"] == "128x96"

    monkeypatch.setattr(sgm, "match_pair", None)         # would be called for a pair that is not kept
    shards = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.tar")}
    add_flows(source, tmp_path / "out", matching, SIZE)
    assert shards == {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.tar")}


def test_clips_and_damaged_frames_are_refused(tmp_path, matching):
    sample = triplet_sample("t-0", draw_triplet(0))
    sample.files["1.png"] = b"no picture"
    with pytest.raises(UserError, match="t-0 is damaged"):
        with_flows(sample, matching, SIZE)
    del sample.files["1.png"]
    with pytest.raises(UserError, match="t-0 is no triplet"):
        with_flows(sample, matching, SIZE)


def test_command_writes_shards_and_says_what_is_wrong(tmp_path, capsys, monkeypatch):
    source = write_triplets(tmp_path / "plain", [triplet_sample("t-0", draw_triplet(0))])
    assert main([str(source), str(tmp_path / "out"), "--size", "128x96"]) == 0
    assert "flow.npz" in ShardReader(tmp_path / "out", "train").extensions("t-0")
    assert "event=done samples=1" in capsys.readouterr().out
    monkeypatch.setattr(precompute, "add_flows", None)   # nothing is begun
    assert main([str(source), str(tmp_path / "out"), "--size", "big"]) == 2
    assert "is no size" in capsys.readouterr().err


def test_shards_are_not_written_over_themselves(tmp_path, matching):
    source = write_drawn(tmp_path / "plain", num_train=1, num_heldout=0)
    with pytest.raises(UserError, match="not changed in place"):
        add_flows(source, source, matching, SIZE)
