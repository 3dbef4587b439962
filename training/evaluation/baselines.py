"""What needs no training: repeating, cross-fading, and both given frames warped along the flow between them.

Every baseline returns the given frames untouched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from pipeline.records import Json
from training.evaluation.samples import EvalSample
from training.metrics.motion import dis_flow, sample_at
from training.metrics.raft import NUM_UPDATES

Flow = Callable[[Tensor, Tensor], Tensor]


class Between(Protocol):
    """Pictures between two, at times in (0, 1)."""

    def __call__(self, first: Tensor, last: Tensor, times: list[float]) -> list[Tensor]:
        """Pictures [3, h, w] in [0, 1]."""


class Baseline:
    """A rule applied to each pair of neighbouring given frames."""

    def __init__(self, name: str, between: Between, **identity: Json) -> None:
        self.name = name
        self.identity: dict[str, Json] = {"baseline": name, **identity}
        self._between = between

    def make(self, sample: EvalSample) -> Tensor:
        """Returns [t, 3, h, w] in [0, 1]."""
        made = sample.truth.clone()
        for first, last in sample.spans:
            times = [(index - first) / (last - first) for index in range(first + 1, last)]
            made[first + 1:last] = torch.stack(self._between(sample.truth[first], sample.truth[last], times)).to(made)
        return made


def repeat(first: Tensor, last: Tensor, times: list[float]) -> list[Tensor]:
    """The earlier picture held until the later one: what a pose-to-pose animatic shows."""
    return [first for _ in times]


def crossfade(first: Tensor, last: Tensor, times: list[float]) -> list[Tensor]:
    """A linear blend."""
    return [(1 - time) * first + time * last for time in times]


class FlowWarp:
    """Both pictures fetched along flows to the time between, and blended linearly.

    Flows at time t are put together from those between the pictures as Super SloMo (arXiv 1712.00080) eq. 4 does before its
    network corrects them: F(t->0) = -(1-t) t F01 + t^2 F10, F(t->1) = (1-t)^2 F01 - t (1-t) F10. Nothing decides occlusion.
    """

    def __init__(self, flow: Flow) -> None:
        self._flow = flow

    def __call__(self, first: Tensor, last: Tensor, times: list[float]) -> list[Tensor]:
        forward, backward = self._flow(first, last).cpu(), self._flow(last, first).cpu()
        found = []
        for t in times:
            to_first = -(1 - t) * t * forward + t * t * backward
            to_last = (1 - t) ** 2 * forward - t * (1 - t) * backward
            blended = (1 - t) * sample_at(first, to_first) + t * sample_at(last, to_last)
            found.append(blended.clamp(0, 1).float())
        return found


def baseline(name: str) -> Baseline:
    """One of repeat, crossfade, flow_dis, which need no weights."""
    rules: dict[str, Between] = {"repeat": repeat, "crossfade": crossfade, "flow_dis": FlowWarp(dis_flow)}
    return Baseline(name, rules[name], version=1)


def raft_baseline(load: Callable[[], Flow], weights: str) -> Baseline:
    """flow_raft; the network is loaded by `load` when the first clip is made. `weights` is its id."""
    loaded: list[Flow] = []

    def flow(first: Tensor, second: Tensor) -> Tensor:
        if not loaded:
            loaded.append(load())
        return loaded[0](first, second)

    return Baseline("flow_raft", FlowWarp(flow), version=1, weights=weights, updates=NUM_UPDATES)
