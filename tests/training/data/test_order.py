"""Promise: which clip sample n takes is a function of (seed, n), whatever the ranks, the micro-batch and the restarts."""

from __future__ import annotations

from collections import Counter

import pytest

from training.data.order import Order, rank_numbers


@pytest.mark.parametrize(("world", "micro_batch"), [(1, 8), (1, 1), (2, 2), (4, 2), (4, 1)])
def test_ranks_and_micro_batches_cover_each_global_batch_once(world: int, micro_batch: int) -> None:
    for step in (0, 3):
        parts = [rank_numbers(step, global_batch=8, rank=rank, world=world, micro_batch=micro_batch) for rank in range(world)]
        # Micro-batch j of all ranks together is the j-th piece of the global batch.
        pieces = [number for index in range(len(parts[0])) for part in parts for number in part[index]]
        assert pieces == list(range(8 * step, 8 * step + 8))


def test_each_epoch_takes_every_clip_once_in_another_order() -> None:
    order = Order({"a": 10}, global_batch=4, seed=1)
    epochs = [[order.clip(10 * epoch + place)[1] for place in range(10)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert [order.clip(number)[1] for number in range(10)] != [Order({"a": 10}, 4, seed=2).clip(number)[1]
                                                               for number in range(10)]


def test_global_batch_is_of_one_bucket_and_every_clip_of_it_is_taken_once_an_epoch() -> None:
    clips = {"wide": 12, "square": 4}
    order = Order(clips, global_batch=4, seed=3)
    batches = [{order.bucket(4 * step + place) for place in range(4)} for step in range(12)]
    assert all(len(buckets) == 1 for buckets in batches)
    # A round is 3 batches of "wide" and 1 of "square": as many as their clips fill.
    for first in (0, 4, 8):
        assert Counter(bucket for buckets in batches[first : first + 4] for bucket in buckets) == {"wide": 3, "square": 1}
    for epoch in range(3):
        taken = Counter(order.clip(number) for number in range(16 * epoch, 16 * epoch + 16))
        assert taken == Counter({(name, index): 1 for name, count in clips.items() for index in range(count)})


def test_replacements_of_a_damaged_clip_go_through_all_others() -> None:
    order = Order({"a": 5}, global_batch=2, seed=0)
    assert sorted(order.clip(3, attempt)[1] for attempt in range(5)) == list(range(5))
    assert order.clip(3, 1) == order.clip(4)              # the next of the permutation
