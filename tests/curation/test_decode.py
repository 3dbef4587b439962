"""Promise: every frame of every readable film arrives once, in order and with a rising time; nothing else is read."""

from __future__ import annotations

import json
import os
import resource
import time
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from counter_film import HEIGHT, WIDTH, counter_picture, read_number, write_film
from PIL import Image

from curation.decode import FilmReader, UnreadableSource, as_planar, chroma_planes, luma_plane
from curation.ledger import Access
from curation.probe import clockwise_deg, sane_aspect

ODD_VIDEOS = Path(os.environ.get("TOONFORGE_ODD_VIDEOS", Path(__file__).parents[2] / "../shared/data/odd_videos"))


def numbers(frames) -> list[int]:
    return [read_number(luma_plane(frame.picture)) for frame in frames]


def read_all(path: Path, **options) -> tuple[list[int], list[int], FilmReader]:
    with FilmReader(Access(str(path)), **options) as reader:
        frames = list(reader.frames())
    return numbers(frames), [frame.pts for frame in frames], reader


OPEN_GOP = {"x264-params": "open-gop=1:scenecut=0:b-adapt=0", "bf": "3"}
IRREGULAR = [tick * 41 + 13 * (tick % 3) for tick in range(80)]  # milliseconds, steps of 54, 54 and 15: on no grid
FILMS = {
    "closed_gop.mp4": {"pts": 80, "options": {"bf": "2"}},
    "open_gop.mp4": {"pts": 80, "options": OPEN_GOP},
    "open_gop.mkv": {"pts": 80, "options": OPEN_GOP},
    "open_gop.ts": {"pts": 80, "options": OPEN_GOP},
    "hevc_open_gop.mkv": {"pts": 80, "codec": "libx265", "options": {
        "x265-params": "log-level=none:open-gop=1:b-adapt=0:bframes=3"}},
    "vfr.mkv": {"pts": IRREGULAR, "time_base": Fraction(1, 1000), "options": OPEN_GOP},
    "late_start.mkv": {"pts": range(1000, 1080), "options": {"bf": "2"}},
    "mpeg2.mpg": {"pts": 80, "codec": "mpeg2video", "options": {"bf": "2", "b": "3000000"}},
    "old.avi": {"pts": 80, "codec": "mpeg4", "options": {"bf": "2", "b": "2000000"}},
    "only_one_key.mp4": {"pts": 80, "options": {"bf": "2"}, "gop": 500},
}


@pytest.mark.parametrize("name", ["open_gop.mp4", "open_gop.mkv", "hevc_open_gop.mkv", "mpeg2.mpg"])
def test_the_films_used_here_do_have_pictures_that_lead_their_key_frame(name, tmp_path):
    with av.open(str(write_film(tmp_path / name, **FILMS[name]))) as film:
        packets = [packet for packet in film.demux(video=0) if packet.pts is not None]
    assert any(later.pts < packet.pts for number, packet in enumerate(packets) if packet.is_keyframe
               for later in packets[number:])


@pytest.mark.parametrize("name", FILMS)
def test_a_span_reached_by_seeking_holds_the_frames_of_a_decode_from_the_start(name, tmp_path):
    write_film(tmp_path / name, **FILMS[name])
    whole, pts, reader = read_all(tmp_path / name)
    assert whole == list(range(80))
    assert all(before < after for before, after in pairwise(pts))
    assert reader.decode_errors == 0 and not reader.pts_repaired
    with FilmReader(Access(str(tmp_path / name))) as again:
        for start, end in [(0, 5), (11, 14), (12, 13), (13, 40), (37, 38), (60, 80), (3, 4)]:
            end_pts = pts[end] if end < 80 else pts[-1] + 1
            found = list(again.span(pts[start], end_pts))
            assert (numbers(found), [frame.pts for frame in found]) == (list(range(start, end)), pts[start:end])


def test_variable_frame_times_are_the_ones_written(tmp_path):
    _, pts, reader = read_all(write_film(tmp_path / "vfr.mkv", **FILMS["vfr.mkv"]))
    assert reader.time_base == Fraction(1, 1000)
    assert pts == IRREGULAR


