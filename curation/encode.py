"""The second decode: surviving clips are cut frame-exactly, framed and written as H.264.

Frames are found by the time stamps the survey saw, never by seconds: seek to the key frame, decode, compare. Where a
container's seeking does not lead to the same stamps, the film is decoded from its start and frames are counted.
Times of frames are kept as they are: nothing is made constant rate. `-tune animation`, closed GOPs and 8 bit follow
x264's own advice for cartoons and the needs of random access.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np

from curation.config import EncodeConfig, SketchName, SourcesConfig
from curation.decode import DecodedFrame, FilmReader, UnreadableSource
from curation.framing import Framing
from curation.ledger import Clip, Probe, Source
from curation.stage import Resources
from pipeline.errors import disk_is_full
from pipeline.hashing import content_key
from pipeline.records import read_json, write_json
from pipeline.store import Store

if TYPE_CHECKING:
    from av.container import OutputContainer

ENCODE_VERSION = 1
CLIP_KIND = "clip"                # of artifact
CLIP_FILE = "clip.mp4"
SKETCH_FILE = "sketch.npz"        # array "sketch": uint8 [f, h, w]
FACTS_FILE = "clip.json"
FACTS_SCHEMA = 1
REUSE_GAP_S = 3                   # up to here decoding on is cheaper than a seek, which lands on a key frame
HD_HEIGHT_PX = 720                # from here an untagged film is BT.709, below BT.601, as players assume
_FAR_PTS = 1 << 62
_TV_RANGE, _BT709, _BT601, _UNSPECIFIED = 1, 1, 6, 2     # codes of ITU-T H.273


@dataclass(frozen=True, slots=True)
class EncodeJob:
    """The surviving clips of one source."""

    source: Source
    probe: Probe
    clips: tuple[Clip, ...]                  # by start
    frame_pts: tuple[tuple[int, ...], ...]   # per clip: the PTS of its frames as the survey saw them
    by_index: bool                           # time stamps were repaired: decode from the start
    deinterlace: bool


@dataclass(frozen=True, slots=True)
class EncodedClip:
    key: str                                 # of the clip
    artifact_key: str
    num_frames: int
    width: int
    height: int
    num_bytes: int                           # of clip.mp4


@dataclass(frozen=True, slots=True)
class FailedClip:
    key: str
    error: str


class Encode:
    """Stage: a job becomes one row per clip; the mp4 lies in the store."""

    name = "encode"
    version = ENCODE_VERSION
    takes = EncodeJob
    batch_size = 1
    resources = Resources(cpus=1.0, memory_gb=1.0)

    def __init__(self, config: EncodeConfig, sources: SourcesConfig, store: str) -> None:
        self.config = config
        self.sources = sources
        self.store = store                   # root of the artifact store

    def setup(self) -> None:
        pass

    def __call__(self, rows: list[EncodeJob]) -> list[list[EncodedClip | FailedClip]]:
        return [list(self._encode(job)) for job in rows]

    def failed(self, row: EncodeJob, error: str) -> FailedClip:
        """Of a job that broke as a whole, its first clip; clips that fail alone are rows of `__call__`."""
        return FailedClip(row.clips[0].key, error)

    def _encode(self, job: EncodeJob) -> Iterator[EncodedClip | FailedClip]:
        store = Store(Path(self.store))
        missing: list[tuple[Clip, tuple[int, ...], str]] = []
        for clip, pts in zip(job.clips, job.frame_pts, strict=True):
            key = artifact_key(job, clip, pts, self.config)
            if store.has(CLIP_KIND, key):
                yield _encoded(clip, store, key)
            else:
                missing.append((clip, pts, key))
        if not missing:
            return
        reader = FilmReader(job.source.access, picture_fps=self.sources.picture_fps, max_pixels=self.sources.max_pixels)
        done = 0
        try:
            with reader:
                frames = FrameFinder(reader, by_index=job.by_index or not reader.seeks_exactly)
                for clip, pts, key in missing:
                    try:
                        self._publish(job, clip, pts, key, frames, store)
                        yield _encoded(clip, store, key)
                    except (av.FFmpegError, OSError, ValueError, OtherFrames) as error:
                        if disk_is_full(error):
                            raise
                        yield FailedClip(clip.key, str(error))
                    done += 1
        except UnreadableSource as error:
            yield from (FailedClip(clip.key, error.reason) for clip, _, _ in missing[done:])

    def _publish(
        self, job: EncodeJob, clip: Clip, pts: tuple[int, ...], key: str, frames: FrameFinder, store: Store
    ) -> None:
        try:
            with store.publish(CLIP_KIND, key) as folder:
                encode_clip(folder, frames.find(clip, pts), pts, clip, job, self.config)
        except OtherFrames:
            if frames.by_index:
                raise
            frames.by_index = True           # seeking misleads in this film: for the later clips too
            with store.publish(CLIP_KIND, key) as folder:
                encode_clip(folder, frames.find(clip, pts), pts, clip, job, self.config)


def artifact_key(job: EncodeJob, clip: Clip, pts: Sequence[int], config: EncodeConfig) -> str:
    """Everything that changes an encoded clip."""
    return content_key(
        version=ENCODE_VERSION, sha256=job.source.sha256, frames=(clip.start_frame, clip.end_frame), pts=tuple(pts),
        end_pts=clip.end_pts, time_base=clip.time_base, fps=clip.fps, crop=clip.crop, deinterlace=job.deinterlace,
        rotation_deg=job.probe.rotation_deg, sample_aspect=job.probe.sample_aspect, color_range=job.probe.color_range,
        config=config,
    )


def encode_clip(
    folder: Path, pictures: Iterator[av.VideoFrame], pts: Sequence[int], clip: Clip, job: EncodeJob,
    config: EncodeConfig,
) -> None:
    """Writes clip.mp4, its facts and, where asked for, sketch.npz into `folder`.

    `pictures` are the decoded frames shown at `pts`. Frame times in the file are `pts` minus the first, in the
    source's time base. ValueError where the file does not hold exactly these frames.
    """
    first = next(pictures)
    framing = Framing(first, job.probe, clip.crop, cover=config.cover, deinterlace=job.deinterlace)
    path = folder / CLIP_FILE
    ends = [*pts[1:], max(clip.end_pts, pts[-1] + 1)]
    with _Mp4(path, framing, clip, config) as film, _Sketches(folder, framing, len(pts), config) as sketches:
        num_frames = 0
        for framed in _framed(framing, first, pictures):
            if num_frames < len(pts):
                film.write(framed, pts[num_frames] - pts[0], ends[num_frames] - pts[num_frames])
                sketches.write(framed)
            num_frames += 1
        film.finish()
    times = [(time - pts[0]) * clip.time_base for time in pts]
    if num_frames != len(pts) or (found := _frame_times(path)) != times:
        raise ValueError(f"encoded {num_frames if num_frames != len(pts) else len(found)} frames of {len(pts)}, "
                         "or at other times")
    write_json(folder / FACTS_FILE, {"schema": FACTS_SCHEMA, "num_frames": num_frames, "width": framing.width,
                                     "height": framing.height})


class OtherFrames(Exception):
    """Decoding again gave other frames than the survey saw."""


class FrameFinder:
    """The pictures of clips in order of time; goes on decoding where the next clip is near."""

    def __init__(self, reader: FilmReader, *, by_index: bool) -> None:
        self.by_index = by_index
        self._reader = reader
        self._running: Iterator[DecodedFrame] | None = None
        self._runs_by_index = by_index
        self._last_index = self._last_pts = 0    # of the frame decoded last

    def find(self, clip: Clip, pts: Sequence[int]) -> Iterator[av.VideoFrame]:
        """Yields exactly the pictures shown at `pts`; OtherFrames as soon as one differs."""
        running = self._from(clip)
        num_found = 0
        for frame in running:
            self._last_index, self._last_pts = frame.index, frame.pts
            if (frame.index < clip.start_frame) if self.by_index else (frame.pts < pts[0]):
                continue
            if frame.pts != pts[num_found] or (self._reader.pts_repaired and not self.by_index):
                raise self._other(num_found, len(pts))
            yield frame.picture
            num_found += 1
            if num_found == len(pts):
                return
        raise self._other(num_found, len(pts))

    def _from(self, clip: Clip) -> Iterator[DecodedFrame]:
        if self._running is not None and self._runs_by_index == self.by_index:
            gap_s = (clip.start_pts - self._last_pts) * self._reader.time_base
            if self._last_index < clip.start_frame if self.by_index else 0 < gap_s <= REUSE_GAP_S:
                return self._running
        self._running = self._reader.frames() if self.by_index else self._reader.span(clip.start_pts, _FAR_PTS)
        self._runs_by_index = self.by_index
        return self._running

    def _other(self, num_found: int, wanted: int) -> OtherFrames:
        self._running = None
        return OtherFrames(f"decoding again gave other frames: {num_found} of {wanted} found at their times")


def _framed(framing: Framing, first: av.VideoFrame, rest: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    yield from framing.push(first)
    for picture in rest:
        yield from framing.push(picture)
    yield from framing.finish()


class _Mp4:
    """x264 into mp4, one thread and bit-exact flags: the same frames give the same bytes.

    The macroblock tree is off: with it, x264's last macroblock depends on memory that nobody set.
    """

    def __init__(self, path: Path, framing: Framing, clip: Clip, config: EncodeConfig) -> None:
        self._container: OutputContainer = av.open(
            str(path), "w", format="mp4",
            options={"fflags": "+bitexact", "video_track_timescale": str(clip.time_base.denominator)})
        rate = Fraction(clip.fps).limit_denominator(1001) if clip.fps > 0 else Fraction(24)
        self._stream = self._container.add_stream("libx264", rate=rate, options={
            "crf": str(config.crf), "preset": config.preset, "tune": "animation", "threads": "1",
            "x264-params": "mbtree=0:open-gop=0"})
        self._stream.width, self._stream.height, self._stream.pix_fmt = framing.width, framing.height, "yuv420p"
        self._stream.gop_size = config.gop
        self._time_base = clip.time_base
        context = self._stream.codec_context
        context.time_base = clip.time_base
        context.thread_count = 1
        context.flags |= int(av.codec.context.Flags.bitexact)
        self._is_tagged = False
        self._is_hd = clip.crop[3] >= HD_HEIGHT_PX

    def __enter__(self) -> _Mp4:
        return self

    def __exit__(self, *exc: object) -> None:
        self._container.close()

    def write(self, picture: av.VideoFrame, pts: int, duration: int) -> None:
        if not self._is_tagged:
            self._tag(picture)
        picture.pts, picture.duration, picture.time_base = pts, duration, self._time_base
        picture.pict_type = 0            # the source's key frames are not ours
        self._container.mux(self._stream.encode(picture))

    def finish(self) -> None:
        self._container.mux(self._stream.encode(None))

    def _tag(self, picture: av.VideoFrame) -> None:
        """Says which colours are meant: scaled down, an untagged HD film would be taken for SD."""
        usual = _BT709 if self._is_hd else _BT601
        context = self._stream.codec_context
        context.color_range = _TV_RANGE
        context.colorspace = picture.colorspace if picture.colorspace not in (0, _UNSPECIFIED) else usual
        for name in ("color_primaries", "color_trc"):
            value = getattr(picture, name)
            setattr(context, name, value if value not in (0, _UNSPECIFIED) else usual)
        self._is_tagged = True


class _Sketches:
    """Line art of the framed pictures as one compressed array, written frame by frame; nothing where not asked for."""

    def __init__(self, folder: Path, framing: Framing, num_frames: int, config: EncodeConfig) -> None:
        self._zip: zipfile.ZipFile | None = None
        if config.sketch is SketchName.OPENCV:
            from curation.label.sketch import line_art

            self._line_art = line_art
            self._zip = zipfile.ZipFile(folder / SKETCH_FILE, "w")
            member = zipfile.ZipInfo("sketch.npy")       # its fixed date keeps the bytes the same
            member.compress_type = zipfile.ZIP_DEFLATED
            self._array = self._zip.open(member, "w", force_zip64=True)
            np.lib.format.write_array_header_1_0(self._array, {
                "descr": "|u1", "fortran_order": False, "shape": (num_frames, framing.height, framing.width)})

    def __enter__(self) -> _Sketches:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._zip is not None:
            self._array.close()
            self._zip.close()

    def write(self, picture: av.VideoFrame) -> None:
        if self._zip is not None:
            gray_u8 = np.asarray(picture.reformat(format="gray").to_ndarray(), np.uint8)
            self._array.write(self._line_art(gray_u8).tobytes())


def _frame_times(path: Path) -> list[Fraction]:
    """Times of the frames in a file, in seconds, from its packets."""
    with av.open(str(path)) as film:
        stream = film.streams.video[0]
        return sorted(packet.pts * packet.time_base for packet in film.demux(stream) if packet.pts is not None)


def _encoded(clip: Clip, store: Store, key: str) -> EncodedClip:
    folder = store.path(CLIP_KIND, key)
    facts = read_json(folder / FACTS_FILE, FACTS_SCHEMA)
    num_frames, width, height = (int(str(facts[name])) for name in ("num_frames", "width", "height"))
    return EncodedClip(clip.key, key, num_frames, width, height, (folder / CLIP_FILE).stat().st_size)
