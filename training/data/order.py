"""Which clip sample n takes: a pure function of (seed, n), so there is no loader state to save.

Global batch k holds the samples k*B .. k*B+B-1 and is of one bucket. Batches come in rounds: in a round each bucket has as
many as its clips fill, in an order shuffled anew. Within a bucket the clips of one epoch after the other are shuffled anew, and
its batches walk along them without a gap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from training.seeds import numpy_generator


@dataclass(frozen=True, slots=True)
class Order:
    """`clips_per_bucket` says how many clips each bucket has, by its name; none may be empty."""

    clips_per_bucket: Mapping[str, int]
    global_batch: int
    seed: int

    def __post_init__(self) -> None:
        assert self.clips_per_bucket and min(self.clips_per_bucket.values()) > 0, "an order needs clips in every bucket"

    def bucket(self, number: int) -> str:
        """The bucket of sample `number`, the same for its whole global batch."""
        return self._batch(number // self.global_batch)[0]

    def clip(self, number: int, attempt: int = 0) -> tuple[str, int]:
        """The bucket of sample `number` and which of its clips it takes.

        `attempt` counts the clips that proved to be damaged: each time the next of the epoch's permutation takes their
        place, the first after the last.
        """
        bucket, batches_before = self._batch(number // self.global_batch)
        num_clips = self.clips_per_bucket[bucket]
        place = batches_before * self.global_batch + number % self.global_batch
        epoch, position = divmod(place, num_clips)
        return bucket, int(_permutation(self.seed, epoch, f"clips {bucket}", num_clips)[(position + attempt) % num_clips])

    def _batch(self, index: int) -> tuple[str, int]:
        """The bucket of global batch `index`, and how many batches of that bucket come before it."""
        shares = [max(1, round(clips / self.global_batch)) for clips in self.clips_per_bucket.values()]
        a_round, position = divmod(index, sum(shares))
        owners = np.repeat(np.arange(len(shares)), shares)[_permutation(self.seed, a_round, "buckets", sum(shares))]
        owner = int(owners[position])
        return list(self.clips_per_bucket)[owner], a_round * shares[owner] + int((owners[:position] == owner).sum())


def rank_numbers(step: int, *, global_batch: int, rank: int, world: int, micro_batch: int) -> list[list[int]]:
    """The sample numbers of each micro-batch that `rank` takes in optimiser step `step`.

    Those of micro-batch j lie side by side over the ranks, so any split covers the same global batch.
    """
    accumulate, left = divmod(global_batch, world * micro_batch)
    assert left == 0 and accumulate, f"{global_batch} clips cannot be split over {world} ranks by {micro_batch}"
    starts = [step * global_batch + (index * world + rank) * micro_batch for index in range(accumulate)]
    return [list(range(start, start + micro_batch)) for start in starts]


@lru_cache(maxsize=16)
def _permutation(seed: int, number: int, purpose: str, size: int) -> NDArray[np.int64]:
    return numpy_generator(seed, number, purpose).permutation(size).astype(np.int64)
