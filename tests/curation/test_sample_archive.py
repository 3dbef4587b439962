"""Promise: the sample archive is the same for the same seed, holds every kind of file, and its truth is true."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from curation import sample_archive
from curation.cartoonist.film import Film, Script, draw_film, thin, weave
from curation.cartoonist.shots import FPS, Beat
from curation.sample_archive import LOST, REELS, TAR, ZIP, draw_archive, truth_file
from pipeline.errors import UserError

SIZE = (192, 108)
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Archive:
    folder: Path

    def truth(self, file: str) -> dict[str, Any]:
        return json.loads((self.folder / "truth" / truth_file(file)).read_text())

    def open(self, file: str) -> Any:
        pack, _, member = file.partition("!/")
        path = self.folder / "films" / pack
        if pack == ZIP:
            with zipfile.ZipFile(path) as packed:
                return av.open(io.BytesIO(packed.read(member)))
        if pack == TAR:
            with tarfile.open(path) as box:
                stream = box.extractfile(member)
                assert stream is not None
                return av.open(io.BytesIO(stream.read()))
        return av.open(str(path))

    def pictures(self, file: str) -> list[np.ndarray]:
        """Decoded RGB pictures, up to the first error."""
        if (self.folder / "films" / file).is_dir():
            paths = sorted((self.folder / "films" / file).iterdir())
            return [cv2.imread(str(path))[..., ::-1] for path in paths]
        found = []
        try:
            with self.open(file) as container:
                for frame in container.decode(video=0):
                    found.append(frame.to_ndarray(format="rgb24"))
        except av.FFmpegError:
            pass
        return found


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    folder = tmp_path_factory.mktemp("sample") / "archive"
    films = draw_archive(folder, seed=0, size="x".join(map(str, SIZE)))
    assert films == folder / "films"
    return Archive(folder)


def film_of(*beats: Beat, seed: int = 0, **script: Any) -> Film:
    return draw_film(Script("A Test", "tests", beats, **script), seed=seed, size=SIZE)


def changes(pictures: list[np.ndarray]) -> np.ndarray:
    return np.array([0.0, *(float(cv2.absdiff(a, b).mean()) for a, b in pairwise(pictures))])


# The same seed, the same bytes

_WRITE_ALL = """
import hashlib, sys
from pathlib import Path
from curation.cartoonist.film import Script, draw_film
from curation.cartoonist.reels import h264, h264_10bit, mpeg2_interlaced, vp9, write_video
from curation.cartoonist.shots import Beat
beats = (Beat("walk", 1.0, camera="pan"), Beat("ball", 1.0), Beat("talk", 1.0, join="dissolve"))
film = draw_film(Script("A Test", "tests", beats), seed=3, size=(360, 270))
for coding, end in ((h264(22), "mp4"), (h264(22), "mkv"), (h264_10bit(22), "mkv"), (vp9(34), "webm"),
                    (mpeg2_interlaced(4), "mkv")):
    path = Path(sys.argv[1]) / ("film." + end)
    write_video(path, film.frames, 24, coding)
    print(coding.encoder, end, hashlib.sha256(path.read_bytes()).hexdigest())
