"""Segment-guided matching of two frames: colour pieces, their features, partners, and the coarse flows both ways.

Source: arXiv 2104.02495, section 4.1. Not differentiable and slow beside a training step, so flows are computed once and kept:
`CachedMatching` stores them under a key of everything that changes them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.hashing import content_key
from pipeline.records import Json, to_plain
from pipeline.store import Store
from training.animeinterp.behaviour import FAST, Behaviour, Effort
from training.animeinterp.contours import JAPAN, ContourStyle
from training.animeinterp.features import Vgg19Features
from training.animeinterp.matching import affinity, match, matching_degree, normalised
from training.animeinterp.piece_flow import Frame, coarse_flow
from training.animeinterp.segment import color_pieces

WIDTH_PX, HEIGHT_PX = 960, 540          # of frames in the paper; limits in pixels (areas, shifts) belong to this size
LEAST_SIDE_PX = 32                      # shorter sides leave no pixel in the coarsest feature map
VERSION = 1                             # raise when results change
KIND, FILE = "sgm_flow", "flows.npz"


@dataclass(frozen=True, slots=True)
class MatchingSettings:
    """How frames are matched; `effort` is the only thing that trades exactness for time."""

    behaviour: Behaviour = Behaviour.RELEASED
    style: ContourStyle = JAPAN
    effort: Effort = FAST


@dataclass(frozen=True, slots=True)
class FramePieces:
    """A frame cut into pieces and described; serves every pair that the frame is in."""

    frame: Frame
    features: NDArray[np.float64]           # [K, N], not normalised


@dataclass(frozen=True, slots=True)
class CoarseFlows:
    """Flows [2, h, w] float32 (x, y in pixels) between two frames, both ways; 0 where nothing is known."""

    flow01: NDArray[np.float32]
    flow10: NDArray[np.float32]


def resized(bgr_u8: NDArray[np.uint8], width_px: int = WIDTH_PX, height_px: int = HEIGHT_PX) -> NDArray[np.uint8]:
    """Returns a picture [h, w, 3] at the size of the paper, bilinearly as the release does it."""
    return np.asarray(cv2.resize(bgr_u8, (width_px, height_px), interpolation=cv2.INTER_LINEAR), np.uint8)


def frame_pieces(bgr_u8: NDArray[np.uint8], network: Vgg19Features, settings: MatchingSettings) -> FramePieces:
    """Cuts a picture [h, w, 3] uint8 in BGR into pieces and describes them. UserError for pictures under 32 pixels."""
    assert bgr_u8.dtype == np.uint8 and bgr_u8.ndim == 3 and bgr_u8.shape[2] == 3, f"{bgr_u8.dtype} {bgr_u8.shape}"
    height, width = bgr_u8.shape[:2]
    if min(height, width) < LEAST_SIDE_PX:
        raise UserError(f"a frame of {width}x{height} cannot be matched", f"sides of at least {LEAST_SIDE_PX} pixels are needed",
                        f"Use larger frames; the paper's are {WIDTH_PX}x{HEIGHT_PX}")
    labels = color_pieces(bgr_u8, style=settings.style, behaviour=settings.behaviour)
    return FramePieces(Frame.of(bgr_u8, labels), network.pooled(bgr_u8, labels, settings.effort))


def match_frames(pieces0: FramePieces, pieces1: FramePieces, settings: MatchingSettings) -> CoarseFlows:
    """Returns the coarse flows between two frames of one size."""
    frame0, frame1 = pieces0.frame, pieces1.frame
    behaviour, effort = settings.behaviour, settings.effort
    assert frame0.labels.shape == frame1.labels.shape, "frames of two sizes cannot be matched"
    alike = affinity(normalised(pieces0.features, behaviour), normalised(pieces1.features, behaviour))
    found = match(matching_degree(alike, frame0.pieces, frame1.pieces, behaviour), behaviour)
    return CoarseFlows(flow01=coarse_flow(frame0, frame1, found.forward, found.is_mutual, behaviour, effort),
                       flow10=coarse_flow(frame1, frame0, found.backward, found.is_mutual_backward, behaviour, effort))


def match_pair(bgr0_u8: NDArray[np.uint8], bgr1_u8: NDArray[np.uint8], network: Vgg19Features,
               settings: MatchingSettings) -> CoarseFlows:
    """Returns the coarse flows between two pictures [h, w, 3] uint8 in BGR."""
    first, second = (frame_pieces(picture, network, settings) for picture in (bgr0_u8, bgr1_u8))
    return match_frames(first, second, settings)


class CachedMatching:
    """Matches pairs, each once: flows lie in a store under a key of both pictures, settings, weights and version."""

    def __init__(self, store: Store, network: Vgg19Features, settings: MatchingSettings | None = None) -> None:
        self._store, self._network = store, network
        self.settings = settings or MatchingSettings()

    @property
    def identity(self) -> dict[str, Json]:
        """What flows depend on beside the pictures, for records."""
        return {"version": VERSION, "opencv": cv2.__version__, "settings": to_plain(self.settings),
                "features": self._network.identity}

    def key(self, bgr0_u8: NDArray[np.uint8], bgr1_u8: NDArray[np.uint8]) -> str:
        """Names the flows of a pair. Versions of OpenCV differ in the last bits of DIS flow and are part of it."""
        return content_key(version=VERSION, opencv=cv2.__version__, settings=self.settings, features=self._network.identity,
                           pictures=[_digest(bgr0_u8), _digest(bgr1_u8)])

    def flows(self, bgr0_u8: NDArray[np.uint8], bgr1_u8: NDArray[np.uint8]) -> CoarseFlows:
        """Returns the flows of a pair of pictures [h, w, 3] uint8 in BGR, from the store where they are there."""
        key = self.key(bgr0_u8, bgr1_u8)
        if not self._store.has(KIND, key):
            found = match_pair(bgr0_u8, bgr1_u8, self._network, self.settings)
            with self._store.publish(KIND, key) as folder:
                np.savez_compressed(folder / FILE, flow01=found.flow01, flow10=found.flow10)
            return found
        with np.load(self._store.path(KIND, key) / FILE, allow_pickle=False) as stored:
            return CoarseFlows(flow01=stored["flow01"], flow10=stored["flow10"])


def _digest(picture: NDArray[np.uint8]) -> str:
    return hashlib.sha256(f"{picture.shape}".encode() + np.ascontiguousarray(picture).tobytes()).hexdigest()
