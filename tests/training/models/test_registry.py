"""Promise: every network is built by name, in the published sizes and in a tiny set whose parts fit together."""

import json
import os
from pathlib import Path

import pytest
import torch

from pipeline.errors import UserError
from training.models.presets import PRESETS, preset_info
from training.models.registry import NETWORKS, build

ROOT = Path(__file__).parents[3]
STATE_DICT_DIR = Path(os.environ.get("STATE_DICT_DIR", ROOT.parent / "shared" / "spec" / "state_dict"))
LAYOUTS = {
    "unet3d": "unet_512_interp", "dualref_autoencoder": "first_stage_dualref", "resampler": "image_proj_resampler",
    "sketch_encoder": "sketch_encoder_controlnet_sd21_hint1", "openclip_text": "cond_stage_openclip_text",
    "openclip_image": "embedder_openclip_image",
}


@pytest.mark.parametrize("preset", ["tooncrafter_512", "tooncrafter_1024"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_published_networks_have_the_names_and_shapes_of_the_published_files(name, preset):
    path = STATE_DICT_DIR / f"{LAYOUTS[name]}.json"
    if not path.is_file():
        pytest.skip("no lists of published tensors: set STATE_DICT_DIR to their folder")
    expected = {key: tuple(entry["shape"]) for key, entry in json.loads(path.read_text()).items()}
    network = build(name, preset=preset, device="meta")
    found = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    assert found == expected
    assert {tensor.dtype for tensor in network.state_dict().values()} == {torch.float32}


def test_tiny_networks_fit_together():
    t, h, w = 16, *preset_info("tiny").latent_size
    networks = {name: build(name, preset="tiny", seed=3).eval() for name in NETWORKS}
    pixels = torch.rand(1, 3, 2, 8 * h, 8 * w, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        text = networks["openclip_text"](["a cat"])
        image = networks["resampler"](networks["openclip_image"](pixels[:, :, 0]))
        context = torch.cat([text, image], dim=1)
        assert context.shape == (1, 77 + 16 * t, preset_info("tiny").context_width)
        autoencoder = networks["dualref_autoencoder"]
        z = autoencoder.encode(pixels.transpose(1, 2).flatten(0, 1)).mode()
        assert z.shape == (2, 4, h, w)
        video = z[:1, :, None].expand(1, 4, t, h, w)
        step = torch.tensor([500])
        folded = context.repeat_interleave(t, dim=0)
        residuals = networks["sketch_encoder"](video.transpose(1, 2).flatten(0, 1), torch.zeros(t, 1, 8 * h, 8 * w),
                                               step.repeat(t), folded)
        prediction = networks["unet3d"](torch.cat([video, video], dim=1), step, context, torch.tensor([12]), residuals=residuals)
        assert prediction.shape == video.shape
        frames = autoencoder.decode(video.transpose(1, 2).flatten(0, 1), t, autoencoder.references(pixels))
        assert frames.shape == (t, 3, 8 * h, 8 * w)
        assert networks["discriminator"](frames).shape[:2] == (t, 1)


def test_a_seed_alone_decides_the_weights_and_leaves_the_random_state():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first, second, other = (build("resampler", preset="tiny", seed=seed) for seed in (5, 5, 6))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.latents, second.latents) and not torch.equal(first.latents, other.latents)


def test_overrides_replace_the_settings_of_the_preset():
    assert build("resampler", preset="tiny", num_queries=2).latents.shape == (1, 32, 32)


@pytest.mark.parametrize(("arguments", "words"), [
    ({"name": "unet"}, "Did you mean unet3d"), ({"name": "discriminatr"}, "discriminator"), ({"name": "xyz"}, "There are"),
    ({"name": "unet3d", "preset": "tooncrafter_215"}, "Did you mean tooncrafter_512"),
    ({"name": "resampler", "num_querys": 3}, "Did you mean num_queries"),
])
def test_misspelt_name_is_told_with_the_nearest(arguments, words):
    with pytest.raises(UserError, match=words):
        build(**arguments)


def test_presets_know_pictures_conditions_and_schedule():
    found = {name: preset_info(name) for name in PRESETS}
    assert found["tooncrafter_512"].latent_size == (40, 64) and found["tooncrafter_1024"].latent_size == (72, 128)
    assert (found["tooncrafter_512"].base_scale, found["tooncrafter_512"].default_fs) == (0.7, 24)
    assert (found["tooncrafter_1024"].base_scale, found["tooncrafter_1024"].default_fs) == (0.3, 10)
    for name, info in found.items():
        unet = PRESETS[name].networks["unet3d"]
        assert unet["default_fs"] == info.default_fs and unet["context_dim"] == info.context_width
        assert set(PRESETS[name].networks) == set(NETWORKS)
    with pytest.raises(UserError, match="Did you mean tiny"):
        preset_info("tinny")
