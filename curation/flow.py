"""Motion measured a second time, with a learnt flow: the same statistics as the survey's, so that both can be compared.

RAFT sees the same pairs as the survey's DIS flow (each distinct drawing and the frame before it), at a size of its own; its flow
is then brought to the survey's grid and split into camera and drawn motion by the same code, which believes it only where the
picture changed. ToonCrafter (arXiv 2405.17933, section 3.2) filtered by RAFT at a size it does not say. A clip that DIS finds
still is dropped before; one that passes must not be still or too fast by RAFT's score either (`motion.decide_again`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from curation.clip_frames import ClipReader
from curation.config import SourcesConfig
from curation.gates import motion
from curation.gates.motion import Motion, MotionKind, measure_motion
from curation.holds import new_drawings
from curation.ledger import Access, Clip
from curation.models.batches import NotFinite
from curation.models.clip_stage import ClipStage, model_resources
from curation.models.config import ModelsConfig
from curation.models.raft import RaftFlow, fit_size
from curation.motion import PairMotion, split_motion
from curation.planes import as_planar, luma_plane
from curation.survey import SurveyData
from pipeline.records import read_json, write_json

SCORE = "motion_raft"        # beside "motion", which is the survey's
GRID_WIDTH_PX = 120          # at which motion is split: the survey's, whose thresholds are in its pixels
SCHEMA, FILE = 1, "motion.json"
MEMORY_GB = 2.0              # measured: raft_large with a batch of 16 at 448x256 in float32

_MOTION_FIELDS = [spec.name for spec in fields(PairMotion)]


@dataclass(frozen=True, slots=True)
class _Drawing:
    """A frame as RAFT and as the split of its flow see it."""

    frame_index: int                     # within the clip
    rgb: NDArray[np.uint8]               # [h, w, 3], sides multiples of 8
    luma: NDArray[np.uint8]              # [h', w'], w' = GRID_WIDTH_PX or the picture's own


class MeasureFlow(ClipStage[Motion]):
    """Stage: Clip -> Clip with the score `motion_raft`."""

    name, version, kind, gate = "flow", 1, "flow", motion.GATE

    def __init__(self, store_root: str, models: ModelsConfig, weights: Path, identity: str, accesses: Mapping[str, Access],
                 sources: SourcesConfig) -> None:
        flow = models.flow
        super().__init__(store_root, identity, side_px=flow.side_px, updates=flow.updates, precision=models.precision,
                         picture_fps=sources.picture_fps)
        self.models, self.weights, self.accesses, self.sources = models, weights, accesses, sources
        self.batch_size = max(1, flow.batch // 8)          # clips; most have more pairs than eight
        self.resources = model_resources(models, MEMORY_GB)
        self._raft: RaftFlow | None = None
        self._reader: ClipReader | None = None

    def measure(self, clips: Sequence[Clip]) -> list[Motion | NotFinite]:
        return measure_clips([(clip, self._survey(clip), self._drawings(clip)) for clip in clips], self._model())

    def _model(self) -> RaftFlow:
        if self._raft is None:
            flow = self.models.flow
            self._raft = RaftFlow(flow.name, self.weights, batch=flow.batch, updates=flow.updates, device=self.models.device,
                                  precision=self.models.precision)
        return self._raft

    def _survey(self, clip: Clip) -> SurveyData:
        self._reader = self._reader or ClipReader(self.accesses, self.sources, self.store_root)
        return self._reader.survey(clip)

    def _drawings(self, clip: Clip) -> list[_Drawing]:
        """The frames that bring a new drawing and those before them, in order."""
        survey = self._survey(clip)
        assert self._reader is not None
        places = np.flatnonzero(_new(survey)[clip.start_frame + 1 : clip.end_frame]) + 1
        wanted = {int(place) - back for place in places for back in (0, 1)}
        size = fit_size(clip.crop[2], clip.crop[3], self.models.flow.side_px)

        def take(index: int, picture: av.VideoFrame) -> _Drawing | None:
            return _drawing(index, picture, clip.crop, size) if index in wanted else None

        return self._reader.read(clip, take)

    def write(self, found: Motion, folder: Path) -> None:
        write_json(folder / FILE, {"schema": SCHEMA, "score": asdict(found)})

    def read(self, clip: Clip, folder: Path, key: str) -> Clip:
        score: Any = read_json(folder / FILE, SCHEMA)["score"]
        return clip.with_score(SCORE, Motion(**{**score, "kind": MotionKind(score["kind"])}))


def measure_clips(clips: Sequence[tuple[Clip, SurveyData, Sequence[_Drawing]]], raft: RaftFlow) -> list[Motion | NotFinite]:
    """The scores of clips whose drawings lie at hand; pairs of one size go together, whatever clip they are of."""
    pairs = [(place, before, after) for place, (_, _, drawings) in enumerate(clips)
             for before, after in pairwise(drawings) if after.frame_index == before.frame_index + 1]
    by_size: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for number, (_, before, _) in enumerate(pairs):
        by_size[before.rgb.shape].append(number)
    flows: dict[int, NDArray[np.float32]] = {}
    for numbers in by_size.values():
        flows |= zip(numbers, raft.flow([(pairs[number][1].rgb, pairs[number][2].rgb) for number in numbers]), strict=True)
    found: list[dict[int, PairMotion]] = [{} for _ in clips]
    broken: set[int] = set()
    for number, (place, before, after) in enumerate(pairs):
        if not np.isfinite(flows[number]).all():
            broken.add(place)
            continue
        found[place][after.frame_index] = split_motion(to_grid(flows[number], before.luma.shape), before.luma, after.luma)
    return [NotFinite("RAFT returned a value that is no number") if place in broken else _score(clip, survey, found[place])
            for place, (clip, survey, _) in enumerate(clips)]


def to_grid(flow: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Flow [h, w, 2] at another size, `shape` (rows, columns), in that size's pixels."""
    rows, columns = shape
    scale = np.array([columns / flow.shape[1], rows / flow.shape[0]], np.float32)
    return np.asarray(cv2.resize(flow, (columns, rows), interpolation=cv2.INTER_AREA) * scale, np.float32)


