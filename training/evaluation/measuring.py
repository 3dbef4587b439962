"""Numbers of one clip, each with its protocol, so that they can be stored clip by clip and averaged later.

training.metrics averages over a whole set in one pass; a run that may stop at any clip, and is shared by ranks, needs the clips
apart. Means over frames and all formulas are those of training.metrics; FVD and KVD keep a clip's features, the truth's once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import torch
from torch import Tensor

from pipeline.errors import UserError, nearest
from pipeline.hashing import content_key
from pipeline.records import Json
from pipeline.weights import digest, is_embedded
from training.evaluation.config import MeasuredFrames
from training.evaluation.samples import EvalSample
from training.metrics.feature_weights import STAND_IN, exact_convolutions, find_weights, frozen
from training.metrics.i3d import MIN_FRAMES, PREPROCESSING
from training.metrics.metric import NO_WEIGHTS, Definition, Frames, PerClipMetric
from training.metrics.motion import dis_flow, find_occlusion
from training.metrics.suite import METRICS, MeasuringOptions, build_metrics
from training.metrics.video_distances import VideoDistances, load_i3d, stand_in_i3d

VERSION = 1                     # of everything measured here; raise when numbers change
MIN_REGION_PX = 11              # SSIM's window; smaller regions of motion have no number

# Which public files a metric looks through, by their names in the suite.
NEEDS: Mapping[str, tuple[str, ...]] = {
    "fvd_kvd": ("i3d",), "fvd_kvd_videogpt": ("i3d",),
    "lpips_alex": ("alexnet", "lpips_alex"), "lpips_vgg": ("vgg16", "lpips_vgg"),
    "lpips_squeeze": ("squeezenet", "lpips_squeeze"),
    "clip_vit_b_32": ("clip_vit_b_32",), "clip_vit_l_14": ("clip_vit_l_14",),
    "motion_raft_small": ("raft_small",), "motion_raft_large": ("raft_large",),
}
DISTANCES: Mapping[str, str] = {"fvd_kvd": "direct224", "fvd_kvd_videogpt": "shortside224crop"}


class Part(StrEnum):
    """What of a clip is measured."""

    ALL = "all"
    INTERIOR = "interior"
    ROI = "roi"                 # the region of motion of the interior frames
    ENDS = "ends"               # the metric decides: the given frames


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """A metric and what it is measured on."""

    name: str
    part: Part

    @property
    def text(self) -> str:
        return self.name if self.part is Part.ENDS else f"{self.name}@{self.part.value}"

    @property
    def is_distance(self) -> bool:
        return self.name in DISTANCES


def parse_metrics(texts: Sequence[str], frames: MeasuredFrames) -> list[MetricSpec]:
    """Metrics as the configuration names them, "psnr" or "psnr@interior"; UserError names the one that is wrong."""
    found: list[MetricSpec] = []
    for text in texts:
        name, _, part = text.partition("@")
        if name not in METRICS:
            near = nearest(name, METRICS)
            fix = f"Did you mean {near}?" if near else f"There are: {', '.join(METRICS)}"
            raise UserError(f"metrics has {name}, which is no metric", fix=fix)
        if part not in ("", "all", "interior", "roi"):
            raise UserError(f"metrics has {text}", "what follows @ is all, interior or roi", f"Write {name}@interior")
        if part == "roi" and name in DISTANCES:
            raise UserError(f"metrics has {text}", "regions differ in size and features do not", f"Write {name}")
        if name == "end_frames":
            if part:
                raise UserError(f"metrics has {text}", "end_frames looks at the first and the last frame", f"Write {name}")
            part = "ends"
        spec = MetricSpec(name, Part(part or frames.value))
        if spec not in found:
            found.append(spec)
    return found


class Measurer:
    """Measures clips one by one; networks are loaded when the first clip needs them, their digests known before."""

    def __init__(self, specs: Sequence[MetricSpec], options: MeasuringOptions) -> None:
        """UserError where weights are absent: all of them are named."""
        self.specs, self.options = list(specs), options
        self._weights = self._find(sorted({spec.name for spec in specs}))
        self._metrics: dict[str, PerClipMetric] = {}
        self._distances: dict[str, tuple[torch.nn.Module, tuple[Definition, ...]]] = {}

    def weights_of(self, name: str) -> str:
        """Names and digests of what the metric looks through, NO_WEIGHTS, or the mark of a stand-in."""
        return self._weights[name]

    def key(self, spec: MetricSpec) -> str:
        """Of everything that the numbers of a clip depend on beside its frames."""
        return content_key(version=VERSION, metric=spec.text, weights=self.weights_of(spec.name))

    def check(self, num_frames: int) -> None:
        """UserError where a metric cannot be measured on clips of so many frames."""
        for spec in self.specs:
            measured = num_frames if spec.part in (Part.ALL, Part.ENDS) else num_frames - 2
            if spec.is_distance and measured < MIN_FRAMES:
                raise UserError(f"metrics has {spec.text}, and clips have {measured} such frames",
                                f"I3D needs at least {MIN_FRAMES}", f"Leave {spec.name} out of metrics, or measure longer clips")

    def features(self, spec: MetricSpec, sample: EvalSample, video: Tensor) -> list[float]:
        """I3D's logits of a video [t, 3, h, w], 400 numbers."""
        network, _ = self._network(spec.name)
        shown = PREPROCESSING[DISTANCES[spec.name]](_frames(spec, sample, video).to(self.options.device, torch.float32))
        with torch.no_grad(), exact_convolutions():
            return network(shown[None]).double().cpu()[0].tolist()

    @torch.no_grad()
    def measure(self, spec: MetricSpec, sample: EvalSample, made: Tensor) -> list[dict[str, Json]]:
        """A record for each number of the metric: value, the truth's own where it has one, definition and protocol.

        FVD and KVD have features instead of a value. Nothing where the sample has no region of motion. ArithmeticError for
        numbers that are none.
        """
        if spec.part is Part.ROI and (sample.roi is None or min(sample.roi[2:]) < MIN_REGION_PX):
            return []
        truth, generated = _frames(spec, sample, sample.truth), _frames(spec, sample, made)
        if spec.is_distance:
            definitions = self._network(spec.name)[1]
            features: list[Json] = [*self.features(spec, sample, made)]
            return [{**self._record(spec, definition, truth), "features": features if place == 0 else None}
                    for place, definition in enumerate(definitions)]
        metric = self._metric(spec.name)
        scores = metric.score(truth, generated, sample.caption)
        records = []
        for definition, score in zip(metric.definitions, scores, strict=True):
            if math.isnan(score.value):
                raise ArithmeticError(f"{definition.name} of clip {sample.key} is not a number")
            of_truth = None if score.of_truth is None else to_record(score.of_truth)
            records.append({**self._record(spec, definition, truth), "value": to_record(score.value), "of_truth": of_truth})
        return records

    def _record(self, spec: MetricSpec, definition: Definition, truth: Tensor) -> dict[str, Json]:
        frames = {Part.ALL: Frames.ALL, Part.ENDS: Frames.ENDS}.get(spec.part, Frames.INTERIOR)
        return {"column": f"{definition.name}@{spec.part.value}", "direction": definition.direction.value,
                "note": definition.note,
                "protocol": {"implementation": definition.implementation, "weights": self.weights_of(spec.name),
                             "frames": frames.value, "region": "region of motion" if spec.part is Part.ROI else "whole",
                             "num_frames": len(truth), "width_px": truth.shape[3] if spec.part is not Part.ROI else None,
                             "height_px": truth.shape[2] if spec.part is not Part.ROI else None}}

    def _metric(self, name: str) -> PerClipMetric:
        if name not in self._metrics:
            metric = build_metrics([name], self.options)[0]
            assert isinstance(metric, PerClipMetric), name
            self._metrics[name] = metric
        return self._metrics[name]

    def _network(self, name: str) -> tuple[torch.nn.Module, tuple[Definition, ...]]:
        if name not in self._distances:
            reference = self.options.reference("i3d")
            network, weights = stand_in_i3d() if is_embedded(reference) else load_i3d(reference)
            definitions = VideoDistances(network, weights, preprocessing=DISTANCES[name]).definitions
            self._distances[name] = frozen(network, self.options.device), definitions
        return self._distances[name]

    def _find(self, names: Sequence[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        absent: dict[str, UserError] = {}
        for name in names:
            references = {need: self.options.reference(need) for need in NEEDS.get(name, ())}
            if any(is_embedded(reference) for reference in references.values()):
                if name.startswith("motion_raft"):
                    raise UserError(f"{name} has no embedded stand-in", "a random flow would measure nothing",
                                    "Use the metric motion")
                found[name] = f"{STAND_IN}: {name}"
                continue
            ids = []
            for need, reference in references.items():
                try:
                    path = find_weights(reference, name)
                    ids.append(f"{path.name} sha256:{digest(path)}")
                except UserError as error:
                    absent[need] = error
            found[name] = " + ".join(ids) or NO_WEIGHTS
        if absent:
            first = next(iter(absent.values()))
            raise UserError(f"the metrics need weights that are absent: {', '.join(sorted(absent))}", first.why.rstrip("."),
                            "Run: make weights PROFILE=evaluation, or fill the table with marked stand-ins: weights=embedded")
        return found


def occlusion(sample: EvalSample) -> float:
    """The share of pixels that appear or vanish from frame to frame of the truth, mean over pairs; by DIS, Ruder et al.'s test.

    Motion boundaries count, as they do in the warping error.
    """
    shares = [find_occlusion(dis_flow(first, second), dis_flow(second, first)).double().mean().item()
              for first, second in pairwise(sample.truth)]
    return sum(shares) / len(shares)


def to_record(value: float) -> float | str:
    """A number as JSON has it: infinities become the word."""
    return value if math.isfinite(value) else str(value)


def _frames(spec: MetricSpec, sample: EvalSample, video: Tensor) -> Tensor:
    if spec.part is Part.ENDS:
        return Frames.ENDS.of(video)
    if spec.part is Part.ALL:
        return video
    frames = Frames.INTERIOR.of(video)
    if spec.part is Part.ROI and sample.roi is not None:
        x, y, width, height = sample.roi
        return frames[:, :, y:y + height, x:x + width]
    return frames
