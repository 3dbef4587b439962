"""Promise: one decode of a film leaves everything later stages need, the same bytes each time, whatever the film is like."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_films import FPS, HEIGHT, WIDTH, acted, defaults, painting, source_of, still, survey_file, survey_stage, write_film

from curation import survey as survey_module
from curation.clips import understand
from curation.ledger import Status
from curation.survey import load_looks
from pipeline.store import Store


def bytes_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def cut_short(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[:round(share * len(data))])
    return path


def test_survey_is_one_artifact_and_its_record_says_what_was_found(tmp_path: Path) -> None:
    record, survey = survey_file(write_film(tmp_path / "film.mkv", acted(1, 48)))
    assert (record.status, record.error, record.note, record.num_frames, record.decode_errors) == (Status.OK, "", "", 48, 0)
    assert record.probe is not None and (record.probe.width, record.probe.height) == (WIDTH, HEIGHT)
    assert record.cpu_s > 0
    folder = Store(tmp_path / "store").path("survey", record.survey_key)
    assert {path.name for path in folder.iterdir()} == {"signals.parquet", "looks.bin", "survey.json", "step.json"}
    assert not list((tmp_path / "store" / ".tmp").iterdir())
    assert survey.num_frames == 48
    assert {len(values) for values in survey.signals.values()} == {48}
    assert len(survey.thumbs.luma) == 48
    assert survey.content_box == (0, 0, WIDTH, HEIGHT)


def test_survey_gives_the_same_bytes_each_time(tmp_path: Path) -> None:
    source = source_of(write_film(tmp_path / "film.mkv", acted(1, 30) + acted(2, 30)))
    for name in ("one", "two"):
        survey_stage(tmp_path / name)([source])
    one, two = bytes_below(tmp_path / "one"), bytes_below(tmp_path / "two")
    assert one == two and len(one) == 4


def test_film_that_was_surveyed_is_not_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_of(write_film(tmp_path / "film.mkv", acted(1, 12)))
    [[first]] = survey_stage(tmp_path / "store")([source])
    monkeypatch.setattr(survey_module, "FilmReader", None)           # whoever opens a film now fails
    [[again]] = survey_stage(tmp_path / "store")([replace(source, name="renamed.mkv")])
    assert again == replace(first, name="renamed.mkv", cpu_s=0.0)


def test_key_changes_with_what_changes_the_survey_and_with_nothing_else(tmp_path: Path) -> None:
    source = source_of(write_film(tmp_path / "film.mkv", acted(1, 2)))
    stage = survey_stage(tmp_path)
    key = stage.key(source)
    assert stage.key(replace(source, name="other", access=replace(source.access, path="elsewhere"))) == key
    assert stage.key(replace(source, sha256="0" * 64)) != key
    stage.config = replace(stage.config, look_every_s=2.0)
    assert stage.key(source) != key
    stage = survey_stage(tmp_path)
    stage.sources = replace(stage.sources, picture_fps=12.0)         # matters for folders of pictures only
    assert stage.key(source) == key
    pictures = replace(source, access=replace(source.access, pictures=("a.png", "b.png")))
    assert stage.key(pictures) != survey_stage(tmp_path).key(pictures)


def test_truncated_film_is_used_as_far_as_it_goes_and_noted(tmp_path: Path) -> None:
    record, survey = survey_file(cut_short(write_film(tmp_path / "film.mkv", acted(1, 96)), 0.5))
    assert record.status is Status.OK
    assert 10 < record.num_frames == survey.num_frames < 90
    assert record.note


def test_broken_bytes_within_a_film_are_noted_and_the_rest_is_used(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.mkv", acted(1, 96))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle:middle + 600] = bytes(600)
    path.write_bytes(data)
    record, survey = survey_file(path)
    assert record.status is Status.OK
    assert record.note or survey.is_damaged.any()


@pytest.mark.parametrize("content", [b"", b"This reel was lost in the move of 1987.\n" * 40, b"\x00" * 5000])
def test_what_is_no_film_is_quarantined_with_a_reason_and_leaves_nothing(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(content)
    [[record]] = survey_stage(tmp_path / "store")([source_of(path)])
    assert (record.status, record.sha256, record.survey_key) == (Status.QUARANTINED, source_of(path).sha256, "")
    assert record.error and "\n" not in record.error
    assert bytes_below(tmp_path / "store") == {}


def test_film_in_10_bit_is_surveyed_like_the_same_film_in_8(tmp_path: Path) -> None:
    frames = acted(1, 36) + acted(2, 36)
    films = []
    for name, pix_fmt in (("deep", "yuv420p10le"), ("plain", "yuv420p")):
        (tmp_path / name).mkdir()
        record, survey = survey_file(write_film(tmp_path / name / "film.mkv", frames, codec="ffv1", pix_fmt=pix_fmt))
        assert record.probe is not None and record.probe.bit_depth == (10 if name == "deep" else 8)
        films.append(understand(survey, defaults().curation.shots, 0))
    deep, plain = films
    np.testing.assert_array_equal(deep.new, plain.new)
    assert deep.shots == plain.shots
    for name in ("luma_mean", "change_mean", "change_peak"):
        np.testing.assert_allclose(deep.survey.signals[name], plain.survey.signals[name], atol=1.0)


@pytest.mark.parametrize("first", [0, 417])
def test_time_stamps_of_variable_frame_rate_are_exact(first: int, tmp_path: Path) -> None:
    steps = np.resize([40, 41, 80, 167, 33, 42], 40)
    pts = first + np.append(0, np.cumsum(steps[:-1]))
    path = write_film(tmp_path / "film.mp4", acted(1, 40, hold=1), pts=pts.tolist(), time_base=Fraction(1, 1000))
    record, survey = survey_file(path)
    assert record.probe is not None
    ticks = Fraction(1, 1000) / record.probe.time_base               # the muxer may have chosen finer ones
    assert survey.pts.tolist() == [int(value * ticks) for value in pts]
    assert survey.end_pts > survey.pts[-1]
    assert not survey.pts_repaired


def test_last_frame_ends_as_long_after_its_start_as_the_others(tmp_path: Path) -> None:
    record, survey = survey_file(write_film(tmp_path / "film.mp4", acted(1, 24)))
    assert record.probe is not None
    assert float((survey.end_pts - survey.pts[0]) * record.probe.time_base) == pytest.approx(24 / FPS, abs=1e-3)


def test_looks_are_taken_at_the_start_once_a_second_and_after_cuts(tmp_path: Path) -> None:
    _, survey = survey_file(write_film(tmp_path / "film.mkv", acted(1, 30) + acted(2, 82)))
    frames = [look.frame_index for look in survey.looks]
    assert frames[0] == 0
    assert max(after - before for before, after in pairwise([*frames, 112])) <= FPS + 1
    assert any(30 <= frame <= 36 for frame in frames)                # soon after the cut, and not of the old scene
    assert len(frames) <= 112 / FPS + 2


def test_looks_show_the_frames_they_are_named_after(tmp_path: Path) -> None:
    frames = acted(1, 30) + acted(2, 30)
    record, survey = survey_file(write_film(tmp_path / "film.mkv", frames))
    store = Store(tmp_path / "store")
    looks = load_looks(store, record.survey_key)
    assert [look.frame_index for look in looks] == [look.frame_index for look in survey.looks]
    for look in looks:
        picture = look.picture()
        assert picture.shape == (HEIGHT, WIDTH, 3)                   # smaller than looks may be: not enlarged
        assert np.abs(picture[..., ::-1].astype(int) - frames[look.frame_index]).mean() < 8
        assert look.pts == survey.pts[look.frame_index]
    assert [look.frame_index for look in load_looks(store, record.survey_key, 24, 40)] == [
        look.frame_index for look in looks if 24 <= look.frame_index < 40]


def test_looks_are_upright_small_and_without_bars(tmp_path: Path) -> None:
    """A pillarboxed 1280x720 film, its content 960 wide: the look is scaled to 512 and cut to 384x288."""
    wide = cv2.resize(painting(3), (960, 720))
    framed = np.zeros((720, 1280, 3), np.uint8)
    framed[:, 160:1120] = wide
    record, survey = survey_file(write_film(tmp_path / "film.mkv", [framed] * 3))
    x, y, width, height = survey.content_box
    assert (y, height) == (0, 720) and abs(x - 160) <= 2 and abs(x + width - 1120) <= 2
    [look] = load_looks(Store(tmp_path / "store"), record.survey_key)
    height_px, width_px, _ = look.picture().shape
    assert height_px == 288 and abs(width_px - 384) <= 4
    assert look.picture().mean(axis=(0, 2)).min() > 20


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_looks_at_a_turned_film_are_upright_and_lose_their_bar(turn: int, tmp_path: Path) -> None:
    """The left quarter is black as stored; shown a quarter turn counter-clockwise, it is the bottom quarter, and so on."""
    stored = painting(4)
    stored[:, :WIDTH // 4] = 0
    path = write_film(tmp_path / "film.mp4", [stored] * 3, rotation_deg=90.0 * turn)
    record, _ = survey_file(path)
    [look] = load_looks(Store(tmp_path / "store"), record.survey_key)
    shown = np.rot90(stored[:, WIDTH // 4:], turn)
    picture = look.picture()[..., ::-1].astype(int)
    assert all(abs(found - drawn) <= 3 for found, drawn in zip(picture.shape, shown.shape, strict=True))
    scaled = cv2.resize(picture.astype(np.uint8), shown.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    assert np.abs(scaled.astype(int) - shown).mean() < 15            # turned otherwise: 50 and more


def test_bars_that_only_one_scene_has_are_kept(tmp_path: Path) -> None:
    boxed = []
    for picture in still(1, 30):
        boxed.append(np.zeros_like(picture))
        boxed[-1][20:-20] = picture[20:-20]
    _, survey = survey_file(write_film(tmp_path / "film.mkv", boxed + still(2, 30)))
    assert survey.content_box == (0, 0, WIDTH, HEIGHT)
