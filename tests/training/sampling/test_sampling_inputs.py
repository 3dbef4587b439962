"""Promise: any picture becomes a frame by the public crop rule, or its mistake is named in one sentence."""

import numpy as np
import pytest
import torch
from PIL import Image
from sampling_jobs import drawing, save_drawing
from torchvision import transforms

from pipeline.errors import UserError
from training.sampling.config import Pad
from training.sampling.inputs import check_picture, fit, list_pictures, read_picture


@pytest.mark.parametrize(("width", "height"), [(200, 100), (97, 131), (64, 64), (300, 70), (131, 75), (128, 64)])
def test_black_pad_is_torchvisions_resize_and_centre_crop(width, height):
    pixels = drawing(1, width=width, height=height)
    reference = transforms.Compose([transforms.Resize(64), transforms.CenterCrop((64, 128))])     # as the public command line
    assert np.array_equal(fit(pixels, width=128, height=64, pad=Pad.BLACK), np.asarray(reference(Image.fromarray(pixels))))


def test_narrow_picture_has_black_or_its_mirror_image_beside_it_or_is_enlarged():
    pixels = drawing(2, width=64, height=64)
    black, mirrored, covered = (fit(pixels, width=128, height=64, pad=pad) for pad in (Pad.BLACK, Pad.REFLECT, Pad.NONE))
    assert not black[:, :32].any() and not black[:, 96:].any()
    assert np.array_equal(black[:, 32:96], pixels) and np.array_equal(mirrored[:, 32:96], pixels)
    assert np.array_equal(mirrored[:, 31], pixels[:, 1]) and np.array_equal(mirrored[:, 96], pixels[:, -2])
    enlarged = Image.fromarray(pixels).resize((128, 128), Image.Resampling.BILINEAR)
    assert np.array_equal(covered, np.asarray(enlarged)[32:96])


def test_mirror_reaches_over_a_very_narrow_picture():
    assert fit(drawing(3, width=40, height=200), width=512, height=64, pad=Pad.REFLECT).shape == (64, 512, 3)


def test_transparent_paper_is_white(tmp_path):
    pixels = np.zeros((40, 40, 4), np.uint8)
    pixels[10:20] = (255, 0, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = read_picture(tmp_path / "a.png", "first")
    assert (found[0] == 255).all() and (found[15] == (255, 0, 0)).all()


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path):
    Image.fromarray(np.full((40, 40), 32768, np.uint16)).save(tmp_path / "a.png")
    assert (read_picture(tmp_path / "a.png", "first") == 128).all()


def test_folder_is_read_in_the_order_of_its_numbers(tmp_path):
    for name in ("b10.png", "b9.png", "a.JPG", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in list_pictures(tmp_path, "keys")] == ["a.JPG", "b9.png", "b10.png"]


def test_mistakes_are_named(tmp_path):
    save_drawing(tmp_path / "first.png")
    save_drawing(tmp_path / "small.png", width=200, height=20)
    (tmp_path / "text.png").write_text("no picture")
    whole = (tmp_path / "first.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[:len(whole) // 2])
    for name, sentence in [("fist.png", r"first=.*fist\.png does not exist\. Did you mean .*first\.png\?"),
                           ("small.png", "is too small: it has 200x20 pixels and 32 are the least"),
                           ("text.png", "cannot be read: it is no picture"), ("cut.png", "cannot be read")]:
        with pytest.raises(UserError, match=sentence) as caught:
            read_picture(tmp_path / name, "first")
        assert "\n" not in str(caught.value)
    check_picture(tmp_path / "cut.png", "first")        # its head is whole: only reading tells
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no pictures"):
        list_pictures(tmp_path / "empty", "keys")


def test_a_frame_of_the_right_size_is_not_touched():
    pixels = drawing(4)
    assert torch.equal(torch.from_numpy(fit(pixels, width=128, height=64, pad=Pad.BLACK)), torch.from_numpy(pixels))
