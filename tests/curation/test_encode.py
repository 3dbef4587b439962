"""Promise: an encoded clip holds exactly the frames the survey saw, at their times, and the same bytes in every run."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from counter_film import BITS, HEIGHT, SQUARE_PX, WIDTH, counter_picture, read_number, write_film

from curation.config import EncodeConfig, SketchName, SourcesConfig
from curation.decode import FilmReader, luma_plane
from curation.encode import Encode, EncodedClip, EncodeJob, FailedClip, artifact_key
from curation.framing import clip_size, even_crop
from curation.ledger import Access, Clip, Probe, Source
from pipeline.hashing import file_digest
from pipeline.store import Store

SOURCES = SourcesConfig(max_pixels=1 << 26, max_member_gb=1.0, max_expansion=100.0, max_members=1000,
                        min_pictures=8, picture_fps=24.0, download_timeout_s=5.0)
OPEN_GOP = {"x264-params": "open-gop=1:scenecut=0:b-adapt=0", "bf": "3"}
IRREGULAR = [tick * 41 + 13 * (tick % 3) for tick in range(80)]


def make_config(**changes) -> EncodeConfig:
    values = {"cover": "source", "crf": 10, "preset": "ultrafast", "gop": 16, "sketch": SketchName.NONE}
    return EncodeConfig(**{**values, **changes})


def make_job(path: Path, spans, *, crop=None, deinterlace=False, access=None) -> EncodeJob:
    """A job as the survey and the cascade would make it, for frames [start, end) of each span."""
    access = access or Access(str(path))
    source = Source(path.name, file_digest(path) if path.is_file() else "f" * 64, 1, access)
    with FilmReader(access) as reader:
        pts = [frame.pts for frame in reader.frames()]
        probe, by_index = reader.probe, reader.pts_repaired
    ends = [*pts[1:], pts[-1] + max(1, round(1 / (24 * probe.time_base)))]
    clips = tuple(
        Clip(source=path.name, sha256=source.sha256, title="t", shot_index=0, clip_index=index, start_frame=start,
             end_frame=end, start_pts=pts[start], end_pts=ends[end - 1], time_base=probe.time_base, fps=probe.fps,
             holds=(end - start,), cadence="ones", survey_key="k",
             crop=crop or (0, 0, probe.width, probe.height))
        for index, (start, end) in enumerate(spans))
    return EncodeJob(source, probe, clips, tuple(tuple(pts[start:end]) for start, end in spans), by_index, deinterlace)


def encode(job: EncodeJob, root: Path, **changes) -> list[EncodedClip | FailedClip]:
    stage = Encode(make_config(**changes), SOURCES, str(root))
    stage.setup()
    [rows] = stage([job])
    return rows


def clip_path(row: EncodedClip | FailedClip, root: Path) -> Path:
    assert isinstance(row, EncodedClip), row.error
    return Store(root).path("clip", row.artifact_key) / "clip.mp4"


def decode(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as film:
        return list(film.decode(video=0))


def numbers(path: Path, left: int = 0, top: int = 0, square_px: float = SQUARE_PX) -> list[int]:
    return [read_number(luma_plane(picture), left, top, square_px) for picture in decode(path)]


FILMS = {
    "closed_gop.mp4": {"pts": 80, "options": {"bf": "2"}},
    "open_gop.mkv": {"pts": 80, "options": OPEN_GOP},
    "open_gop.ts": {"pts": 80, "options": OPEN_GOP},
    "vfr.mkv": {"pts": IRREGULAR, "time_base": Fraction(1, 1000), "options": OPEN_GOP},
    "late_start.mkv": {"pts": range(1000, 1080), "options": {"bf": "2"}},
    "no_times.h264": {"pts": 80, "options": {"bf": "2"}},
    "old.avi": {"pts": 80, "codec": "mpeg4", "options": {"bf": "2", "b": "2000000"}},
    "hi10.mkv": {"pts": 80, "pix_fmt": "yuv420p10le"},
    "ntsc.mov": {"pts": 80, "time_base": Fraction(1001, 24000)},
}
SPANS = [(0, 7), (7, 25), (26, 31), (50, 80)]


@pytest.mark.parametrize("name", FILMS)
def test_clips_hold_the_frames_of_their_spans_at_their_times(name, tmp_path):
    job = make_job(write_film(tmp_path / name, **FILMS[name]), SPANS)
    assert job.by_index == (name == "no_times.h264")     # the one that stores no times
    rows = encode(job, tmp_path / "store")
    assert [row.key for row in rows] == [clip.key for clip in job.clips]
    for row, clip, (start, end), pts in zip(rows, job.clips, SPANS, job.frame_pts, strict=True):
        path = clip_path(row, tmp_path / "store")
        pictures = decode(path)
        assert [read_number(luma_plane(picture)) for picture in pictures] == list(range(start, end))
        assert [picture.pts * picture.time_base for picture in pictures] == [
            (time - pts[0]) * clip.time_base for time in pts]
        assert (row.num_frames, row.width, row.height) == (end - start, WIDTH, HEIGHT)
        assert row.num_bytes == path.stat().st_size


def test_a_picture_film_is_encoded_too(tmp_path):
    from PIL import Image
    for number in range(20):
        Image.fromarray(counter_picture(number)).save(tmp_path / f"{number:03d}.png")
    access = Access(str(tmp_path), pictures=tuple(f"{number:03d}.png" for number in range(20)))
    [row] = encode(make_job(tmp_path, [(5, 15)], access=access), tmp_path / "store")
    assert numbers(clip_path(row, tmp_path / "store")) == list(range(5, 15))


def test_two_runs_and_another_way_to_the_frames_give_the_same_bytes(tmp_path):
    job = make_job(write_film(tmp_path / "film.mkv", 80, options=OPEN_GOP), SPANS)
    whole = encode(job, tmp_path / "a")
    alone = [row for clip, pts in zip(job.clips, job.frame_pts, strict=True)
             for row in encode(replace(job, clips=(clip,), frame_pts=(pts,)), tmp_path / "b")]
    from_start = encode(replace(job, by_index=True), tmp_path / "c")
    assert whole == alone == from_start
    for first, second, third in zip(whole, alone, from_start, strict=True):
        digests = {file_digest(clip_path(row, tmp_path / root)) for row, root in
                   ((first, "a"), (second, "b"), (third, "c"))}
        assert len(digests) == 1
    assert b"Lavf" not in clip_path(whole[0], tmp_path / "a").read_bytes()      # no version of the writer


def test_near_clips_share_a_decode_and_far_ones_are_sought(tmp_path, monkeypatch):
    spans = [(0, 10), (10, 20), (60, 70), (160, 170), (165, 175)]
    job = make_job(write_film(tmp_path / "film.mkv", 240, gop=24), spans)
    seeks = []
    original = FilmReader.span
    monkeypatch.setattr(FilmReader, "span", lambda self, start, end, **options: (
        seeks.append(start), original(self, start, end, **options))[1])
    rows = encode(job, tmp_path / "store")
    assert [numbers(clip_path(row, tmp_path / "store"))[0] for row in rows] == [0, 10, 60, 160, 165]
    # 20 -> 60 is 1.7 s and decoded through; 70 -> 160 is 3.75 s and sought, and so is what lies behind.
    assert seeks == [job.clips[index].start_pts for index in (0, 3, 4)]


@pytest.mark.parametrize("name", ["film.avi", "film.mpg"])
def test_containers_without_frame_times_are_decoded_once_from_the_start(name, tmp_path, monkeypatch):
    film = write_film(tmp_path / name, 400, gop=24, codec="mpeg2video", options={"bf": "2", "b": "2000000"})
    spans = [(3, 13), (88, 98), (90, 95), (390, 400)]
    job = make_job(film, spans)
    passes = []
    original = FilmReader.frames
    monkeypatch.setattr(FilmReader, "frames", lambda self: (passes.append(1), original(self))[1])
    rows = encode(job, tmp_path / "store")
    assert [numbers(clip_path(row, tmp_path / "store")) for row in rows] == [list(range(*span)) for span in spans]
    assert len(passes) == 2                          # the overlapping clip needs a second one


def test_where_seeking_misleads_the_film_is_decoded_from_its_start(tmp_path, monkeypatch):
    job = make_job(write_film(tmp_path / "film.mkv", 80), SPANS)

    def misleading(self, start, end, **_):
        for frame in self.frames():
            if frame.pts > start:                # one frame late
                yield frame
    monkeypatch.setattr(FilmReader, "span", misleading)
    rows = encode(job, tmp_path / "store")
    assert [numbers(clip_path(row, tmp_path / "store")) for row in rows] == [list(range(*span)) for span in SPANS]


def test_a_clip_whose_frames_are_not_found_fails_alone_and_leaves_nothing(tmp_path):
    job = make_job(write_film(tmp_path / "film.mkv", 80), SPANS)
    wrong = tuple(time + 1 for time in job.frame_pts[1])
    rows = encode(replace(job, frame_pts=(job.frame_pts[0], wrong, *job.frame_pts[2:])), tmp_path / "store")
    assert [type(row) for row in rows] == [EncodedClip, FailedClip, EncodedClip, EncodedClip]
    assert rows[1].key == job.clips[1].key and "other frames" in rows[1].error
    assert len(list((tmp_path / "store/clip").glob("*/*"))) == 3
    assert not list((tmp_path / "store/.tmp").iterdir())


def test_a_source_that_vanished_fails_every_clip_with_the_reason(tmp_path):
    job = make_job(write_film(tmp_path / "film.mkv", 80), SPANS)
    (tmp_path / "film.mkv").unlink()
    rows = encode(job, tmp_path / "store")
    assert [row.key for row in rows] == [clip.key for clip in job.clips]
    assert all(isinstance(row, FailedClip) and "cannot be read" in row.error for row in rows)


def test_an_artifact_that_exists_is_not_made_again(tmp_path):
    job = make_job(write_film(tmp_path / "film.mkv", 40), [(3, 9)])
    rows = encode(job, tmp_path / "store")
    (tmp_path / "film.mkv").unlink()
    assert encode(job, tmp_path / "store") == rows


def test_the_key_holds_whatever_changes_the_clip_and_nothing_of_the_machine(tmp_path):
    job = make_job(write_film(tmp_path / "film.mkv", 40), [(3, 9)])
    clip, pts = job.clips[0], job.frame_pts[0]
    keys = {
        artifact_key(job, clip, pts, make_config()),
        artifact_key(job, clip, pts, make_config(crf=11)),
        artifact_key(job, clip, pts, make_config(sketch=SketchName.OPENCV)),
        artifact_key(job, replace(clip, crop=(0, 0, 16, 16)), pts, make_config()),
        artifact_key(job, replace(clip, end_pts=clip.end_pts + 1), pts, make_config()),
        artifact_key(replace(job, deinterlace=True), clip, pts, make_config()),
        artifact_key(replace(job, probe=replace(job.probe, rotation_deg=90)), clip, pts, make_config()),
        artifact_key(replace(job, source=replace(job.source, sha256="0" * 64)), clip, pts, make_config()),
        artifact_key(job, clip, (*pts[:-1], pts[-1] + 1), make_config()),
    }
    assert len(keys) == 9
    elsewhere = replace(job, source=replace(job.source, name="other", access=Access("/elsewhere")))
    scored = replace(clip, caption="a cat", split="eval")
    assert artifact_key(elsewhere, scored, pts, make_config()) == artifact_key(job, clip, pts, make_config())


def test_gops_are_closed_and_no_longer_than_configured(tmp_path):
    job = make_job(write_film(tmp_path / "film.mkv", 80), [(0, 80)])
    [row] = encode(job, tmp_path / "store", gop=16, preset="veryfast")
    with av.open(str(clip_path(row, tmp_path / "store"))) as film:
        packets = [packet for packet in film.demux(video=0) if packet.pts is not None]
    keys = sorted(packet.pts for packet in packets if packet.is_keyframe)
    order = sorted(packet.pts for packet in packets)
    places = [order.index(key) for key in keys]
    assert places[0] == 0 and max(after - before for before, after in zip(places, [*places[1:], 80], strict=True)) <= 16
    for number, packet in enumerate(packets):    # closed: nothing after a key frame is shown before it
        if packet.is_keyframe:
            assert all(later.pts >= packet.pts for later in packets[number:])


# --- framing

def make_probe(**changes) -> Probe:
    values = {"container": "mkv", "codec": "h264", "pix_fmt": "yuv420p", "bit_depth": 8, "width": 720, "height": 480,
              "rotation_deg": 0, "sample_aspect": Fraction(1), "fps": 24.0, "duration_s": 1.0,
              "time_base": Fraction(1, 24), "color_range": "tv", "has_audio": False}
    return Probe(**{**values, **changes})


@pytest.mark.parametrize(("crop", "changes", "cover", "size"), [
    ((0, 0, 1920, 1080), {}, "512x320", (568, 320)),          # 320/1080 x 1920 = 568.9, the height decides
    ((0, 0, 640, 480), {}, "512x320", (512, 384)),            # 512/640 x 480 = 384, the width decides
    ((0, 0, 400, 300), {}, "512x320", (400, 300)),            # never up
    ((0, 0, 401, 301), {}, "source", (400, 300)),
    ((0, 0, 640, 360), {"sample_aspect": Fraction(2)}, "source", (1280, 360)),
    ((0, 0, 720, 480), {"sample_aspect": Fraction(8, 9)}, "source", (640, 480)),
    ((0, 0, 1920, 1080), {"rotation_deg": 90}, "512x320", (512, 910)),    # upright 1080x1920: 512/1080 x 1920 = 910.2
    ((0, 0, 720, 480), {"sample_aspect": Fraction(8, 9), "rotation_deg": 270}, "source", (480, 640)),
])
def test_the_size_just_covers_and_is_even(crop, changes, cover, size):
    assert clip_size(crop, make_probe(**changes), cover) == size


def test_crops_shrink_to_even_numbers():
    assert even_crop((3, 5, 11, 9)) == (4, 6, 10, 8)          # 4..14 inside 3..14, 6..14 inside 5..14
    with pytest.raises(ValueError, match="too small"):
        even_crop((0, 0, 1, 1))


def test_black_bars_are_cut_off(tmp_path):
    film = write_film(tmp_path / "film.mkv", 20, width=WIDTH + 64, height=HEIGHT + 32, left=32, top=16)
    [row] = encode(make_job(film, [(4, 12)], crop=(32, 16, WIDTH, HEIGHT)), tmp_path / "store")
    assert (row.width, row.height) == (WIDTH, HEIGHT)
    assert numbers(clip_path(row, tmp_path / "store")) == list(range(4, 12))


@pytest.mark.parametrize("clockwise_deg", [90, 180, 270])
def test_turned_films_come_out_upright(clockwise_deg, tmp_path):
    path = tmp_path / "film.mp4"
    turned = np.rot90(counter_picture(677), k=clockwise_deg // 90)          # stored turned counterclockwise
    with av.open(str(path), "w") as film:
        stream = film.add_stream("libx264", rate=24)
        stream.height, stream.width, stream.pix_fmt = *turned.shape[:2], "yuv420p"
        stream.set_display_rotation(-clockwise_deg)
        for _ in range(6):
            film.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(turned))))
        film.mux(stream.encode(None))
    job = make_job(path, [(1, 5)])
    assert job.probe.rotation_deg == clockwise_deg
    [row] = encode(job, tmp_path / "store")
    assert (row.width, row.height) == (WIDTH, HEIGHT)
    assert numbers(clip_path(row, tmp_path / "store")) == [677] * 4


def test_wide_pixels_become_square(tmp_path):
    film = write_film(tmp_path / "film.mkv", 12, sample_aspect=Fraction(2))
    [row] = encode(make_job(film, [(2, 9)]), tmp_path / "store")
    assert (row.width, row.height) == (2 * WIDTH, HEIGHT)
    wide = [np.asarray(luma_plane(picture))[:, ::2] for picture in decode(clip_path(row, tmp_path / "store"))]
    assert [read_number(luma) for luma in wide] == list(range(2, 9))


def test_films_are_scaled_down_until_they_just_cover(tmp_path):
    film = write_film(tmp_path / "film.mkv", 12, width=320, height=200)
    [row] = encode(make_job(film, [(2, 9)]), tmp_path / "store", cover="160x80")
    assert (row.width, row.height) == (160, 100)
    assert numbers(clip_path(row, tmp_path / "store"), square_px=SQUARE_PX / 2) == list(range(2, 9))


def flat_film(path: Path, value: int, pix_fmt: str, codec: str, color_range: int) -> Path:
    with av.open(str(path), "w") as film:
        stream = film.add_stream(codec, rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
        stream.codec_context.color_range = color_range
        for _ in range(4):
            gray = av.VideoFrame.from_ndarray(np.full((48, 64), value, np.uint8), format="gray")
            picture = gray.reformat(format=pix_fmt, src_color_range="JPEG",
                                    dst_color_range="JPEG" if color_range == 2 else "MPEG")
            picture.color_range = color_range
            film.mux(stream.encode(picture))
        film.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("name", "pix_fmt", "codec", "color_range"), [
    ("limited.mkv", "yuv420p", "libx264", 1), ("full.mkv", "yuv420p", "libx264", 2),
    ("deep.mkv", "yuv420p10le", "libx264", 1), ("rgb.mkv", "bgr0", "ffv1", 2), ("gray.mkv", "gray", "ffv1", 2),
    ("deep_full.mkv", "yuv420p10le", "libx264", 2), ("full444.mkv", "yuv444p", "libx264", 2),
])
def test_every_range_and_depth_ends_as_limited_range_8_bit(name, pix_fmt, codec, color_range, tmp_path):
    [row] = encode(make_job(flat_film(tmp_path / name, 180, pix_fmt, codec, color_range), [(0, 4)]), tmp_path / "store")
    picture = decode(clip_path(row, tmp_path / "store"))[1]
    assert (picture.format.name, picture.color_range) == ("yuv420p", 1)
    assert abs(float(luma_plane(picture).mean()) - (16 + 180 * 219 / 255)) < 1.5
    planes = [np.frombuffer(memoryview(plane), np.uint8) for plane in picture.planes[1:]]
    assert all(abs(float(plane.reshape(24, -1)[:, :32].mean()) - 128) < 1.5 for plane in planes)


def test_deinterlacing_removes_combs_and_keeps_every_frame(tmp_path):
    path = tmp_path / "film.mkv"
    with av.open(str(path), "w") as film:
        stream = film.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for number in range(12):                     # a bar moving 8 pixels a field: combed where fields differ
            picture = np.full((96, 160), 40, np.uint8)
            for field in (0, 1):
                left = 8 + 10 * number + 5 * field
                picture[field::2, left:left + 24] = 220
            yuv = av.VideoFrame.from_ndarray(picture, format="gray").reformat(
                format="yuv420p", src_color_range="MPEG", dst_color_range="MPEG")
            film.mux(stream.encode(yuv))
        film.mux(stream.encode(None))

    def comb(deinterlace: bool) -> float:
        [row] = encode(make_job(path, [(1, 11)], deinterlace=deinterlace), tmp_path / "store")
        lumas = [np.asarray(luma_plane(picture), np.int64) for picture in decode(clip_path(row, tmp_path / "store"))]
        assert len(lumas) == 10
        return float(np.mean([np.abs(luma[1:-1] * 2 - luma[:-2] - luma[2:]).mean() for luma in lumas]))
    assert comb(True) < 0.25 * comb(False)


def test_sketches_have_one_picture_per_frame_and_the_same_bytes_in_every_run(tmp_path):
    job = make_job(write_film(tmp_path / "film.mkv", 20), [(4, 12)])
    found = []
    for root in ("a", "b"):
        [row] = encode(job, tmp_path / root, sketch=SketchName.OPENCV)
        folder = clip_path(row, tmp_path / root).parent
        found.append((folder / "sketch.npz").read_bytes())
        with np.load(folder / "sketch.npz") as arrays:
            sketch = arrays["sketch"]
        assert sketch.dtype == np.uint8 and sketch.shape == (8, HEIGHT, WIDTH)
        assert sketch.min() < 128 < sketch.max()     # lines on paper
    assert found[0] == found[1]


def test_a_picture_too_small_for_video_fails_with_a_sentence(tmp_path):
    film = write_film(tmp_path / "film.mkv", 8)
    [row] = encode(make_job(film, [(0, 4)], crop=(0, 0, 1, 1)), tmp_path / "store")
    assert isinstance(row, FailedClip) and "too small" in row.error


def test_numbers_are_wide_enough_for_these_films():
    assert BITS * SQUARE_PX == WIDTH and 2**BITS > 240