def _score(clip: Clip, survey: SurveyData, found: Mapping[int, PairMotion]) -> Motion:
    """The survey's own signals of the clip with every pair's motion replaced, through the survey's own statistics."""
    span = slice(clip.start_frame, clip.end_frame)
    signals = {"change_peak": survey.signals["change_peak"][span]}
    signals |= {name: np.full(clip.num_frames, np.nan, np.float32) for name in _MOTION_FIELDS}
    for index, pair in found.items():
        for name in _MOTION_FIELDS:
            signals[name][index] = getattr(pair, name)
    return measure_motion(signals, _new(survey)[span], 0, clip.num_frames, max(clip.end_s - clip.start_s, 1e-9))


def _new(survey: SurveyData) -> NDArray[np.bool_]:
    return new_drawings(survey.signals["change_peak"], survey.is_damaged)


def _drawing(index: int, picture: av.VideoFrame, crop: tuple[int, int, int, int], size: tuple[int, int]) -> _Drawing:
    x, y, width, height = crop
    planar = as_planar(picture)
    luma = luma_plane(planar)[y : y + height, x : x + width]
    columns = min(GRID_WIDTH_PX, width)
    small = cv2.resize(luma, (columns, max(1, round(height * columns / width))), interpolation=cv2.INTER_AREA)
    across, down = size[0] / width, size[1] / height
    whole = max(1, round(picture.width * across)), max(1, round(picture.height * down))
    rgb: NDArray[np.uint8] = picture.reformat(width=whole[0], height=whole[1], format="rgb24", interpolation="AREA"
                                              ).to_ndarray().astype(np.uint8, copy=False)
    inside = rgb[round(y * down) :, round(x * across) :][: size[1], : size[0]]
    if inside.shape[:2] != (size[1], size[0]):            # rounding at the rim took a pixel
        inside = np.asarray(cv2.resize(inside, size, interpolation=cv2.INTER_AREA), np.uint8)
    return _Drawing(index, np.ascontiguousarray(inside, np.uint8), np.asarray(small, np.uint8))
