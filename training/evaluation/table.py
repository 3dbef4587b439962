"""From the numbers of single clips to a table: means with intervals, for the whole set and for each stratum.

Intervals come from a bootstrap over clips (Efron 1979): clips are drawn with replacement, the same draws for every system, from a
generator of the job's seed. Means have percentile intervals. FVD and KVD of a resample are biased upward, because clips occur
twice in it; for them the spread of the replicates is put around the value measured (a normal interval). What the bootstrap does
not know: clips of one film are alike, so with few films intervals are too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist, fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.records import Json
from training.evaluation.measuring import MetricSpec, to_record
from training.evaluation.published import PublishedTable
from training.metrics.distances import frechet_distance, kernel_distance
from training.metrics.feature_weights import STAND_IN
from training.seeds import numpy_generator

DISTANCE_SHARE = 10             # a tenth of the replicates: each costs a decomposition of 400 x 400
WHOLE = "all clips"
THIRDS = ("low third", "middle third", "high third")


@dataclass(frozen=True, slots=True)
class Column:
    """A number's name, what it was measured on, and its protocol without the number of clips."""

    name: str                          # "psnr@interior"
    direction: str
    note: str
    protocol: Mapping[str, Json]

    @property
    def is_stand_in(self) -> bool:
        return str(self.protocol["weights"]).startswith(STAND_IN)


@dataclass(frozen=True, slots=True)
class Cell:
    """A number; without an interval where it is published or there is one clip."""

    value: float
    low: float | None = None
    high: float | None = None
    num_clips: int | None = None
    of_truth: float | None = None

    def record(self) -> dict[str, Json]:
        return {name: None if value is None else to_record(value) if isinstance(value, float) else value
                for name, value in (("value", self.value), ("low", self.low), ("high", self.high),
                                    ("num_clips", self.num_clips), ("of_truth", self.of_truth))}


@dataclass(frozen=True, slots=True)
class Row:
    system: str
    source: str                        # "measured", or the mark of a paper
    cells: Mapping[str, Cell]          # by the name of the column


@dataclass(frozen=True, slots=True)
class Table:
    """Rows over one set of clips: the whole set or a stratum ("cadence=twos")."""

    title: str
    num_clips: int
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


@dataclass(slots=True)
class Measurements:
    """Numbers by system, metric and clip; None where a clip has none. `truth` holds the features of the drawn clips."""

    numbers: dict[str, dict[MetricSpec, list[list[dict[str, Any]]]]] = field(default_factory=dict)
    truth: dict[MetricSpec, list[list[float]]] = field(default_factory=dict)


def make_tables(measured: Measurements, strata: Mapping[str, Sequence[str]], published: Sequence[PublishedTable], *,
                replicates: int, confidence: float, seed: int) -> list[Table]:
    """The table of all clips, then one for each value of each stratum; `strata` gives the value of each clip.

    Strata have no FVD and KVD: they are compared at equal numbers of clips only. UserError where protocols differ in a column.
    """
    num_clips = max((len(per_clip) for by_spec in measured.numbers.values() for per_clip in by_spec.values()), default=0)
    bootstrap = Bootstrap(replicates, confidence, seed)
    tables = [_table(measured, WHOLE, list(range(num_clips)), published, bootstrap)]
    for name, values in strata.items():
        for value in dict.fromkeys(_sorted(set(values))):
            clips = [index for index, found in enumerate(values) if found == value]
            tables.append(_table(measured, f"{name}={value}", clips, published, bootstrap, with_distances=False))
    return tables