def test_frames_can_be_read_twice_and_after_a_span(tmp_path):
    write_film(tmp_path / "film.mp4", 30)
    with FilmReader(Access(str(tmp_path / "film.mp4"))) as reader:
        first = [frame.index for frame in reader.frames()]
        list(reader.span(reader.probe.time_base.denominator, 1 << 40))
        assert first == [frame.index for frame in reader.frames()] == list(range(30))


def test_frames_without_time_stamps_get_rising_ones_and_spans_from_the_start(tmp_path):
    path = write_film(tmp_path / "bare.h264", 40, options={"bf": "2"})   # a bare stream stores no times
    with FilmReader(Access(str(path))) as reader:
        pts = [frame.pts for frame in reader.frames()]
        assert reader.pts_repaired
        assert len(pts) == 40 and all(before < after for before, after in pairwise(pts))
    with FilmReader(Access(str(path))) as fresh:
        found = list(fresh.span(pts[17], pts[23], from_start=True))
        assert numbers(found) == list(range(17, 23))
        assert [frame.index for frame in found] == list(range(17, 23))


def test_a_clock_that_jumps_back_is_carried_on_at_the_usual_rate(tmp_path):
    part = write_film(tmp_path / "a.ts", 20)
    more = write_film(tmp_path / "b.ts", 20, first_number=20)
    (tmp_path / "both.ts").write_bytes(part.read_bytes() + more.read_bytes())
    found, pts, reader = read_all(tmp_path / "both.ts")
    assert found == list(range(40)) and reader.pts_repaired
    assert {after - before for before, after in pairwise(pts)} == {90000 // 24}


def test_frames_of_another_size_are_skipped_and_counted(tmp_path):
    part = write_film(tmp_path / "a.ts", 20)
    other = write_film(tmp_path / "b.ts", 15, width=WIDTH + 32)
    (tmp_path / "both.ts").write_bytes(part.read_bytes() + other.read_bytes())
    found, _, reader = read_all(tmp_path / "both.ts")
    assert found == list(range(20)) and reader.decode_errors == 15


def test_a_window_of_an_archive_reads_like_the_file(tmp_path):
    path = write_film(tmp_path / "film.mp4", 30)
    (tmp_path / "pack.tar").write_bytes(b"x" * 1234 + path.read_bytes() + b"y" * 999)
    with FilmReader(Access(str(tmp_path / "pack.tar"), offset=1234, length=path.stat().st_size)) as reader:
        assert numbers(reader.frames()) == list(range(30))


def test_damaged_bytes_cost_their_packets_only(tmp_path):
    data = bytearray(write_film(tmp_path / "film.ts", 96, gop=8).read_bytes())
    middle = len(data) // 2
    data[middle:middle + 400] = bytes(400)
    (tmp_path / "film.ts").write_bytes(data)
    found, pts, _ = read_all(tmp_path / "film.ts")
    assert found[:30] == list(range(30)) and found[-30:] == list(range(66, 96))
    assert all(before < after for before, after in pairwise(pts))


def test_the_end_of_a_truncated_file_is_missing_and_nothing_else(tmp_path):
    whole = write_film(tmp_path / "film.mkv", 96).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    found, _, _ = read_all(tmp_path / "cut.mkv")
    assert 40 < len(found) < 96 and found == list(range(len(found)))


@pytest.mark.parametrize(("content", "reason"), [
    (b"", "empty"),
    (b"Once upon a time there was no film.\n" * 40, "no film container"),
    (b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfilm.ts\n#EXT-X-ENDLIST\n", "no film container"),
    (b"ffconcat version 1.0\nfile film.ts\n", "no film container"),
])
def test_what_is_no_film_is_refused_with_a_sentence(content, reason, tmp_path):
    write_film(tmp_path / "film.ts", 48)
    (tmp_path / "trap.ts").write_bytes(content)
    with pytest.raises(UnreadableSource, match=reason), FilmReader(Access(str(tmp_path / "trap.ts"))):
        pass


def test_a_missing_file_is_refused_with_a_sentence(tmp_path):
    with pytest.raises(UnreadableSource, match="cannot be read"), FilmReader(Access(str(tmp_path / "none.mp4"))):
        pass


def test_an_encrypted_film_is_refused_with_a_sentence(tmp_path):
    secret = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "00" * 16, "encryption_kid": "11" * 16}
    path = write_film(tmp_path / "film.mp4", 10, container_options=secret)
    with pytest.raises(UnreadableSource, match="encrypted"), FilmReader(Access(str(path))):
        pass


def test_frames_larger_than_allowed_are_refused_before_decoding(tmp_path):
    path = write_film(tmp_path / "film.mp4", 2)
    pixels = WIDTH * HEIGHT
    with pytest.raises(UnreadableSource, match="max_pixels"), FilmReader(Access(str(path)), max_pixels=pixels - 1):
        pass
    with FilmReader(Access(str(path)), max_pixels=pixels) as reader:
        assert len(list(reader.frames())) == 2


def test_a_film_without_video_is_refused(tmp_path):
    with av.open(str(tmp_path / "song.mkv"), "w") as song:
        stream = song.add_stream("aac", rate=48000)
        silence = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
        silence.sample_rate = 48000
        song.mux(stream.encode(silence))
        song.mux(stream.encode(None))
    with pytest.raises(UnreadableSource, match="no video stream"), FilmReader(Access(str(tmp_path / "song.mkv"))):
        pass


def test_the_probe_says_what_was_written(tmp_path):
    path = write_film(tmp_path / "film.mp4", 24, pix_fmt="yuv420p10le", sample_aspect=Fraction(4, 3), rotation_deg=-90)
    with FilmReader(Access(str(path))) as reader:
        probe = reader.probe
    assert (probe.codec, probe.pix_fmt, probe.bit_depth) == ("h264", "yuv420p10le", 10)
    assert (probe.width, probe.height, probe.sample_aspect, probe.fps) == (WIDTH, HEIGHT, Fraction(4, 3), 24.0)
    assert (probe.rotation_deg, probe.duration_s, probe.has_audio) == (90, 1.0, False)


def test_nonsense_of_headers_becomes_unknown():
    assert [clockwise_deg(angle) for angle in (0, -90, 90, 180, -180, 45, -2**63)] == [0, 90, 270, 180, 180, 0, 0]
    assert [sane_aspect(Fraction(*pair)) for pair in ((0, 1), (1, 4000), (319, 320))] == [1, 1, 1]
    assert [sane_aspect(Fraction(*pair)) for pair in ((64, 45), (8, 9))] == [Fraction(64, 45), Fraction(8, 9)]
    assert sane_aspect(None) == 1


# --- pictures

def write_pictures(folder: Path, pictures: dict[str, np.ndarray]) -> Access:
    for name, picture in pictures.items():
        Image.fromarray(picture).save(folder / name)
    return Access(str(folder), pictures=tuple(sorted(pictures)))


def test_a_folder_of_pictures_is_a_film_at_its_frame_rate(tmp_path):
    access = write_pictures(tmp_path, {f"shot_{n:04d}.png": counter_picture(n) for n in range(12)})
    with FilmReader(access, picture_fps=12.0) as reader:
        assert reader.time_base == Fraction(1, 12) and reader.probe.duration_s == 1.0
        frames = list(reader.frames())
        assert numbers(frames) == [frame.pts for frame in frames] == list(range(12))
        assert numbers(reader.span(3, 7)) == [3, 4, 5, 6]


def test_sixteen_bit_and_transparent_pictures_are_brought_to_rgb(tmp_path):
    deep = np.full((8, 8), 200 * 256 + 77, np.uint16)
    ink = np.zeros((8, 8, 4), np.uint8)      # black ink, half of it transparent
    ink[:, 4:, 3] = 255
    access = write_pictures(tmp_path, {"0.png": deep, "1.png": ink})
    with FilmReader(access) as reader:
        gray, drawn = (frame.picture.to_ndarray() for frame in reader.frames())
    assert (gray == 200).all()
    assert (drawn[:, :4] == 255).all() and (drawn[:, 4:] == 0).all()


def test_pictures_of_different_sizes_are_no_film(tmp_path):
    access = write_pictures(tmp_path, {"0.png": counter_picture(0), "1.png": counter_picture(1, WIDTH + 2)})
    with pytest.raises(UnreadableSource, match="different sizes"), FilmReader(access):
        pass


def test_a_broken_picture_costs_one_frame(tmp_path):
    access = write_pictures(tmp_path, {f"{n}.png": counter_picture(n) for n in range(4)})
    whole = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "2.png").write_bytes(b"not a picture")
    with FilmReader(access) as reader:
        assert numbers(reader.frames()) == [0, 3] and reader.decode_errors == 2


