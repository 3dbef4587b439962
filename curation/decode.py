"""Films as frames with exact times: one reader for files, windows of archives and folders of numbered pictures.

Files come from archives nobody vouches for. So only known film containers are opened, nothing they refer to is
followed, one bad packet costs one packet, and every frame gets a strictly rising time stamp.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av

from curation.ledger import Access, Probe
from curation.pictures import MixedPictures, probe_pictures, read_picture
from curation.planes import as_planar, chroma_planes, luma_plane
from curation.probe import probe_stream

__all__ = ["DecodedFrame", "FileWindow", "FilmReader", "UnreadableSource", "as_planar", "chroma_planes", "luma_plane"]

MAX_FAILURES = 200           # packets in a row that raise, after which the rest of a film is given up
MAX_SILENCE = 3000           # packets in a row without picture or error: more than any key-frame distance in use
SEEK_BACK_S = (0, 2, 10)     # how much earlier to seek when the frame found lies behind the one wanted
READ_BYTES = 1 << 18
# Containers that keep no time per frame: after a seek the demuxer guesses, and may be a frame off.
COUNTED_CONTAINERS = ("avi", "mpeg", "mpegvideo", "h264", "hevc", "m4v", "obu", "vc1")

# Containers of films and, so that "only a cover picture" can be said, of music. Everything that refers to other
# files (hls, dash, concat, image2, sdp) is absent.
CONTAINERS = (
    "3gp", "aac", "aiff", "amv", "anm", "apng", "asf", "av1", "avi", "avif", "bink", "cavsvideo", "cine", "dirac",
    "dnxhd", "dv", "dxa", "evc", "ffv1", "film_cpk", "flac", "flic", "flv", "gif", "gxf", "h261", "h263", "h264",
    "hevc", "idcin", "iv8", "ivf", "ivr", "jpegxl_anim", "kux", "lxf", "m4v", "matroska", "mjpeg", "mlv", "mov", "mp3",
    "mp4", "mpeg", "mpegts", "mpegtsraw", "mpegvideo", "mpjpeg", "msnwctcp", "mtv", "mvi", "mxf", "mxg", "nsv", "nut",
    "nuv", "obu", "ogg", "pva", "r3d", "rl2", "rm", "roq", "rpl", "ser", "smk", "swf", "thp", "ty", "vc1", "vc1test",
    "vivo", "vvc", "wav", "webp_anim", "wtv", "xmv", "yop", "yuv4mpegpipe",
)


class UnreadableSource(Exception):
    """A source no frame can be expected from; `reason` is a sentence for the ledger."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class DecodedFrame:
    """One picture of a film, in the order of showing."""

    index: int                 # counted from the film's first frame; -1 when reached by seeking
    pts: int                   # ticks of the film's time base, strictly rising
    duration: int              # ticks, 0 unknown
    is_key: bool
    is_damaged: bool           # the decoder or the container calls it corrupt
    is_interlaced: bool
    picture: av.VideoFrame


