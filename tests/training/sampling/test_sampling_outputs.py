"""Promise: films on disk hold the frames that were drawn, are the same bytes each time and are never half there."""

import av
import numpy as np
import pytest
from PIL import Image
from sampling_jobs import drawing

from training.sampling.config import OutputConfig
from training.sampling.long import join
from training.sampling.outputs import as_gray, contact_sheet, gif_durations_ms, write_film


def make_frames(num_frames=10):
    return np.stack([drawing(seed) for seed in range(num_frames)])


def settings(**changes):
    return OutputConfig(**{"formats": ["mp4", "gif", "png", "sheet"], "fps": 8, "crf": 10, "gray": False, "sheet_columns": 4,
                           "sheet_cell_px": 64} | changes)


def test_all_formats_hold_all_frames(tmp_path):
    frames = make_frames()
    written = write_film(tmp_path, frames, settings())
    assert written == ["video.mp4", "video.gif", *(f"frames/{number:04d}.png" for number in range(1, 11)), "sheet.png"]
    with av.open(str(tmp_path / "video.mp4")) as film:
        assert film.streams.video[0].average_rate == 8
        decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)])
    assert decoded.shape == frames.shape and np.abs(decoded.astype(int) - frames).mean() < 6
    with Image.open(tmp_path / "video.gif") as gif:
        assert (gif.n_frames, gif.info["loop"]) == (10, 0)
        gif.seek(9)
        assert np.abs(np.asarray(gif.convert("RGB")).astype(int) - frames[9]).mean() < 3
    for number, frame in enumerate(frames, 1):
        assert np.array_equal(np.asarray(Image.open(tmp_path / "frames" / f"{number:04d}.png")), frame)
    assert Image.open(tmp_path / "sheet.png").size == (4 * 64, 3 * 32)
    assert not list(tmp_path.rglob(".tmp-*"))


def test_same_frames_give_the_same_bytes(tmp_path):
    names = write_film(tmp_path / "a", make_frames(), settings())
    write_film(tmp_path / "b", make_frames(), settings())
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)


def test_frames_of_an_earlier_longer_film_are_removed_and_nothing_else(tmp_path):
    write_film(tmp_path, make_frames(10), settings())
    (tmp_path / "frames" / "mine.png").touch()
    assert write_film(tmp_path, make_frames(4), settings(formats=["png"])) == [f"frames/{n:04d}.png" for n in range(1, 5)]
    assert sorted(path.name for path in (tmp_path / "frames").iterdir()) == [*(f"{n:04d}.png" for n in range(1, 5)), "mine.png"]
    assert (tmp_path / "video.mp4").exists()


def test_only_wanted_formats_are_written(tmp_path):
    write_film(tmp_path, make_frames(3), settings(formats=["gif"]))
    assert [path.name for path in tmp_path.iterdir()] == ["video.gif"]
    with pytest.raises(ValueError, match=r"output\.formats has avi, which is none of mp4, gif, png, sheet"):
        settings(formats=["avi"])


def test_gif_is_as_long_as_the_film():
    assert set(gif_durations_ms(16, 8)) == {120, 130} and sum(gif_durations_ms(16, 8)) == 2000
    assert sum(gif_durations_ms(24, 24)) == 1000


def test_gray_output_has_no_colour(tmp_path):
    write_film(tmp_path, make_frames(2), settings(formats=["png"], gray=True))
    found = np.asarray(Image.open(tmp_path / "frames" / "0001.png"))
    assert np.array_equal(found[..., 0], found[..., 1]) and np.array_equal(found[..., 0], found[..., 2])
    red = np.zeros((1, 1, 1, 3), np.uint8)
    red[..., 0] = 255
    assert (as_gray(red) == 76).all()       # 0.299 * 255 = 76.2


def test_sheet_reads_like_a_page():
    frames = np.stack([np.full((4, 8, 3), value, np.uint8) for value in (10, 20, 30)])
    sheet = contact_sheet(frames, columns=2, cell_px=100)
    assert [sheet[0, 0, 0], sheet[0, 8, 0], sheet[4, 0, 0], sheet[4, 8, 0]] == [10, 20, 30, 255]


def test_joined_film_has_each_joint_once_from_the_reconstruction():
    clips = [np.full((4, 2, 2, 3), value, np.uint8) for value in (1, 2, 3)]
    joints = [np.full((2, 2, 3), value, np.uint8) for value in (10, 20)]
    assert join(clips, joints)[:, 0, 0, 0].tolist() == [1, 1, 1, 10, 2, 2, 20, 3, 3, 3]
    assert join(clips[:1], [])[:, 0, 0, 0].tolist() == [1] * 4
