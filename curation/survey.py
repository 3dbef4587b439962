"""The survey: one decode of a film gives everything later stages decide from.

Per frame: time stamp, flags and small signals (`signals.py`); between drawings: camera and drawn motion (`motion.py`); about
once a second a *look*: a JPEG of 512 pixels and full-resolution quality numbers. Nothing here is a decision, so limits change
without decoding again. Artifact `survey`: signals.parquet, looks.bin, survey.json.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from curation.bars import BarsMeter
from curation.config import SourcesConfig, SurveyConfig
from curation.decode import DecodedFrame, FilmReader, UnreadableSource
from curation.gates.quality import LookQuality, measure_look
from curation.ledger import Probe, Source, SourceRecord, Status
from curation.motion import FlowMeter, PairMotion
from curation.planes import luma_plane
from curation.signals import FrameMeter, FrameSignals, Thumbs
from curation.stage import Resources
from pipeline.hashing import content_key
from pipeline.store import Store

SURVEY_VERSION = 1
FLOW_FROM = 6.5              # grey levels of change_peak from which flow is measured: less is never a new drawing (holds.py)
JUMP = 14.0                  # content value after which a look is taken even if the last one is recent
JUMP_SETTLE_FRAMES = 4
JPEG_QUALITY = 88
NEAR_FRAMES = 12             # a short span without a look is judged by one that is no farther
MISSING_S, MISSING_SHARE = 1.0, 0.2      # of the announced length, from which a film counts as truncated

Box = tuple[float, float, float, float]

_FRAME_FIELDS = [spec.name for spec in fields(FrameSignals) if spec.name != "thumb"]
_MOTION_FIELDS = [spec.name for spec in fields(PairMotion)]


@dataclass(frozen=True, slots=True)
class Look:
    """One picture kept of a film, upright and with square pixels, and what its full size says about quality."""

    frame_index: int
    pts: int
    quality: LookQuality
    jpeg: bytes = b""
    content: Box = (0.0, 0.0, 1.0, 1.0)      # left, top, right, bottom without black bars, in [0, 1] of the upright picture

    def picture(self) -> NDArray[np.uint8]:
        """BGR uint8 [h, w, 3], black bars cut off; ValueError where the JPEG is damaged."""
        whole = cv2.imdecode(np.frombuffer(self.jpeg, np.uint8), cv2.IMREAD_COLOR)
        if whole is None:
            raise ValueError(f"the look at frame {self.frame_index} cannot be read")
        height, width = whole.shape[:2]
        left, top, right, bottom = self.content
        inside = whole[round(top * height) : round(bottom * height), round(left * width) : round(right * width)]
        return np.ascontiguousarray(inside, np.uint8)


@dataclass(frozen=True, slots=True)
class SurveyData:
    """What a survey found. `signals` holds one array [n] per field of FrameSignals and PairMotion (NaN: not measured)."""

    probe: Probe
    pts: NDArray[np.int64]
    end_pts: int                             # where the last frame ends
    is_damaged: NDArray[np.bool_]
    signals: dict[str, NDArray[np.float32]]
    thumbs: Thumbs
    looks: list[Look]                        # without their JPEGs
    content_box: tuple[int, int, int, int]   # x, y, width, height in coded pixels without black bars
    interlaced: float                        # share of frames marked so by the codec
    decode_errors: int
    pts_repaired: bool

    @property
    def num_frames(self) -> int:
        return len(self.pts)


class Survey:
    """Stage: Source -> SourceRecord, with the survey in the store."""

    name = "survey"
    version = SURVEY_VERSION
    takes = Source
    batch_size = 1
    resources = Resources(cpus=1.0, memory_gb=0.7)

    def __init__(self, config: SurveyConfig, sources: SourcesConfig, store_root: str) -> None:
        self.config, self.sources, self.store_root = config, sources, store_root

    def setup(self) -> None:
        cv2.setNumThreads(1)

    def key(self, source: Source) -> str:
        fps = self.sources.picture_fps if source.access.pictures else None
        return content_key(stage=self.name, version=self.version, source=source.sha256, config=asdict(self.config),
                           picture_fps=fps)

    def __call__(self, rows: list[Source]) -> list[list[SourceRecord]]:
        return [[self.survey(source)] for source in rows]

    def failed(self, row: Source, error: str) -> SourceRecord:
        return SourceRecord(row.name, Status.QUARANTINED, error=error, sha256=row.sha256, num_bytes=row.num_bytes)

    def survey(self, source: Source) -> SourceRecord:
        """Surveys a film unless the store has it; UnreadableSource becomes a quarantined record."""
        store, key, started = Store(Path(self.store_root)), self.key(source), time.process_time()
        if not store.has(self.name, key):
            try:
                with store.publish(self.name, key) as folder:
                    _write_survey(source, self.config, self.sources, folder)
            except UnreadableSource as error:
                return self.failed(source, str(error))
            cpu_s = time.process_time() - started
        else:
            cpu_s = 0.0
        head = json.loads((store.path(self.name, key) / "survey.json").read_text())
        return SourceRecord(
            source.name, Status.OK, note=_note(head), sha256=source.sha256, num_bytes=source.num_bytes,
            probe=_probe_from(head["probe"]), num_frames=head["num_frames"], decode_errors=head["decode_errors"],
            survey_key=key, cpu_s=cpu_s, access=source.access)


def load_survey(store: Store, key: str) -> SurveyData:
    """Reads a survey back, looks without their pictures."""
    folder = store.path(Survey.name, key)
    head = json.loads((folder / "survey.json").read_text())
    table = pq.read_table(folder / "signals.parquet")
    columns = {name: table[name].to_numpy() for name in [*_FRAME_FIELDS, *_MOTION_FIELDS]}
    probe = _probe_from(head["probe"])
    packed = np.frombuffer(b"".join(table["thumb"].to_pylist()), np.uint8).reshape(table.num_rows, -1)
    looks = [Look(look["frame_index"], look["pts"], LookQuality(**look["quality"])) for look in head["looks"]]
    return SurveyData(
        probe, table["pts"].to_numpy(), head["end_pts"], table["is_damaged"].to_numpy(zero_copy_only=False), columns,
        Thumbs.unpack(packed, _content(head)), looks, tuple(head["content_box"]), head["interlaced"], head["decode_errors"],
        head["pts_repaired"])


def load_looks(store: Store, key: str, start_frame: int = 0, end_frame: int = 2**62) -> list[Look]:
    """The looks of a span of frames, with their pictures; of a span between two looks, the nearer one if it is near."""
    folder = store.path(Survey.name, key)
    head = json.loads((folder / "survey.json").read_text())
    found, content = [], _upright(_content(head), head["probe"]["rotation_deg"])

    def outside(look: dict[str, Any]) -> int:
        return max(start_frame - look["frame_index"], look["frame_index"] - end_frame + 1, 0)

    chosen = [look for look in head["looks"] if not outside(look)]
    chosen = chosen or [look for look in sorted(head["looks"], key=outside)[:1] if outside(look) <= NEAR_FRAMES]
    with (folder / "looks.bin").open("rb") as file:
        for look in chosen:
            file.seek(look["offset"])
            quality = LookQuality(**look["quality"])
            found.append(Look(look["frame_index"], look["pts"], quality, file.read(look["size"]), content))
    return found


@dataclass(slots=True)
class _Schedule:
    """Decides which frames are looked at: the first, one every `every_s`, and soon after the picture jumps."""

    every_s: float
    last_s: float = -1e9
    jumped_at: int = -1

    def due(self, index: int, time_s: float, content: float) -> bool:
        if content > JUMP:
            self.jumped_at = index
        settled = self.jumped_at >= 0 and index - self.jumped_at == JUMP_SETTLE_FRAMES
        if settled or time_s - self.last_s >= self.every_s:
            self.last_s, self.jumped_at = time_s, -1
            return True
        return False


def _write_survey(source: Source, config: SurveyConfig, sources: SourcesConfig, folder: Path) -> None:
    reader = FilmReader(source.access, picture_fps=sources.picture_fps, max_pixels=sources.max_pixels)
    rows: list[tuple[Any, ...]] = []
    looks: list[dict[str, object]] = []
    num_interlaced, frame = 0, None
    with reader, (folder / "looks.bin").open("wb") as looks_file:
        bars = BarsMeter(full_range=reader.probe.color_range == "pc")
        for frame, row, look in _measured(reader, config, bars):
            rows.append(row)
            num_interlaced += frame.is_interlaced
            if look is not None:
                looks.append({"frame_index": look.frame_index, "pts": look.pts, "quality": asdict(look.quality),
                              "offset": looks_file.tell(), "size": len(look.jpeg)})
                looks_file.write(look.jpeg)
        if frame is None:
            raise UnreadableSource(f"no frame could be decoded ({reader.decode_errors} decoding errors)")
        probe = reader.probe
        ticks = frame.duration or _usual_ticks([row[0] for row in rows], probe, reader.time_base)
        time_bases = {"time_base": str(probe.time_base), "sample_aspect": str(probe.sample_aspect)}
        head = {
            "schema": 1, "probe": {**asdict(probe), **time_bases},
            "seconds": float((frame.pts + ticks - min(0, rows[0][0])) * reader.time_base), "num_frames": len(rows),
            "end_pts": frame.pts + ticks, "looks": looks,
            "content_box": list(bars.box(probe.width, probe.height)), "interlaced": num_interlaced / len(rows),
            "decode_errors": reader.decode_errors, "pts_repaired": reader.pts_repaired,
        }
    columns = list(zip(*rows, strict=True))
    arrays = [pa.array(columns[0], pa.int64()), pa.array(columns[1], pa.bool_())]
    arrays += [pa.array(np.asarray(column, np.float32)) for column in columns[2:-1]]
    arrays.append(pa.array(columns[-1], pa.binary(len(columns[-1][0]))))
    names = ["pts", "is_damaged", *_FRAME_FIELDS, *_MOTION_FIELDS, "thumb"]
    pq.write_table(pa.table(arrays, names=names), folder / "signals.parquet", compression="zstd", use_dictionary=False)
    (folder / "survey.json").write_text(json.dumps(head, sort_keys=True))


def _measured(reader: FilmReader, config: SurveyConfig, bars: BarsMeter
              ) -> Iterator[tuple[DecodedFrame, tuple[Any, ...], Look | None]]:
    meter: FrameMeter | None = None
    flow, schedule = FlowMeter(), _Schedule(config.look_every_s)
    nothing = (float("nan"),) * len(_MOTION_FIELDS)
    for frame in reader.frames():
        if meter is None:
            meter = FrameMeter(frame.picture.width, frame.picture.height, config.signal_width_px)
        signals = meter.measure(frame.picture)
        motion: tuple[float, ...] = nothing
        if signals.change_peak >= FLOW_FROM and (pictures := meter.last_two()) is not None:
            pair = flow.measure(*pictures)
            motion = tuple(getattr(pair, name) for name in _MOTION_FIELDS)
        look = None
        if schedule.due(frame.index, float(frame.pts * reader.time_base), signals.content):
            luma = luma_plane(frame.picture)
            bars.add(luma)
            look = Look(frame.index, frame.pts, measure_look(luma), encode_look(frame.picture, reader.probe, config.look_side_px))
        values = tuple(getattr(signals, name) for name in _FRAME_FIELDS)
        yield frame, (frame.pts, frame.is_damaged, *values, *motion, signals.thumb), look


def encode_look(picture: av.VideoFrame, probe: Probe, side_px: int) -> bytes:
    """JPEG of a frame, upright, square pixels, long side at most `side_px`."""
    width, height = picture.width * float(probe.sample_aspect), float(picture.height)
    scale = min(1.0, side_px / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    bgr = picture.reformat(width=size[0], height=size[1], format="bgr24", interpolation="AREA").to_ndarray()
    upright = np.ascontiguousarray(np.rot90(bgr, k=-probe.rotation_deg // 90), np.uint8)
    return cv2.imencode(".jpg", upright, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def _content(head: dict[str, Any]) -> Box:
    """The picture without bars as shares of the coded picture."""
    (x, y, width, height), probe = head["content_box"], head["probe"]
    return x / probe["width"], y / probe["height"], (x + width) / probe["width"], (y + height) / probe["height"]


def _upright(box: Box, rotation_deg: int) -> Box:
    """A box of the coded picture in the picture turned clockwise."""
    left, top, right, bottom = box
    for _ in range(rotation_deg // 90 % 4):
        left, top, right, bottom = 1.0 - bottom, left, 1.0 - top, right
    return left, top, right, bottom


def _usual_ticks(pts: list[int], probe: Probe, time_base: Fraction) -> int:
    """How long the last frame stays when the file does not say: as long as frames usually do."""
    if len(pts) > 1:
        return max(1, int(np.median(np.diff(pts))))
    return max(1, round(1 / (probe.fps * time_base))) if probe.fps > 0 else 1


def _note(head: dict[str, Any]) -> str:
    notes = []
    announced_s = head["probe"]["duration_s"]
    if announced_s and announced_s - head["seconds"] > max(MISSING_S, MISSING_SHARE * announced_s):
        notes.append(f"truncated: {head['seconds']:.1f} s of {announced_s:.1f} s announced")
    if head["decode_errors"]:
        notes.append(f"damaged: {head['num_frames']} frames decoded, {head['decode_errors']} decoding errors")
    if head["pts_repaired"]:
        notes.append("time stamps missing or not rising: repaired")
    return "; ".join(notes)


def _probe_from(values: dict[str, Any]) -> Probe:
    return Probe(**{**values, "time_base": Fraction(values["time_base"]), "sample_aspect": Fraction(values["sample_aspect"])})