def thirds(amounts: Sequence[float | None]) -> list[str]:
    """In which third of the set each clip lies; "unknown" where there is no amount. Equal amounts share a third."""
    known = sorted(amount for amount in amounts if amount is not None)
    if not known:
        return ["unknown"] * len(amounts)
    cuts = [known[min(len(known) - 1, math.ceil(share * len(known) / 3) - 1)] for share in (1, 2)]
    return ["unknown" if amount is None else THIRDS[sum(amount > cut for cut in cuts)] for amount in amounts]


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """Resamples of clips; the same for every system and column of as many clips."""

    replicates: int
    confidence: float
    seed: int

    def indices(self, num_clips: int, replicates: int) -> NDArray[np.int64]:
        """[replicates, num_clips]."""
        return numpy_generator(self.seed, num_clips, "bootstrap").integers(0, num_clips, (replicates, num_clips))

    def of_mean(self, values: Sequence[float]) -> tuple[float, float] | None:
        """The percentile interval of a mean; None for fewer than two clips. Infinite values make infinite bounds."""
        if len(values) < 2:
            return None
        found = np.asarray(values, np.float64)
        means = np.sort(np.array([found[drawn].mean() for drawn in self.indices(len(values), self.replicates)]))
        tail = (1 - self.confidence) / 2
        last = len(means) - 1
        # Whole ranks: an interpolation between infinities is no number.
        return float(means[math.floor(tail * last)]), float(means[math.ceil((1 - tail) * last)])

    def of_distance(self, value: float, made: torch.Tensor, truth: torch.Tensor, kind: str) -> tuple[float, float] | None:
        """The normal interval of FVD or KVD of features [n, 400]; None for fewer than three clips."""
        if len(made) < 3:
            return None
        distance = frechet_distance if kind == "fvd" else kernel_distance
        found = []
        for drawn in self.indices(len(made), max(2, self.replicates // DISTANCE_SHARE)):
            chosen = torch.from_numpy(drawn)
            found.append(distance(made[chosen], truth[chosen]))
        half = NormalDist().inv_cdf((1 + self.confidence) / 2) * float(np.std(found, ddof=1))
        return (max(0.0, value - half) if kind == "fvd" else value - half), value + half


def _table(measured: Measurements, title: str, clips: Sequence[int], published: Sequence[PublishedTable], bootstrap: Bootstrap, *,
           with_distances: bool = True) -> Table:
    columns: dict[str, Column] = {}
    rows: list[Row] = []
    for system, by_spec in measured.numbers.items():
        cells: dict[str, Cell] = {}
        for spec, per_clip in by_spec.items():
            if spec.is_distance and not with_distances:
                continue
            chosen = [per_clip[index] for index in clips if per_clip[index]]
            if not chosen:
                continue
            for place, first in enumerate(chosen[0]):
                column = _column([records[place] for records in chosen], system)
                if columns.setdefault(column.name, column) != column:
                    raise UserError(f"{column.name} of {system} was measured otherwise than of {rows[0].system}",
                                    "numbers of two protocols stand in one column", "Remove the folder measured and run again")
                if spec.is_distance:
                    made = torch.tensor([records[0]["features"] for records in chosen], dtype=torch.float64)
                    truth = torch.tensor([measured.truth[spec][index] for index in clips], dtype=torch.float64)
                    cell = _distance(first["column"].partition("@")[0], made, truth, bootstrap)
                else:
                    cell = _mean([records[place] for records in chosen], bootstrap)
                if cell is not None:
                    cells[column.name] = cell
        rows.append(Row(system, "measured", cells))
    for found in published:
        for line in found.rows:
            values = line.values if title == WHOLE else line.strata.get(title, {})
            known = {name: Cell(value) for name, value in values.items() if name in columns}
            if known:
                rows.append(Row(line.system, found.mark, known))
    return Table(title, len(clips), tuple(columns.values()), tuple(rows))


def _column(records: Sequence[Mapping[str, Any]], system: str) -> Column:
    first = records[0]
    for record in records:
        if record["protocol"] != first["protocol"]:
            raise UserError(f"clips differ in how {first['column']} of {system} was measured",
                            f"{_difference(first['protocol'], record['protocol'])}: such numbers have no mean",
                            "Give size=WIDTHxHEIGHT, so that all clips are alike")
    return Column(first["column"], first["direction"], first["note"], first["protocol"])


def _difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} is {value} and {other.get(name)}" for name, value in one.items() if other.get(name) != value)


def _mean(records: Sequence[Mapping[str, Any]], bootstrap: Bootstrap) -> Cell:
    values = [float(record["value"]) for record in records]
    truths = [float(record["of_truth"]) for record in records if record["of_truth"] is not None]
    low, high = bootstrap.of_mean(values) or (None, None)
    return Cell(fmean(values), low, high, len(values), fmean(truths) if truths else None)


def _distance(kind: str, made: torch.Tensor, truth: torch.Tensor, bootstrap: Bootstrap) -> Cell | None:
    """FVD or KVD; None for one clip, which has no covariance."""
    if len(made) < 2:
        return None
    value = frechet_distance(made, truth) if kind == "fvd" else kernel_distance(made, truth)
    low, high = bootstrap.of_distance(value, made, truth, kind) or (None, None)
    return Cell(value, low, high, len(made))


def _sorted(values: set[str]) -> list[str]:
    order = {name: place for place, name in enumerate(("easy", "medium", "hard", *THIRDS, "ones", "twos", "threes", "fours"))}
    return sorted(values, key=lambda value: (order.get(value, len(order)), value))