# --- planes

def noise_picture(name: str, width: int, height: int) -> av.VideoFrame:
    rgb = np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return av.VideoFrame.from_ndarray(rgb).reformat(format=name)


@pytest.mark.parametrize("name", [
    "yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuva420p", "yuv420p10le", "yuv422p10le", "yuv444p16le", "yuv420p10be",
    "yuv420p12le", "gray", "gray10le", "gray16be", "nv12",
])
@pytest.mark.parametrize("row_step", [1, 3])
def test_planes_hold_the_stored_samples(name, row_step):
    width, height = 71, 37                   # odd, and not a multiple of any line alignment
    picture = noise_picture(name, width, height)
    parts = picture.format.components
    shift = parts[0].bits - 8
    stored = []
    for plane in picture.planes[:3]:
        raw = np.frombuffer(bytes(plane), np.uint8).reshape(plane.height, plane.line_size)
        if shift:
            high, low = (0, 1) if name.endswith("be") else (1, 0)
            raw = ((raw[:, high::2].astype(int) << 8) + raw[:, low::2]) >> shift
        stored.append(raw[::row_step])
    luma = luma_plane(picture, row_step)
    assert luma.dtype == np.uint8 and (luma == stored[0][:, :width]).all()
    chroma = chroma_planes(picture, row_step)
    if name.startswith("gray"):
        assert chroma is None
    elif name == "nv12":
        assert all((found == stored[1][:, first:72:2]).all() for first, found in enumerate(chroma))
    else:
        assert all((found == want[:, :found.shape[1]]).all() for found, want in zip(chroma, stored[1:], strict=True))
        assert chroma[0].shape[1] == parts[1].width


