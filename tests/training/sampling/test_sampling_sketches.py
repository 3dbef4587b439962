"""Promise: a sketch reaches exactly the frame it is named for, as strokes 1 on 0, and the others are blank."""

import numpy as np
import pytest
from PIL import Image
from sampling_jobs import save_sketch

from pipeline.errors import UserError
from training.sampling.config import LineColour, Pad
from training.sampling.sketches import hints, numbered_files, read_sketches

SIZE = {"width": 128, "height": 64, "pad": Pad.BLACK}


def read(*, folder=None, sheet=None, wanted=(), num_frames=8, lines=LineColour.DARK):
    return read_sketches(folder=folder, sheet=sheet, wanted=wanted, num_frames=num_frames, lines=lines)


def test_files_go_to_the_frame_in_their_name(tmp_path):
    save_sketch(tmp_path / "scene2_003.png", column=10)
    save_sketch(tmp_path / "8.png", column=90)
    shown, guided = hints(read(folder=tmp_path), range(1, 9), invert=False, **SIZE)
    assert guided.tolist() == [False, False, True, False, False, False, False, True]
    assert shown.shape == (1, 8, 64, 128) and shown[0, 2, :, 10:14].min() == 1 and shown[0, 2].sum() == 64 * 4
    assert shown[0, 7, :, 90:94].min() == 1 and not shown[0, [0, 1, 3, 4, 5, 6]].any()


def test_a_clip_of_a_long_film_sees_its_own_frames_and_shares_the_joint(tmp_path):
    save_sketch(tmp_path / "8.png")
    strokes = read(folder=tmp_path, num_frames=15)
    assert np.flatnonzero(hints(strokes, range(1, 9), invert=False, **SIZE)[1]).tolist() == [7]
    assert np.flatnonzero(hints(strokes, range(8, 16), invert=False, **SIZE)[1]).tolist() == [0]


def test_light_lines_on_dark_paper_are_the_same_sketch(tmp_path):
    save_sketch(tmp_path / "dark" / "1.png")
    save_sketch(tmp_path / "light" / "1.png", background=0)
    dark, light = read(folder=tmp_path / "dark"), read(folder=tmp_path / "light", lines=LineColour.LIGHT)
    assert np.array_equal(dark[1], light[1])


def test_invert_shows_paper_1_also_for_blank_frames(tmp_path):
    save_sketch(tmp_path / "2.png", column=10)
    strokes = read(folder=tmp_path)
    plain, inverted = (hints(strokes, range(1, 9), invert=invert, **SIZE)[0] for invert in (False, True))
    assert np.array_equal(inverted, 1 - plain) and inverted[0, 0].min() == 1


def test_sheet_is_cut_into_a_row_and_empty_cells_guide_nothing(tmp_path):
    cells = []
    for index in range(8):
        path = save_sketch(tmp_path / "cell.png", column=None if index in (3, 5) else 10 * index, width=96, height=64)
        cells.append(np.asarray(Image.open(path)))
    Image.fromarray(np.concatenate(cells, axis=1)).save(tmp_path / "sheet.png")
    found = read(sheet=tmp_path / "sheet.png")
    assert sorted(found) == [1, 2, 3, 5, 7, 8]
    assert found[3].shape == (64, 96, 1) and found[3][:, 20:24].min() == 255
    assert sorted(read(sheet=tmp_path / "sheet.png", wanted=[2, 11], num_frames=16)) == [2, 11]


@pytest.mark.parametrize(("names", "sentence"), [
    (["9.png"], r"9\.png is for frame 9: the film has frames 1 to 8"), (["0.png"], "is for frame 0"),
    (["walk.png"], "has no frame number in its name"), (["a_2.png", "b_02.png"], "are both for frame 2")])
def test_files_that_belong_to_no_frame_are_named(tmp_path, names, sentence):
    for name in names:
        save_sketch(tmp_path / name)
    with pytest.raises(UserError, match=sentence):
        numbered_files(tmp_path, 8)


@pytest.mark.parametrize(("wanted", "sentence"), [
    ([1, 9], "sketch.sheet_frames is for frame 9"), ([2, 2], "names a frame twice"),
    ([1, 2, 3], "128 pixels are no 3 equal cells")])
def test_sheets_that_cannot_be_cut_are_named(tmp_path, wanted, sentence):
    with pytest.raises(UserError, match=sentence):
        read(sheet=save_sketch(tmp_path / "sheet.png"), wanted=wanted)


def test_paper_beside_a_narrow_sketch_is_empty(tmp_path):
    save_sketch(tmp_path / "1.png", width=64, height=64, column=10)
    shown, _ = hints(read(folder=tmp_path), range(1, 9), invert=False, **SIZE)
    assert not shown[0, 0, :, :32].any() and not shown[0, 0, :, 96:].any() and shown[0, 0, :, 42:46].min() == 1
