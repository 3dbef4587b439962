"""What the usual tools say about the same films: PySceneDetect's detectors, and a motion filter with an even stride.

PySceneDetect runs as `scenedetect.detect` does, with its own reader and default settings: ContentDetector (27) and
AdaptiveDetector (3). The motion filter looks at two frames a second, as cosmos-curate and NeMo Curator do with the motion
vectors of an encode: the step into every round(fps / 2)-th frame, mean length of its flow over width + height. On animation
on twos an even stride meets either every drawing or only holds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.config import SourcesConfig
from curation.decode import FileWindow, FilmReader, UnreadableSource
from curation.ledger import Source
from curation.planes import luma_plane
from curation.stage import Resources
from pipeline.hashing import content_key
from pipeline.records import read_json, write_json
from pipeline.store import Store

if TYPE_CHECKING:
    from scenedetect import VideoStream

STOCK_SCHEMA = 1
MOTION_SIDE_PX = 256
MIN_MOTION = 0.00098         # field: cosmos-curate's limit of the global mean, shares of width + height
OPENCV_PICTURE_FPS = 25.0    # at which OpenCV times numbered pictures, whatever it is told
DETECTORS = ("content_27", "adaptive_3")


@dataclass(frozen=True, slots=True)
class StockRecord:
    """What the stock tools say about one film."""

    sha256: str                                      # of the source
    cuts_s: dict[str, tuple[float, ...]]             # by detector: when scenes after the first begin, seconds from the start
    steps: tuple[tuple[int, float], ...] = ()        # frame, mean flow of the step into it over width + height
    error: str = ""                                  # why there is nothing


class MeasureStock:
    """Stage: Source -> StockRecord; three decodes of a film, kept in the store."""

    name = "stock"
    version = 1
    takes = Source
    batch_size = 1
    resources = Resources(cpus=1.0, memory_gb=1.0)

    def __init__(self, sources: SourcesConfig, store_root: str) -> None:
        self.sources, self.store_root = sources, store_root

    def setup(self) -> None:
        cv2.setNumThreads(1)

    def __call__(self, rows: list[Source]) -> list[list[StockRecord]]:
        return [[self.measure(source)] for source in rows]

    def failed(self, row: Source, error: str) -> StockRecord:
        return StockRecord(row.sha256, {}, error=error)

    def measure(self, source: Source) -> StockRecord:
        store = Store(Path(self.store_root))
        key = content_key(stage=self.name, version=self.version, source=source.sha256, picture_fps=self.sources.picture_fps)
        if not store.has(self.name, key):
            try:
                found = {"schema": STOCK_SCHEMA, "cuts_s": {name: detect_cuts(source, name, self.sources) for name in DETECTORS},
                         "steps": measure_steps(source, self.sources)}
            except UnreadableSource as error:
                return self.failed(source, str(error))
            with store.publish(self.name, key) as folder:
                write_json(folder / "stock.json", found)
        values: dict[str, Any] = read_json(store.path(self.name, key) / "stock.json", STOCK_SCHEMA)
        return StockRecord(source.sha256, {name: tuple(times) for name, times in values["cuts_s"].items()},
                           tuple((int(frame), float(length)) for frame, length in values["steps"]))


def detect_cuts(source: Source, detector: str, sources: SourcesConfig) -> list[float]:
    """Seconds from the film's first frame at which PySceneDetect begins a scene, the first one left out."""
    from scenedetect import SceneManager
    from scenedetect.detectors import AdaptiveDetector, ContentDetector

    manager = SceneManager()
    manager.add_detector({"content_27": ContentDetector, "adaptive_3": AdaptiveDetector}[detector]())
    video = _open(source, sources)
    manager.detect_scenes(video)
    slower = OPENCV_PICTURE_FPS / sources.picture_fps if source.access.pictures else 1.0
    return [float(start.seconds) * slower for start, _ in manager.get_scene_list()[1:]]


def measure_steps(source: Source, sources: SourcesConfig) -> list[tuple[int, float]]:
    """(frame, mean flow of the step into it over width + height) for two frames a second."""
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    steps: list[tuple[int, float]] = []
    last: NDArray[np.uint8] | None = None
    with FilmReader(source.access, picture_fps=sources.picture_fps, max_pixels=sources.max_pixels) as reader:
        stride = max(1, round((reader.probe.fps or 24.0) / 2))
        for frame in reader.frames():
            if frame.index % stride in (stride - 1, 0) or stride == 1:
                small = _small(luma_plane(frame.picture))
                if last is not None and frame.index % stride == 0:
                    flow = dis.calc(last, small, np.zeros((*small.shape, 2), np.float32))
                    steps.append((frame.index, float(np.hypot(flow[..., 0], flow[..., 1]).mean() / sum(small.shape))))
                last = small
    return steps


def moves(steps: tuple[tuple[int, float], ...], start: int, end: int) -> bool | None:
    """Whether the filter would keep frames start..end (inclusive); None where it looks at none of them."""
    seen = [length for frame, length in steps if start < frame <= end]
    return float(np.mean(seen)) >= MIN_MOTION if seen else None


def nearest_frames(times_s: tuple[float, ...], pts: NDArray[np.int64], time_base: Fraction) -> list[int]:
    """The frames that are shown at times counted from the first frame; pts [n] in ticks."""
    shown_s = (pts - pts[0]).astype(np.float64) * float(time_base)
    return sorted({int(np.abs(shown_s - time).argmin()) for time in times_s})


def _small(luma: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = luma.shape
    scale = min(1.0, MOTION_SIDE_PX / max(height, width))
    size = max(16, round(width * scale)), max(16, round(height * scale))
    return np.asarray(cv2.resize(luma, size, interpolation=cv2.INTER_AREA), np.uint8)


def _open(source: Source, sources: SourcesConfig) -> VideoStream:
    """PySceneDetect's own reader: PyAV for films, also inside archives; OpenCV's for numbered pictures."""
    from scenedetect import open_video
    from scenedetect.backends import VideoStreamAv
    from scenedetect.video_stream import VideoOpenFailure

    access = source.access
    try:
        if not access.pictures:
            return VideoStreamAv(FileWindow(access.path, access.offset or 0, access.length), name="film", suppress_output=True)
        number = re.search(r"\d+(?=\.[A-Za-z]+$)", access.pictures[0])
        assert number is not None, "numbered pictures have numbers"
        pattern = access.pictures[0][: number.start()] + f"%0{len(number[0])}d" + access.pictures[0][number.end() :]
        return open_video(str(Path(access.path) / pattern), frame_rate=OPENCV_PICTURE_FPS, backend="opencv")
    except (VideoOpenFailure, OSError) as error:
        raise UnreadableSource(f"PySceneDetect cannot open it: {error}") from error