def test_eight_bit_planes_are_views_not_copies():
    picture = noise_picture("yuv420p", 64, 32)
    assert not luma_plane(picture).flags.owndata
    assert luma_plane(picture).ctypes.data == picture.planes[0].buffer_ptr


@pytest.mark.parametrize("name", ["rgb24", "bgr0", "gbrp", "yuyv422"])
def test_other_formats_are_converted_first(name):
    flat = av.VideoFrame.from_ndarray(np.full((32, 48, 3), 255, np.uint8))
    picture = flat.reformat(format=name)
    assert as_planar(picture).format.name == "yuv420p"
    assert luma_plane(picture).shape == (32, 48)
    assert abs(int(luma_plane(picture).mean()) - 235) <= 2   # white in limited range


# --- films of others

def odd_videos() -> list[tuple[str, dict]]:
    manifest = ODD_VIDEOS / "manifest.json"
    return sorted(json.loads(manifest.read_text())["files"].items()) if manifest.is_file() else [("", {})]


@pytest.mark.parametrize(("name", "entry"), odd_videos(), ids=lambda value: value if isinstance(value, str) else "")
def test_odd_films_are_read_as_far_as_they_go(name, entry):
    if not name:
        pytest.skip(f"odd films are absent: {ODD_VIDEOS}")
    started, num_frames = time.monotonic(), 0
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        with FilmReader(Access(str(ODD_VIDEOS / name))) as reader:
            last = None
            for frame in reader.frames():
                assert last is None or frame.pts > last
                last = frame.pts
                num_frames += 1
            measured = entry["measured"]
            assert (reader.probe.width, reader.probe.height) == (measured["width"], measured["height"])
            assert num_frames == measured["pyav_frames"]
    except UnreadableSource as error:
        assert entry["expect"].startswith("reject"), error.reason
    assert (num_frames == 0) == entry["expect"].startswith("reject")
    assert time.monotonic() - started < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 1.5e6