"""


def test_same_seed_gives_same_bytes_whatever_was_in_memory_before(tmp_path: Path) -> None:
    """MALLOC_PERTURB_ fills fresh memory, so that an encoder that reads what it never wrote is found out."""
    outputs = [subprocess.run([sys.executable, "-c", _WRITE_ALL, str(tmp_path)], cwd=ROOT, check=True, text=True,
                              capture_output=True, env={**os.environ, "MALLOC_PERTURB_": fill}).stdout
               for fill in ("17", "170")]
    assert outputs[0].count("\n") == 5
    assert outputs[0] == outputs[1]


def test_another_seed_gives_another_film() -> None:
    beats = (Beat("walk", 1.0), Beat("talk", 1.0), Beat("dance", 1.0))
    first, same, other = (film_of(*beats, seed=seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first.frames, same.frames, strict=True))
    assert first.shots == same.shots
    assert [(row["kind"], row["end"]) for row in first.shots] != [(row["kind"], row["end"]) for row in other.shots]
    assert cv2.absdiff(first.frames[10], other.frames[10]).mean() > 10


def test_a_complete_archive_is_not_drawn_again(archive: Archive) -> None:
    stamp = archive.folder / "archive.json"
    before = stamp.stat().st_ino
    draw_archive(archive.folder, seed=0, size="192x108")
    assert stamp.stat().st_ino == before


def test_an_archive_of_another_seed_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_archive, "REELS", tuple(reel for reel in REELS if reel.file == "pencil_test"))
    for seed in (1, 2):
        draw_archive(tmp_path / "archive", seed=seed, size="128x72")
        assert json.loads((tmp_path / "archive" / "archive.json").read_text())["seed"] == seed
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


def test_a_drawing_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_archive, "pack_tar", lambda *_: 1 / 0)
    monkeypatch.setattr(sample_archive, "REELS", tuple(reel for reel in REELS if reel.file == "pencil_test"))
    with pytest.raises(ZeroDivisionError):
        draw_archive(tmp_path / "archive", seed=1, size="128x72")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="no sample archive"):
        draw_archive(tmp_path, seed=0)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("size", ["480", "481x270", "32x18"])
def test_a_size_that_cannot_be_drawn_is_refused(tmp_path: Path, size: str) -> None:
    with pytest.raises(UserError, match=r"curation\.sample_archive\.size"):
        draw_archive(tmp_path / "archive", seed=0, size=size)


# Every kind of file

@pytest.mark.parametrize("file", [*(reel.file for reel in REELS), LOST])
def test_every_file_decodes_as_far_as_its_truth_expects(archive: Archive, file: str) -> None:
    truth = archive.truth(file)
    if truth["expect"] == "reject":
        with pytest.raises(av.FFmpegError):
            archive.open(file)
        return
    pictures = archive.pictures(file)
    assert pictures[0].shape == (truth["height"], truth["width"], 3)
    assert len(truth["new_drawing"]) == truth["frames"]
    if truth["expect"] == "partial":
        assert 24 < len(pictures) == truth["decodable_frames"] < truth["frames"]
    else:
        assert len(pictures) == truth["frames"]


def test_containers_and_codecs_are_as_named(archive: Archive) -> None:
    found = {}
    for reel in REELS:
        if reel.coding is not None and reel.treatment != "damaged":
            with archive.open(reel.file) as container:
                stream = container.streams.video[0]
                found[reel.file] = (stream.codec_context.name, stream.codec_context.pix_fmt)
    assert found["harbour_tales_s01e01.mp4"] == ("h264", "yuv420p")
    assert found["moonlit_bakery.webm"][0].endswith("vp9")
    assert found["deep_forest_10bit.mkv"] == ("h264", "yuv420p10le")
    assert found["the_parade_interlaced.mkv"] == ("mpeg2video", "yuv420p")
    pack = zipfile.ZipFile(archive.folder / "films" / ZIP)
    assert {info.compress_type for info in pack.infolist()} == {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}


def test_frames_of_the_variable_rate_file_last_unequally_long(archive: Archive) -> None:
    truth = archive.truth("paper_boats_vfr.mp4")
    with archive.open("paper_boats_vfr.mp4") as container:
        times = [frame.pts * frame.time_base for frame in container.decode(video=0)]
    gaps = {round((b - a) * FPS) for a, b in pairwise(times)}
    assert {1, 2, 3, 12} <= gaps, "ones, twos, threes and holds cut at half a second"
    assert [round((time - times[0]) * FPS) for time in times] == truth["ticks"]


def test_interlaced_frames_are_marked_as_such_in_the_file(archive: Archive) -> None:
    with archive.open("the_parade_interlaced.mkv") as container:
        assert all(frame.interlaced_frame for frame in container.decode(video=0))
    with archive.open("harbour_tales_s01e02.mkv") as container:
        assert not any(frame.interlaced_frame for frame in container.decode(video=0))


def test_a_woven_frame_holds_rows_of_two_instants() -> None:
    fields = film_of(Beat("walk", 1.5, camera="pan"), instants=2)
    woven = weave(fields)
    moved = 0
    for frame, first, second in zip(woven.frames, fields.frames[::2], fields.frames[1::2], strict=True):
        assert np.array_equal(frame[::2], first[::2])
        assert np.array_equal(frame[1::2], second[1::2])
        moved += cv2.absdiff(first, second).mean() > 1
    assert moved > 0.5 * len(woven.frames)


def test_one_film_is_there_twice_at_two_sizes(archive: Archive) -> None:
    small, large = archive.truth("moonlit_bakery_small.mp4"), archive.truth("moonlit_bakery.webm")
    assert small["near_duplicates"] == ["moonlit_bakery.webm"]
    assert large["near_duplicates"] == ["moonlit_bakery_small.mp4"]
    assert (small["width"], small["height"], small["hard_cuts"]) == (128, 72, large["hard_cuts"])


# Truth

def test_episodes_begin_with_the_same_pictures(archive: Archive) -> None:
    (repeat,) = archive.truth("harbour_tales_s01e02.mkv")["repeats"]
    first, second = (archive.pictures(file) for file in (repeat["of"], "harbour_tales_s01e02.mkv"))
    assert repeat["end"] > 2 * FPS
    differences = [cv2.absdiff(first[k], second[k]).mean() for k in range(repeat["start"], repeat["end"] + 1)]
    assert max(differences) < 8            # two encoders apart, and other shots are some 50 levels apart


def test_new_drawing_is_exactly_where_pictures_change(archive: Archive) -> None:
    pictures = archive.pictures("pencil_test")
    expected = [1, *(int(not np.array_equal(a, b)) for a, b in pairwise(pictures))]
    assert archive.truth("pencil_test")["new_drawing"] == expected
    assert 0 < sum(expected) < len(expected)


@pytest.mark.parametrize(("step", "stay"), [("ones", 1), ("twos", 2), ("threes", 3)])
def test_drawings_stay_as_long_as_the_script_says(step: str, stay: int) -> None:
    film = film_of(Beat("dance", 1.5, step=step))
    before_fade = film.gradual[-1]["start"]
    assert film.shots[0]["cadence"] == step
    assert film.new_drawing[:before_fade] == [int(frame % stay == 0) for frame in range(before_fade)]


def test_nothing_moves_for_three_seconds_in_a_static_shot(archive: Archive) -> None:
    truth = archive.truth(f"{ZIP}!/reels/biscuit_and_ball.mkv")
    (still,) = [row for row in truth["shots"] if row["static"]]
    fades = {k for row in truth["gradual"] for k in range(row["start"], row["end"] + 2)}
    held = [truth["new_drawing"][k] for k in range(still["start"] + 1, still["end"] + 1) if k not in fades]
    assert len(held) >= 2 * FPS
    assert not any(held)
    assert still["motion"] == "static"


@pytest.mark.parametrize("reel", REELS, ids=lambda reel: reel.file)
def test_shots_cover_the_film_and_begin_at_its_cuts(archive: Archive, reel: Any) -> None:
    truth = archive.truth(reel.file)
    shots = truth["shots"]
    assert shots[0]["start"] == 0
    assert shots[-1]["end"] == truth["frames"] - 1
    assert all(after["start"] == before["end"] + 1 for before, after in pairwise(shots))
    assert set(truth["hard_cuts"]) <= {row["start"] for row in shots[1:]}
    assert len(shots) == len(reel.script.beats)


@pytest.mark.parametrize("file", [reel.file for reel in REELS])
def test_hard_cuts_change_the_picture_more_than_motion_does(archive: Archive, file: str) -> None:
    truth, moved = archive.truth(file), changes(archive.pictures(file))
    special = {k for row in truth["gradual"] + truth["flashes"] for k in range(row["start"], row["end"] + 2)}
    cuts = [k for k in truth["hard_cuts"] if k < len(moved)]
    inside = [moved[k] for k in range(1, len(moved)) if k not in special and k not in cuts]
    assert cuts
    assert np.mean(moved[cuts]) > 2 * np.mean(inside)


def test_flashes_are_white_and_fades_reach_black() -> None:
    film = film_of(Beat("ball", 3.0, join="fade", num_flashes=1), Beat("walk", 1.5, join="fade"))
    (flash,) = film.flashes
    assert all(film.frames[k].min() > 240 for k in range(flash["start"], flash["end"] + 1))
    assert film.frames[flash["start"] - 1].min() < 100
    assert film.frames[flash["end"] + 1].min() < 100
    assert [row["type"] for row in film.gradual] == ["fade_in", "fade_out", "fade_in", "fade_out"]
    assert film.hard_cuts == []
    for row in film.gradual:
        black = row["start"] if row["type"] == "fade_in" else row["end"]
        assert film.frames[black].max() == 0


def test_dissolves_and_wipes_lie_between_both_shots() -> None:
    film = film_of(Beat("talk", 1.5), Beat("talk", 1.5, join="dissolve"), Beat("talk", 1.5, join="wipe"))
    dissolve, wipe = film.gradual[:2]
    assert (dissolve["type"], wipe["type"], film.hard_cuts) == ("dissolve", "wipe", [])
    old, new = film.frames[dissolve["start"] - 1], film.frames[dissolve["end"] + 1]
    middle = film.frames[(dissolve["start"] + dissolve["end"]) // 2]
    assert cv2.absdiff(middle, old).mean() < cv2.absdiff(new, old).mean()
    assert cv2.absdiff(middle, new).mean() < cv2.absdiff(new, old).mean()
    wiped = film.frames[(wipe["start"] + wipe["end"]) // 2]
    assert np.array_equal(wiped[:, -8:], film.frames[wipe["start"] - 1][:, -8:])


@pytest.mark.parametrize("bars", ["letterbox", "pillarbox"])
def test_bars_are_black_and_the_content_is_not(bars: str) -> None:
    film = film_of(Beat("static", 1.5), bars=bars)
    x, y, width, height = film.bars
    picture = film.frames[3].copy()
    assert picture.shape == (SIZE[1], SIZE[0], 3)
    content = picture[y:y + height, x:x + width]
    assert all(edge.mean() > 15 for edge in (content[0], content[-1], content[:, 0], content[:, -1]))
    picture[y:y + height, x:x + width] = 0
    assert picture.max() == 0
    # 4:3 in 16:9 fills three quarters; 2.2:1 fills (16/9) / 2.2 = 81 %. Sides are rounded to four pixels.
    share = width * height / (SIZE[0] * SIZE[1])
    assert abs(share - (0.75 if bars == "pillarbox" else 0.808)) < 0.03


def test_writing_is_labelled_by_how_much_it_covers() -> None:
    film = film_of(Beat("title", 1.0), Beat("talk", 1.5, has_subtitles=True), Beat("talk", 1.5))
    heavy, *rest = film.shots
    labels = {row["text"]: row["text_share"] for row in rest}
    assert heavy["text"] == "heavy"
    assert heavy["text_share"] > 0.12
    assert 0.04 < labels["some"] < 0.10
    assert labels["none"] == 0


def test_truth_follows_thinned_and_woven_films() -> None:
    film = film_of(Beat("dance", 1.5, step="threes"), Beat("walk", 1.5, step="threes"))
    (cut,) = film.hard_cuts
    thinned, kept = thin(film)
    assert kept[thinned.hard_cuts[0]] == cut
    assert len(thinned.frames) < 0.6 * len(film.frames)
    fields = film_of(Beat("dance", 1.5), Beat("walk", 1.5), instants=2)
    woven = weave(fields)
    assert 2 * len(woven.frames) == len(fields.frames)
    assert [2 * cut for cut in woven.hard_cuts] == fields.hard_cuts


def test_the_archive_has_many_titles_and_every_label(archive: Archive) -> None:
    truths = [archive.truth(reel.file) for reel in REELS]
    shots = [row for truth in truths for row in truth["shots"]]
    assert len({truth["title"] for truth in truths}) >= 6
    assert {row["cadence"] for row in shots} == {"ones", "twos", "threes", "mixed", "hold"}
    assert {row["camera"] for row in shots} == {"none", "pan", "zoom", "parallax"}
    assert {row["text"] for row in shots} == {"none", "some", "heavy"}
    assert {"walk", "talk", "ball", "still_pan", "title", "credits", "static"} <= {row["kind"] for row in shots}
    assert {row["type"] for truth in truths for row in truth["gradual"]} == {"fade_in", "fade_out", "dissolve", "wipe"}
    assert sum(truth["frames"] for truth in truths) > 2500
