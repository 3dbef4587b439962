"""Promise: the OpenCLIP towers are the public ones in size and names, stop where the video model wants, and stay frozen."""

import json
import os
from pathlib import Path

import pytest
import torch

from training.models.clip_encoders import OpenClipImage, OpenClipText, tokenize
from training.models.clip_preprocess import CLIP_MEAN, CLIP_STD, preprocess, resize_antialiased

SPEC_DIR = Path(os.environ.get("SPEC_DIR", Path(__file__).parents[4] / "shared" / "spec"))
START, END = 49406, 49407


def make_text(seed=0, layers=2):
    torch.manual_seed(seed)
    return OpenClipText(width=32, heads=4, layers=layers, embed_dim=32).eval()


def make_image(seed=0):
    torch.manual_seed(seed)
    return OpenClipImage(image_size=56, layers=2, width=32, head_width=8, patch_size=14, embed_dim=32, vocab_size=64,
                         text_width=32).eval()


@pytest.mark.parametrize(("build", "listing", "count"), [
    (OpenClipText, "cond_stage_openclip_text", 354_032_641),
    (OpenClipImage, "embedder_openclip_image", 683_800_065)])
def test_full_size_has_the_public_tensors_and_parameter_count(build, listing, count):
    with torch.device("meta"):
        module = build()
    assert sum(parameter.numel() for parameter in module.parameters()) == count
    assert not any(parameter.requires_grad for parameter in module.parameters())
    path = SPEC_DIR / "state_dict" / f"{listing}.json"
    if not path.exists():
        pytest.skip("no list of public tensors: set SPEC_DIR to the folder that holds state_dict/")
    expected = {name: tuple(entry["shape"]) for name, entry in json.loads(path.read_text()).items()}
    assert {name: tuple(values.shape) for name, values in module.state_dict().items()} == expected


def test_captions_are_padded_with_zeros_and_cut_before_an_end_token():
    short, empty, long = tokenize(["a cat", "", "cat " * 200])
    assert short[0] == START and short[3] == END and not short[4:].any()
    assert empty.tolist() == [START, END] + [0] * 75
    assert len(long) == 77 and long[-1] == END and END not in long[:-1]


def test_captions_are_case_blind_and_may_be_any_sequence():
    assert torch.equal(tokenize(("A  Cat",)), tokenize(["a cat"]))


def test_text_features_stop_one_block_early():
    module = make_text(layers=3)
    before = module(["walking man"])
    torch.nn.init.zeros_(module.model.transformer.resblocks[-1].mlp.c_proj.weight)
    assert torch.equal(module(["walking man"]), before)
    torch.nn.init.zeros_(module.model.transformer.resblocks[-2].mlp.c_proj.weight)
    assert not torch.equal(module(["walking man"]), before)


def test_a_word_sees_no_later_word():
    module = make_text()
    one, other = tokenize(["a cat runs"]), tokenize(["a cat sleeps"])
    found, changed = module.encode_tokens(one), module.encode_tokens(other)
    torch.testing.assert_close(found[:, :3], changed[:, :3])
    assert not torch.allclose(found[:, 3], changed[:, 3])


def test_towers_made_without_memory_work_once_weights_are_loaded():
    expected = make_text()
    with torch.device("meta"):
        module = OpenClipText(width=32, heads=4, layers=2, embed_dim=32)
    module.load_state_dict(expected.state_dict(), assign=True)
    module.to("cpu")        # fails where any tensor was left without memory
    assert torch.equal(module.eval()(["a cat"]), expected(["a cat"]))


def test_image_tokens_have_no_final_norm_and_no_projection():
    module, image = make_image(), torch.rand(1, 3, 40, 70) * 2 - 1
    before = module(image)
    assert before.shape == (1, 1 + 16, 32)
    torch.nn.init.constant_(module.model.visual.ln_post.weight, 5)
    torch.nn.init.zeros_(module.model.visual.proj)
    assert torch.equal(module(image), before)


def test_a_flat_picture_stays_flat_and_is_normalised():
    found = preprocess(torch.full((1, 3, 320, 512), 0.5))
    expected = (0.75 - torch.tensor(CLIP_MEAN)) / torch.tensor(CLIP_STD)
    torch.testing.assert_close(found, expected.view(1, 3, 1, 1).expand(1, 3, 224, 224))


def test_corners_stay_when_the_picture_is_enlarged():
    image = torch.rand(1, 3, 10, 12)
    resized = resize_antialiased(image, 24)
    torch.testing.assert_close(resized[..., ::23, ::23], image[..., ::9, ::11])


def test_only_an_axis_that_shrinks_is_blurred():
    stripes = (torch.arange(448) % 2).float().expand(1, 1, 112, 448)      # one pixel wide, along the axis that shrinks
    assert resize_antialiased(stripes, 224).std() < 0.6 * torch.nn.functional.interpolate(
        stripes, size=(224, 224), mode="bicubic", align_corners=True).std()
    across = stripes.transpose(-1, -2)[:, :, :112].repeat(1, 1, 1, 4)     # along the axis that grows
    torch.testing.assert_close(resize_antialiased(across, 224), torch.nn.functional.interpolate(
        across, size=(224, 224), mode="bicubic", align_corners=True), atol=1e-5, rtol=1e-5)


def test_large_pictures_of_any_aspect_ratio_are_taken():
    assert preprocess(torch.zeros(1, 3, 1080, 300), 56).isfinite().all()


def relative_error(found, expected):
    return ((found.float() - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize(("make", "given"), [
    (make_text, ["walking man", ""]), (make_image, torch.linspace(-1, 1, 3 * 80 * 60).reshape(1, 3, 80, 60))])
def test_half_precision_agrees_with_float32(make, given):
    module = make()
    expected = module(given)
    with torch.autocast("cpu", torch.bfloat16):
        assert relative_error(module(given), expected) < 2e-2
    halved = module.bfloat16()(given)
    assert halved.dtype == torch.bfloat16
    assert relative_error(halved, expected) < 2e-2


def test_preprocessing_is_float32_under_autocast():
    image = torch.rand(1, 3, 320, 512) * 2 - 1
    expected = preprocess(image)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(preprocess(image), expected)
