"""AnimeInterp as one of the systems of an evaluation: the frames between each two given ones.

Source: arXiv 2104.02495, section 5: one refinement of flow a pair, in the middle or at any other time between. Pictures are taken
at the size they have; the published numbers are of 960x540.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pipeline import weights
from pipeline.errors import UserError, nearest
from pipeline.records import Json
from pipeline.store import Store
from training.animeinterp.behaviour import Behaviour
from training.animeinterp.features import load_vgg19, stand_in_vgg19
from training.animeinterp.gridnet import SIDE_MULTIPLE_PX
from training.animeinterp.network import TINY, AnimeInterp, Sizes, load_published
from training.animeinterp.rfr import NUM_ITERATIONS
from training.animeinterp.sgm import CachedMatching

if TYPE_CHECKING:
    from training.evaluation.samples import EvalSample

NAME = "animeinterp"
DEFAULTS: Mapping[str, str] = {
    "weights": "",                      # a reference: the published file, or weights.safetensors of a training
    "behaviour": Behaviour.RELEASED,    # how coarse flows enter; the published weights are of the released way
    "iterations": str(NUM_ITERATIONS),
    "flows": "computed",                # coarse flows: computed, or none
    "vgg19": "",                        # features for computed flows; empty: seeded random ones, which the identity says
    "cache": "cache",                   # folder where computed flows are kept
    "device": "cpu",
}


class AnimeInterpSystem:
    """Makes every frame that is not given; given ones come back as they are."""

    name = NAME

    def __init__(self, network: AnimeInterp, matching: CachedMatching | None, *, num_iterations: int = NUM_ITERATIONS,
                 source: str = "", device: torch.device | str = "cpu") -> None:
        self._network, self._matching, self._num_iterations = network.to(device).eval(), matching, num_iterations
        self._device = torch.device(device)
        flows: Json = "none" if matching is None else matching.identity
        self.identity: dict[str, Json] = {"weights": source, "iterations": num_iterations, "flows": flows,
                                          "behaviour": network.flownet.behaviour.value}

    @torch.inference_mode()
    def make(self, sample: EvalSample) -> Tensor:
        """Returns frames [t, 3, h, w] in [0, 1] of a sample; UserError where they are too small for the flow."""
        made = sample.truth.clone()
        for start, end in zip(sample.given, sample.given[1:], strict=False):
            if end > start + 1:
                times = [(index - start) / (end - start) for index in range(start + 1, end)]
                made[start + 1:end] = self.between(sample.truth[start], sample.truth[end], times)
        return made

    @torch.inference_mode()
    def between(self, first: Tensor, last: Tensor, times: list[float]) -> Tensor:
        """Returns pictures [n, 3, h, w] at times in (0, 1) between two of [3, h, w], all in [0, 1]."""
        height, width = first.shape[-2:]
        image0, image1 = (_extended(image[None].to(self._device)) for image in (first, last))
        coarse01, coarse10 = self._coarse(first, last)
        found = self._network(image0, image1, coarse01, coarse10, times[0], num_iterations=self._num_iterations)
        pictures = [found.image]
        # Flow is refined once, whatever the number of times.
        pictures += [self._network.synthesise(image0, image1, found.flow01, found.flow10, t) for t in times[1:]]
        return torch.cat(pictures)[..., :height, :width].clamp(0, 1).cpu()

    def _coarse(self, first: Tensor, last: Tensor) -> tuple[Tensor | None, Tensor | None]:
        if self._matching is None:
            return None, None
        found = self._matching.flows(_bgr_u8(first), _bgr_u8(last))
        flow01, flow10 = (_extended(torch.from_numpy(flow)[None].to(self._device)) for flow in (found.flow01, found.flow10))
        return flow01, flow10


def load_system(options: Mapping[str, str]) -> AnimeInterpSystem:
    """Builds the system from options by the names of DEFAULTS. UserError for wrong options, and absent or other weights.

    Whether the weights are of the published or the tiny network, and whether they splat by importance, is told by them.
    """
    for name in options:
        if name not in DEFAULTS:
            near = nearest(name, DEFAULTS)
            raise UserError(f"{name} is no option of {NAME}", f"its options are {', '.join(DEFAULTS)}",
                            f"Did you mean {near}?" if near else "")
    chosen = {**DEFAULTS, **options}
    behaviour = _one_of(chosen, "behaviour", [each.value for each in Behaviour])
    has_flows = _one_of(chosen, "flows", ["computed", "none"]) == "computed"
    if not chosen["iterations"].isdecimal() or int(chosen["iterations"]) < 1:
        raise UserError(f"iterations={chosen['iterations']} is no number from 1 on", fix=f"The paper's is {NUM_ITERATIONS}")
    if not chosen["weights"]:
        raise UserError(f"weights of {NAME} are not given", "it makes nothing without them",
                        "Give the published file, or weights.safetensors of a training with task=animeinterp")
    path = weights.resolve(chosen["weights"])
    network = _filled(weights.read_tensors(path), Behaviour(behaviour), chosen["weights"])
    matching = None
    if has_flows:
        features = load_vgg19(chosen["vgg19"]) if chosen["vgg19"] else stand_in_vgg19()
        matching = CachedMatching(Store(Path(chosen["cache"])), features)
    return AnimeInterpSystem(network, matching, num_iterations=int(chosen["iterations"]), device=chosen["device"],
                             source=f"sha256:{weights.digest(path)}")


def _filled(tensors: Mapping[str, Tensor], behaviour: Behaviour, source: str) -> AnimeInterp:
    first = tensors.get("feat_ext.conv1.weight")
    is_tiny = first is not None and first.shape[0] == TINY.synthesis[0]
    splatting = Behaviour.PAPER if "importance.alpha" in tensors else Behaviour.RELEASED
    network = AnimeInterp(behaviour=behaviour, splatting=splatting, sizes=TINY if is_tiny else Sizes())
    load_published(network, tensors, source=source)
    return network.requires_grad_(False)


def _one_of(chosen: Mapping[str, str], name: str, words: list[str]) -> str:
    if chosen[name] not in words:
        raise UserError(f"{name}={chosen[name]} is none of {', '.join(words)}")
    return str(chosen[name])


def _bgr_u8(picture: Tensor) -> NDArray[np.uint8]:
    rgb = (255 * picture.clamp(0, 1)).round().byte().permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(rgb[..., ::-1])


def _extended(maps: Tensor) -> Tensor:
    """Repeats the border until sides are multiples of 4, so that flows fit all levels of the synthesis."""
    missing = [-side % SIDE_MULTIPLE_PX for side in maps.shape[-2:]]
    return F.pad(maps, (0, missing[1], 0, missing[0]), mode="replicate") if any(missing) else maps
