"""The metrics of a table by name, and the one pass over the clips that feeds them all.

Range, direction and what a metric does not see stand in its definitions; `describe` prints them. What should notice which damage
(tests/training/metrics/test_metric_ordering.py holds the table):

    psnr, ssim, lpips       blur, noise; also repeated and shuffled frames, as frames that differ from the truth's (psnr only
                            where no frame is exact: one makes its mean infinite)
    clip_img                the same, weakly
    fvd, kvd                blur, noise, repeats and shuffles, as a set: not which clip is which
    cpbd                    blur only: noise raises it, order is nothing to it
    clip_txt                the content: not the order of frames
    line_chamfer            lines that moved, vanished or appeared
    warping_error           noise, shuffles: not blur (which lowers it), nor repeats (held_ratio does)
    psnr_first/last_frame   damage of the given frames only
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from pipeline.errors import UserError, nearest
from pipeline.weights import is_embedded
from training.metrics.clip_scores import ClipScores, load_clip, stand_in_clip
from training.metrics.cpbd import Cpbd
from training.metrics.endframes import EndFrames
from training.metrics.lines import LineDistance
from training.metrics.lpips import LpipsMetric, load_lpips, stand_in_lpips
from training.metrics.metric import ClipPair, Frames, Metric, Result
from training.metrics.motion import Motion
from training.metrics.pixels import SSIM_CONVENTIONS, InterpolationError, Psnr, Ssim
from training.metrics.raft import load_raft
from training.metrics.video_distances import VideoDistances, load_i3d, stand_in_i3d

# References as pipeline.weights resolves them; names of its catalogue.
PUBLISHED_WEIGHTS: Mapping[str, str] = {
    "i3d": "i3d", "alexnet": "alexnet", "vgg16": "vgg16", "squeezenet": "torchvision/squeezenet1_1-b8a52dc0.pth",
    "lpips_alex": "lpips_alex", "lpips_vgg": "lpips_vgg", "lpips_squeeze": "lpips_v0.1_squeeze_heads.pth",
    "clip_vit_b_32": "clip_vit_b32", "clip_vit_l_14": "clip_vit_l14",
    "raft_small": "raft_small", "raft_large": "raft_large",
}
# Stand-ins for all of them, for tables without files.
EMBEDDED_WEIGHTS: Mapping[str, str] = dict.fromkeys(PUBLISHED_WEIGHTS, "embedded:stand-in")
BACKBONES: Mapping[str, str] = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet"}


@dataclass(frozen=True, slots=True)
class MeasuringOptions:
    """What metrics are built with. `weights` gives names of PUBLISHED_WEIGHTS other references; `embedded:...` is a stand-in."""

    weights: Mapping[str, str] = field(default_factory=dict)
    frames: Frames = Frames.ALL
    device: torch.device | str = "cpu"
    frames_per_batch: int = 8
    clips_per_batch: int = 4

    def reference(self, name: str) -> str:
        return self.weights.get(name, PUBLISHED_WEIGHTS[name])


Builder = Callable[[MeasuringOptions], Metric]


def build_metrics(names: Sequence[str], options: MeasuringOptions) -> list[Metric]:
    """Returns the named metrics; UserError for an unknown name, and for absent weights before anything is measured."""
    unknown = next((name for name in names if name not in METRICS), None)
    if unknown is not None:
        near = nearest(unknown, METRICS)
        raise UserError(f"{unknown} is no metric", fix=f"Did you mean {near}?" if near else f"There are: {', '.join(METRICS)}")
    return [METRICS[name](options) for name in names]


def measure(metrics: Sequence[Metric], pairs: Iterable[ClipPair]) -> list[Result]:
    """Returns every number over all pairs, which are taken one by one and not kept."""
    for pair in pairs:
        for metric in metrics:
            metric.update(pair)
    return [result for metric in metrics for result in metric.results()]


def describe(metrics: Sequence[Metric]) -> str:
    """Returns a line per number: name, range, direction, what it answers to and where it leaves published practice."""
    return "\n".join(f"{found.name} [{found.lowest:g}, {found.highest:.4g}], {found.direction.value}: {found.note}"
                     for metric in metrics for found in metric.definitions)


def _distances(options: MeasuringOptions, preprocessing: str) -> Metric:
    reference = options.reference("i3d")
    network, weights = stand_in_i3d() if is_embedded(reference) else load_i3d(reference)
    return VideoDistances(network, weights, preprocessing=preprocessing, frames=options.frames, device=options.device,
                          clips_per_batch=options.clips_per_batch)


def _lpips(options: MeasuringOptions, net: str) -> Metric:
    backbone, heads = options.reference(BACKBONES[net]), options.reference(f"lpips_{net}")
    if is_embedded(backbone) or is_embedded(heads):
        network, weights = stand_in_lpips(net)
    else:
        network, weights = load_lpips(net, backbone=backbone, heads=heads)
    return LpipsMetric(network, weights, frames=options.frames, device=options.device,
                       frames_per_batch=options.frames_per_batch)


def _clip(options: MeasuringOptions, name: str) -> Metric:
    reference = options.reference(f"clip_{name}")
    embedder, weights = stand_in_clip(device=options.device) if is_embedded(reference) else \
        load_clip(name, reference, options.device)
    return ClipScores(embedder, weights, frames=options.frames, device=options.device,
                      frames_per_batch=options.frames_per_batch)


def _raft(options: MeasuringOptions, variant: str) -> Metric:
    reference = options.reference(variant)
    if is_embedded(reference):
        raise UserError(f"motion_{variant} has no embedded stand-in", "a random flow would measure nothing",
                        "Use the metric motion, which needs no weights")
    flow, weights = load_raft(variant, reference, options.device)
    return Motion(frames=options.frames, flow=flow, flow_name=variant, weights=weights)


def _ssim(convention: str) -> Builder:
    return lambda options: Ssim(convention, frames=options.frames)


METRICS: Mapping[str, Builder] = {
    "fvd_kvd": lambda options: _distances(options, "direct224"),
    "fvd_kvd_videogpt": lambda options: _distances(options, "shortside224crop"),
    "lpips_alex": lambda options: _lpips(options, "alex"),
    "lpips_vgg": lambda options: _lpips(options, "vgg"),
    "lpips_squeeze": lambda options: _lpips(options, "squeeze"),
    "clip_vit_b_32": lambda options: _clip(options, "vit_b_32"),
    "clip_vit_l_14": lambda options: _clip(options, "vit_l_14"),
    "psnr": lambda options: Psnr(frames=options.frames),
    **{name: _ssim(name) for name in SSIM_CONVENTIONS},
    "interpolation_error": lambda options: InterpolationError(frames=options.frames),
    "cpbd": lambda options: Cpbd(frames=options.frames),
    "lines": lambda options: LineDistance(frames=options.frames),
    "motion": lambda options: Motion(frames=options.frames),
    "motion_raft_small": lambda options: _raft(options, "raft_small"),
    "motion_raft_large": lambda options: _raft(options, "raft_large"),
    "end_frames": lambda options: EndFrames(),
}
# ToonCrafter's tables and what this project adds beside them.
TABLE = ("fvd_kvd", "lpips_alex", "lpips_vgg", "clip_vit_b_32", "cpbd", "psnr", "ssim_rgb", "ssim_table1", "lines", "motion",
         "end_frames")
