"""Frames of clips for models that look closely: first, middle and last ones kept as pictures, and any others on the way.

The survey's looks lie up to a second apart; what a caption or an aesthetic score is about should be exactly the first, the
middle and the last frame. So the clips that the cheap gates left are decoded once more, found by the time stamps of the survey
as the encoder finds them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from curation.config import SourcesConfig
from curation.decode import FilmReader
from curation.encode import FrameFinder, OtherFrames
from curation.ledger import Access, Clip, Probe
from curation.models.clip_stage import ClipStage
from curation.stage import Resources
from curation.survey import SurveyData, load_survey
from pipeline.store import Store

SIDE_PX = 512                # long side of the kept pictures; the models look at 224 to 384
JPEG_QUALITY = 95
FILE = "frames.npz"          # array "frame_index": int32 [n]; "jpeg_<i>": the bytes of each

Taken = TypeVar("Taken")


class ClipReader:
    """Reads clips of films one after another; a film stays open while its clips follow each other."""

    def __init__(self, accesses: Mapping[str, Access], sources: SourcesConfig, store_root: str) -> None:
        """`accesses`: of every source, by name."""
        self._accesses, self._sources, self._store_root = accesses, sources, store_root
        self._survey: SurveyData | None = None
        self._survey_key = ""
        self._reader: FilmReader | None = None
        self._finder: FrameFinder | None = None

    def survey(self, clip: Clip) -> SurveyData:
        if self._survey is None or clip.survey_key != self._survey_key:
            self._close()
            self._survey, self._survey_key = load_survey(Store(Path(self._store_root)), clip.survey_key), clip.survey_key
        return self._survey

    def read(self, clip: Clip, take: Callable[[int, av.VideoFrame], Taken | None]) -> list[Taken]:
        """What `take` makes of the clip's frames (index within the clip, picture), in order, without None.

        Raises UnreadableSource or OtherFrames where the film cannot be decoded as the survey saw it.
        """
        survey = self.survey(clip)
        pts = [int(value) for value in survey.pts[clip.start_frame : clip.end_frame]]
        if self._finder is None:
            self._reader = FilmReader(self._accesses[clip.source], picture_fps=self._sources.picture_fps,
                                      max_pixels=self._sources.max_pixels)
            self._reader.__enter__()
            self._finder = FrameFinder(self._reader, by_index=survey.pts_repaired or not self._reader.seeks_exactly)
        try:
            return _taken(self._finder, clip, pts, take)
        except OtherFrames:
            if self._finder.by_index:
                raise
            self._finder.by_index = True     # seeking misleads in this film: for the later clips too
            return _taken(self._finder, clip, pts, take)

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.__exit__(None, None, None)
        self._reader = self._finder = None


def _taken(finder: FrameFinder, clip: Clip, pts: list[int], take: Callable[[int, av.VideoFrame], Taken | None]) -> list[Taken]:
    found = (take(index, picture) for index, picture in enumerate(finder.find(clip, pts)))
    return [item for item in found if item is not None]


class TakeFrames(ClipStage[dict[int, bytes]]):
    """Stage: Clip -> Clip with `frames_key`, the artifact of its first, middle and last picture and more if asked."""

    name, version, kind, gate = "frames", 1, "frames", "decode"
    batch_size = 1
    resources = Resources(cpus=1.0, memory_gb=1.0)

    def __init__(self, store_root: str, accesses: Mapping[str, Access], sources: SourcesConfig, counts: Sequence[int]) -> None:
        """`counts`: how many frames each of the models wants, spread evenly."""
        super().__init__(store_root, "", counts=sorted(set(counts)), side_px=SIDE_PX, picture_fps=sources.picture_fps)
        self.counts, self.accesses, self.sources = sorted(set(counts)), accesses, sources
        self._reader: ClipReader | None = None

    def measure(self, clips: Sequence[Clip]) -> list[dict[int, bytes]]:  # type: ignore[override]
        return [self._frames(clip) for clip in clips]

    def _frames(self, clip: Clip) -> dict[int, bytes]:
        self._reader = self._reader or ClipReader(self.accesses, self.sources, self.store_root)
        probe = self._reader.survey(clip).probe
        wanted = {index for count in self.counts for index in spread_frames(clip.num_frames, count)}

        def take(index: int, picture: av.VideoFrame) -> tuple[int, bytes] | None:
            if index not in wanted:
                return None
            bgr = upright_picture(picture, probe, clip.crop, SIDE_PX)
            return index, cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()

        return dict(self._reader.read(clip, take))

    def write(self, found: dict[int, bytes], folder: Path) -> None:
        arrays = {f"jpeg_{index}": np.frombuffer(jpeg, np.uint8) for index, jpeg in found.items()}
        np.savez(folder / FILE, allow_pickle=False, frame_index=np.array(list(found), np.int32), **arrays)

    def read(self, clip: Clip, folder: Path, key: str) -> Clip:
        from dataclasses import replace

        return replace(clip, frames_key=key)


def load_frames(store: Store, clip: Clip, count: int) -> list[NDArray[np.uint8]]:
    """`count` pictures of a clip, spread evenly: BGR uint8 [h, w, 3], upright, square pixels, without black bars."""
    with np.load(store.path(TakeFrames.kind, clip.frames_key) / FILE) as kept:
        return [np.asarray(cv2.imdecode(kept[f"jpeg_{index}"], cv2.IMREAD_COLOR), np.uint8)
                for index in spread_frames(clip.num_frames, count)]


def spread_frames(num_frames: int, count: int) -> list[int]:
    """Indices of `count` frames: first, last and evenly between; the middle one alone. A short clip repeats some."""
    if count == 1:
        return [(num_frames - 1) // 2]
    return [round(place * (num_frames - 1) / (count - 1)) for place in range(count)]


def upright_picture(picture: av.VideoFrame, probe: Probe, crop: tuple[int, int, int, int], side_px: int) -> NDArray[np.uint8]:
    """BGR uint8 [h, w, 3] of the part `crop` (x, y, width, height in coded pixels), long side at most `side_px`."""
    x, y, width, height = crop
    across, down = float(probe.sample_aspect), 1.0
    scale = min(1.0, side_px / max(width * across, height * down))
    size = max(1, round(picture.width * across * scale)), max(1, round(picture.height * scale))
    bgr = picture.reformat(width=size[0], height=size[1], format="bgr24", interpolation="AREA").to_ndarray()
    wide, high = size[0] / picture.width, size[1] / picture.height
    left, top = round(x * wide), round(y * high)
    inside = bgr[top : max(top + 1, round((y + height) * high)), left : max(left + 1, round((x + width) * wide))]
    return np.ascontiguousarray(np.rot90(inside, k=-probe.rotation_deg // 90), np.uint8)