class FilmReader:
    """Decodes the first real video stream of a film; a context manager.

    After `__enter__`, `probe` and `time_base` are known. `decode_errors` and `pts_repaired` speak of the pass under
    way and are complete when `frames()` is exhausted.
    """

    def __init__(
        self, access: Access, *, threads: int = 1, picture_fps: float = 24.0, max_pixels: int = 2**26
    ) -> None:
        self.access = access
        self.threads = threads
        self.picture_fps = picture_fps
        self.max_pixels = max_pixels
        self.probe: Probe
        self.time_base = Fraction(1)
        self.decode_errors = 0
        self.pts_repaired = False      # a time stamp was missing or did not rise: find spans from the start
        self._film: _Stream | None = None
        self._primed: Iterator[DecodedFrame] | None = None

    def __enter__(self) -> Self:
        if self.access.pictures:
            try:
                self.probe = probe_pictures(self.access, self.picture_fps, self.max_pixels)
            except MixedPictures as error:
                raise UnreadableSource(str(error)) from error
        else:
            self._film = _Stream(self.access, self.threads, self.max_pixels)
            try:
                self._prime()
            except BaseException:
                self.__exit__(None, None, None)
                raise
        self.time_base = self.probe.time_base
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._primed = None
        if self._film is not None:
            self._film.close()
            self._film = None

    @property
    def seeks_exactly(self) -> bool:
        """Whether spans may be found by seeking; else the film is decoded from its start for each."""
        return self.probe.container not in COUNTED_CONTAINERS

    def frames(self) -> Iterator[DecodedFrame]:
        """Yields every frame from the start; may be called again, and then decodes again."""
        if self.access.pictures:
            yield from self._pictures(range(len(self.access.pictures)))
            return
        if self._primed is None:
            self._reopen()
        primed, self._primed = self._primed, None
        assert primed is not None
        yield from primed

    def span(self, start_pts: int, end_pts: int, *, from_start: bool = False) -> Iterator[DecodedFrame]:
        """Yields the frames with start_pts <= pts < end_pts, from the key frame at or before `start_pts`.

        With `from_start`, where time stamps had to be repaired and in containers without them, the film is decoded
        from its first frame, which is slow and gives the very PTS and indices of `frames()`. A pass that begins with
        a seek and sets `pts_repaired` is not to be trusted.
        """
        if self.access.pictures:
            yield from self._pictures(range(max(start_pts, 0), min(end_pts, len(self.access.pictures))))
            return
        by_counting = from_start or self.pts_repaired or not self.seeks_exactly
        found = self.frames() if by_counting else self._seek(start_pts)
        for frame in found:
            if frame.pts >= end_pts:
                return
            if frame.pts >= start_pts:
                yield frame

    def _prime(self) -> None:
        """Decodes the first frame, which completes the probe, and keeps it for the first pass."""
        assert self._film is not None
        self.decode_errors = 0
        passing = self._pass(self._film, first_index=0)
        first = next(passing, None)
        self.probe = probe_stream(self._film.container, self._film.stream, first.picture if first else None)
        self._primed = _chain(first, passing)

    def _reopen(self) -> None:
        """Back to the first frame: opening again is exact where seeking is not (late starts, broken indices)."""
        assert self._film is not None, "use FilmReader in a with statement"
        self._film.close()
        self._film = _Stream(self.access, self.threads, self.max_pixels)
        self._prime()

    def _seek(self, start_pts: int) -> Iterator[DecodedFrame]:
        """Frames from a key frame at or before `start_pts` on, or from the start where no seek leads there."""
        assert self._film is not None, "use FilmReader in a with statement"
        self._primed = None
        for back_s in SEEK_BACK_S:
            self.decode_errors, self.pts_repaired = 0, False
            try:
                self._film.container.seek(start_pts - int(back_s / self.time_base), stream=self._film.stream)
            except av.FFmpegError:
                break
            passing = self._pass(self._film, first_index=-1)
            # What comes before the first key frame refers to pictures that were skipped.
            first = next((frame for frame in passing if frame.is_key), None)
            if first is not None and first.pts <= start_pts and not self.pts_repaired:
                return _chain(first, passing)
        self._reopen()
        return self.frames()

    def _pass(self, film: _Stream, *, first_index: int) -> Iterator[DecodedFrame]:
        """One run of the decoder: time stamps made to rise, other sizes skipped, other formats converted."""
        size: tuple[int, int] | None = None
        format_name = ""
        last_pts: int | None = None
        index = first_index
        fps = film.stream.average_rate or film.stream.guessed_rate
        usual = max(1, round(1 / (fps * film.time_base))) if fps and fps > 0 else 1
        for picture, is_damaged in self._decode(film):
            if size is None:
                size, format_name = (picture.width, picture.height), picture.format.name
            if (picture.width, picture.height) != size:
                self.decode_errors += 1
                continue
            if picture.format.name != format_name:
                picture = picture.reformat(format=format_name)
            duration = max(0, picture.duration or 0)
            pts = picture.pts if picture.pts is not None else picture.dts
            if picture.pts is None or pts is None or (last_pts is not None and pts <= last_pts):
                self.pts_repaired = True
                if pts is None or (last_pts is not None and pts <= last_pts):
                    pts = 0 if last_pts is None else last_pts + (duration or usual)
            last_pts = pts
            yield DecodedFrame(index, pts, duration, bool(picture.key_frame), is_damaged,
                               bool(picture.interlaced_frame), picture)
            index += first_index >= 0

    def _decode(self, film: _Stream) -> Iterator[tuple[av.VideoFrame, bool]]:
        """Pictures with "is damaged", packet by packet; an error costs its packet and is counted."""
        failures = silence = 0
        packets = film.container.demux(film.stream)
        while failures < MAX_FAILURES and silence < MAX_SILENCE:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                if packet.has_sidedata("encryption_info"):
                    raise UnreadableSource("the video stream is encrypted")
                pictures = packet.decode()
            except (av.FFmpegError, ValueError):
                self.decode_errors += 1
                failures += 1
                packets = film.container.demux(film.stream)
                continue
            silence += 1
            for picture in pictures:
                failures = silence = 0
                yield picture, bool(picture.is_corrupt or packet.is_corrupt)

    def _pictures(self, indices: range) -> Iterator[DecodedFrame]:
        self.decode_errors = 0
        for index in indices:
            try:
                rgb_u8 = read_picture(Path(self.access.path, self.access.pictures[index]))
            except (OSError, ValueError, SyntaxError, EOFError):  # what Pillow raises on broken files
                self.decode_errors += 1
                continue
            if rgb_u8.shape[:2] != (self.probe.height, self.probe.width):
                raise UnreadableSource(f"{self.access.pictures[index]} has another size than its header says")
            picture = av.VideoFrame.from_ndarray(rgb_u8, format="rgb24")
            picture.pts, picture.time_base = index, self.time_base
            yield DecodedFrame(index, index, 1, True, False, False, picture)


