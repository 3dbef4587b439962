"""Films into files: encoders whose output depends on the pictures alone, archives without clocks or owners."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.filter
import cv2
import numpy as np
from av.codec.context import Flags
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from curation.cartoonist.ink import Picture

# One thread, because the bytes of x264 depend on the number of threads; no macroblock tree, because with it the last
# macroblock of a picture depends on memory that was never written (seen with MALLOC_PERTURB_ set to different values).
_DEEP = "yuv420p10le"
_X264 = {"preset": "veryfast", "threads": "1", "x264-params": "mbtree=0"}


@dataclass(frozen=True, slots=True)
class Coding:
    """How pictures are encoded: an encoder of PyAV's FFmpeg, its pixel format and options."""

    encoder: str
    pix_fmt: str
    options: tuple[tuple[str, str], ...]
    is_interlaced: bool = False


def h264(crf: int) -> Coding:
    return Coding("libx264", "yuv420p", tuple({**_X264, "crf": str(crf)}.items()))


def h264_10bit(crf: int) -> Coding:
    return Coding("libx264", _DEEP, tuple({**_X264, "crf": str(crf)}.items()))


def vp9(crf: int) -> Coding:
    return Coding("libvpx-vp9", "yuv420p", (("crf", str(crf)), ("b", "0"), ("deadline", "realtime"),
                                            ("cpu-used", "8"), ("threads", "1"),
                                            ("row-mt", "0"), ("lag-in-frames", "0")))


def mpeg2_interlaced(quantiser: int) -> Coding:
    return Coding("mpeg2video", "yuv420p", (("qmin", str(quantiser)), ("qmax", str(quantiser)), ("bf", "2"),
                                            ("threads", "1")), True)


def write_video(path: Path, frames: Sequence[Picture], fps: int, coding: Coding,
                ticks: Sequence[int] | None = None) -> None:
    """Writes a film of RGB pictures; `ticks` are the times of the frames in 1/fps s where they are unequal."""
    options = {"fflags": "+bitexact"}
    if path.suffix == ".mp4":
        options["movflags"] = "+faststart"                 # a copy cut short still begins to play
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(coding.encoder, rate=Fraction(fps), options=dict(coding.options))
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = coding.pix_fmt
        stream.codec_context.time_base = Fraction(1, fps)
        stream.codec_context.thread_count = 1
        stream.codec_context.flags |= Flags.bitexact
        fields = _Fields(stream, fps) if coding.is_interlaced else None
        # One reformatter for all frames: VideoFrame.reformat would set up its scaler anew for each.
        reformatter = VideoReformatter()
        for index, picture in enumerate(frames):
            frame = reformatter.reformat(av.VideoFrame.from_ndarray(picture, format="rgb24"), format="yuv420p")
            if coding.pix_fmt == _DEEP:
                frame = _deepened(frame)
            frame.pts = index if ticks is None else ticks[index]
            frame.time_base = Fraction(1, fps)
            container.mux(stream.encode(fields.mark(frame) if fields else frame))
        container.mux(stream.encode(None))


def _deepened(frame: av.VideoFrame) -> av.VideoFrame:
    """The same picture in 10 bit. FFmpeg's own conversion from RGB leaves bits that differ from run to run."""
    planes = frame.to_ndarray().astype(np.uint16)
    return av.VideoFrame.from_ndarray((planes << 2 | planes >> 6).astype(np.uint16), format=_DEEP)


class _Fields:
    """Marks frames as two fields, top first: PyAV cannot set that on a frame, a filter can."""

    def __init__(self, stream: VideoStream, fps: int) -> None:
        stream.codec_context.flags |= Flags.interlaced_dct | Flags.interlaced_me
        self.graph = av.filter.Graph()
        source = self.graph.add_buffer(width=stream.width, height=stream.height, format=av.VideoFormat("yuv420p"),
                                       time_base=Fraction(1, fps))
        marker, sink = self.graph.add("setparams", "field_mode=tff"), self.graph.add("buffersink")
        source.link_to(marker)
        marker.link_to(sink)
        self.graph.configure()

    def mark(self, frame: av.VideoFrame) -> av.VideoFrame:
        self.graph.push(frame)
        marked = self.graph.pull()
        assert isinstance(marked, av.VideoFrame)
        return marked


def write_pictures(folder: Path, frames: Sequence[Picture]) -> None:
    """Numbered PNG files, frame_0001.png onwards."""
    folder.mkdir(parents=True)
    for number, picture in enumerate(frames, start=1):
        packed, data = cv2.imencode(".png", picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 2])
        assert packed
        (folder / f"frame_{number:04d}.png").write_bytes(data.tobytes())


def pack_zip(path: Path, members: Sequence[tuple[str, Path, bool]]) -> None:
    """A zip of (name, file, is deflated) with one date for all."""
    with zipfile.ZipFile(path, "w") as pack:
        for name, file, is_deflated in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED if is_deflated else zipfile.ZIP_STORED
            info.external_attr = 0o644 << 16
            pack.writestr(info, file.read_bytes())


def pack_tar(path: Path, members: Sequence[tuple[str, Path]]) -> None:
    """A plain tar without times and owners."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as pack:
        for name, file in members:
            info = tarfile.TarInfo(name)
            info.size = file.stat().st_size
            with file.open("rb") as stream:
                pack.addfile(info, stream)


def cut_short(path: Path, share: float) -> None:
    """Keeps the first `share` of a file's bytes."""
    data = path.read_bytes()
    path.write_bytes(data[: round(len(data) * share)])


def count_frames(path: Path) -> int:
    """How many frames decode before the file ends or breaks."""
    count = 0
    try:
        with av.open(str(path)) as container:
            for _ in container.decode(video=0):
                count += 1
    except av.FFmpegError:
        pass                                               # the truth wants to know how far one gets
    return count
