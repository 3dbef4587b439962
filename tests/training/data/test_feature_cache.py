"""Promise: a cache changes no bits, mixes nothing up and survives what a crash leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.errors import UserError
from training.data.caches import FeatureCache

PARTS = {"weights": "abc", "size": 512}


class Network:
    """Gives row i the values of its key and counts how often it is asked."""

    def __init__(self, keys: list[str]) -> None:
        self.keys, self.calls = keys, 0

    def __call__(self, row: int) -> torch.Tensor:
        self.calls += 1
        return torch.tensor([float(len(self.keys[row])), 0.1], dtype=torch.bfloat16)


def test_rows_are_computed_once_and_read_back_bit_for_bit(tmp_path: Path) -> None:
    keys = ["", "a cat", "a cat", "dog"]
    network = Network(keys)
    first = FeatureCache(tmp_path, PARTS).get_or_compute(keys, network)
    assert network.calls == 3 and first.shape == (4, 2) and first.dtype == torch.bfloat16
    assert first[:, 0].tolist() == [0, 5, 5, 3]
    again = Network(["dog", "a bird", ""])
    found = FeatureCache(tmp_path, PARTS).get_or_compute(again.keys, again)
    assert again.calls == 1 and torch.equal(found[[2, 0]], first[[0, 3]])


def test_other_weights_or_settings_have_other_entries(tmp_path: Path) -> None:
    for parts in (PARTS, {**PARTS, "weights": "abd"}, {**PARTS, "size": 256}):
        network = Network(["a cat"])
        FeatureCache(tmp_path, parts).get_or_compute(network.keys, network)
        assert network.calls == 1


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-1], lambda data: data[:-1] + bytes([data[-1] ^ 1])])
def test_damaged_entry_is_computed_again(tmp_path: Path, damage) -> None:
    network = Network(["a cat"])
    cache = FeatureCache(tmp_path, PARTS)
    whole = cache.get_or_compute(network.keys, network)
    cache.path("a cat").write_bytes(damage(cache.path("a cat").read_bytes()))
    assert torch.equal(cache.get_or_compute(network.keys, network), whole) and network.calls == 2
    cache.get_or_compute(network.keys, network)
    assert network.calls == 2                               # it was written whole


def test_rank_that_fails_while_computing_leaves_nothing(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, PARTS)
    with pytest.raises(ZeroDivisionError):
        cache.get_or_compute(["a"], lambda row: 1 / 0)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_place_that_cannot_be_written_is_named_with_the_ways_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"data\.cache\.folder"):
        FeatureCache(tmp_path / "file", PARTS).get_or_compute(["a"], lambda row: torch.zeros(1))