class FileWindow(io.RawIOBase):
    """Read-only view of `length` bytes of a file from `offset`; nameless, so that no name can steer the demuxer."""

    def __init__(self, path: str, offset: int = 0, length: int | None = None) -> None:
        self._file = io.FileIO(path, "rb")
        size = os.fstat(self._file.fileno()).st_size
        self._offset = offset
        self._length = max(0, min(size - offset, size if length is None else length))
        self._position = 0

    def __len__(self) -> int:
        return self._length

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._length}[whence]
        if base + offset < 0:
            raise ValueError("seek before the start")
        self._position = base + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._length - self._position)
        data = os.pread(self._file.fileno(), left if size < 0 else min(size, left), self._offset + self._position)
        self._position += len(data)
        return data

    def close(self) -> None:
        self._file.close()
        super().close()


class _Stream:
    """An opened container with its film stream."""

    def __init__(self, access: Access, threads: int, max_pixels: int) -> None:
        try:
            self.bytes = FileWindow(access.path, access.offset or 0, access.length)
        except OSError as error:
            raise UnreadableSource(f"cannot be read: {error.strerror}") from error
        try:
            if len(self.bytes) == 0:
                raise UnreadableSource("the file is empty (0 bytes)")
            self.container = self._open(max_pixels)
            try:
                self.stream = _film_stream(self.container, max_pixels)
            except UnreadableSource:
                self.container.close()
                raise
        except UnreadableSource:
            self.bytes.close()
            raise
        self.time_base = self.stream.time_base or Fraction(1, 1000)
        self.stream.codec_context.thread_count = threads
        self.stream.codec_context.options = {"max_pixels": str(_decoder_limit(max_pixels))}

    def _open(self, max_pixels: int) -> av.container.InputContainer:
        options = {
            "format_whitelist": ",".join(CONTAINERS),
            "protocol_whitelist": "",
            "max_pixels": str(_decoder_limit(max_pixels)),
        }
        try:
            return av.open(self.bytes, "r", options=options, buffer_size=READ_BYTES, metadata_errors="replace",
                           io_open=_refuse)
        except (av.FFmpegError, ValueError, OSError, RuntimeError) as error:
            what = getattr(error, "strerror", None) or str(error)
            raise UnreadableSource(f"no film container that is read here ({what})") from error

    def close(self) -> None:
        self.container.close()
        self.bytes.close()


def _decoder_limit(max_pixels: int) -> int:
    """For frames that grow mid-stream; the decoder counts padding too, so the exact check is ours."""
    return 2 * max_pixels + (1 << 20)


def _refuse(url: str, *_: object, **__: object) -> None:
    raise PermissionError(f"the file refers to another one: {url}")


def _film_stream(container: av.container.InputContainer, max_pixels: int) -> av.VideoStream:
    """The first video stream that is no cover picture and has a decoder."""
    videos = container.streams.video
    films = [video for video in videos if not video.disposition & av.stream.Disposition.attached_pic]
    if not films:
        raise UnreadableSource("only a cover picture, no video stream" if videos else "no video stream")
    decodable = [film for film in films if film.codec_context is not None]
    if not decodable:
        raise UnreadableSource("no decoder for its video codec")
    film = decodable[0]
    width, height = film.codec_context.width, film.codec_context.height
    if width * height > max_pixels:
        raise UnreadableSource(f"frames of {width}x{height} exceed curation.sources.max_pixels={max_pixels}")
    return film


def _chain(first: DecodedFrame | None, rest: Iterator[DecodedFrame]) -> Iterator[DecodedFrame]:
    if first is not None:
        yield first
    del first  # the picture may be large, and the rest of the film is long
    yield from rest
