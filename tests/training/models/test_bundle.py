"""Promise: a whole model goes into the published file layout and comes back bit for bit, and the published one is understood."""

import json
import os
from pathlib import Path

import pytest
import torch

from pipeline.errors import UserError
from pipeline.weights import load_into, read_tensors, write_tensors
from training.models import bundle
from training.models.registry import build

ROOT = Path(__file__).parents[3]
LAYOUT = Path(os.environ.get("STATE_DICT_DIR", ROOT.parent / "shared" / "spec" / "state_dict"))
LAYOUT /= "latent_visual_diffusion_512_interp.json"


def published_layout():
    """The whole published file: every name and shape, each tensor over one number's memory."""
    if not LAYOUT.is_file():
        pytest.skip("no list of published tensors: set STATE_DICT_DIR to its folder")
    entries = json.loads(LAYOUT.read_text())
    return {name: torch.zeros(()).expand(entry["shape"]) for name, entry in entries.items()}


def tiny_networks(seed=1):
    return {name: build(name, preset="tiny", seed=seed) for name in bundle.PREFIXES}


def tiny_whole(seed=1):
    buffers = {name: torch.full((3,), float(index)) for index, name in enumerate(bundle.SCHEDULE_BUFFERS)}
    return bundle.join({name: network.state_dict() for name, network in tiny_networks(seed).items()}, buffers)


def test_published_file_splits_into_its_networks_and_joins_again():
    state = published_layout()
    parts = bundle.split(state)
    assert {name: len(tensors) for name, tensors in parts.items()} == {
        "schedule": 13, "unet3d": 1516, "dualref_autoencoder": 396, "openclip_text": 294, "openclip_image": 398, "resampler": 51}
    joined = bundle.join(parts, parts[bundle.SCHEDULE])
    assert list(joined) == list(state) and all(joined[name] is tensor for name, tensor in state.items())


@pytest.mark.parametrize("name", bundle.PREFIXES)
def test_every_network_of_the_registry_is_its_slice_of_the_published_file(name):
    expected = bundle.split(published_layout())[name]
    found = build(name, device="meta").state_dict()
    assert {key: tensor.shape for key, tensor in found.items()} == {key: tensor.shape for key, tensor in expected.items()}


def test_networks_of_the_registry_make_the_published_file():
    parts = {name: build(name, device="meta").state_dict() for name in bundle.PREFIXES}
    buffers = bundle.split(published_layout())[bundle.SCHEDULE]
    assert set(bundle.join(parts, buffers)) == set(published_layout())


@pytest.mark.parametrize("form", ["ckpt", "fp16 ckpt", "deepspeed", "safetensors"])
def test_whole_model_survives_every_form_of_file(tmp_path, form):
    whole, path = tiny_whole(), tmp_path / "model"
    if form == "fp16 ckpt":
        whole = {name: tensor.half() for name, tensor in whole.items()}
    if form == "safetensors":
        write_tensors(path, whole, {})
    elif form == "deepspeed":
        torch.save({"module": {f"_forward_module.{name}": tensor for name, tensor in whole.items()}, "epoch": 1}, path)
    else:
        torch.save({"state_dict": whole}, path)
    parts = bundle.split(read_tensors(path))
    networks = tiny_networks(seed=2)
    for name, network in networks.items():
        load_into(network, parts[name], source=str(path))
    again = bundle.join({name: network.state_dict() for name, network in networks.items()}, parts[bundle.SCHEDULE])
    assert again.keys() == whole.keys()
    for name, tensor in whole.items():
        assert torch.equal(again[name].float(), tensor.float()), name


@pytest.mark.parametrize("name", [*bundle.PREFIXES, "sketch_encoder", "discriminator"])
def test_network_without_memory_is_filled_by_its_file_alone(name):
    state = build(name, preset="tiny", seed=1).state_dict()
    module = build(name, preset="tiny", device="meta")
    load_into(module, state, source="w")
    assert all(torch.equal(tensor, state[key]) for key, tensor in module.state_dict().items())
    assert not any(tensor.is_meta for tensor in [*module.parameters(), *module.buffers()])


def test_tensors_that_belong_nowhere_are_refused_by_name():
    state = tiny_whole() | {"mystery.weight": torch.ones(1)}
    with pytest.raises(UserError, match=r"mystery\.weight belong to no network") as found:
        bundle.split(state)
    assert "the whole of ToonCrafter" in str(found.value)
    counters = {"model_ema.decay": torch.ones(()), "model_ema.num_updates": torch.ones(())}
    assert bundle.split(tiny_whole() | counters).keys() == bundle.split(tiny_whole()).keys()


def test_incomplete_whole_is_not_written():
    parts = bundle.split(tiny_whole())
    buffers = parts.pop(bundle.SCHEDULE)
    with pytest.raises(ValueError, match="resampler"):
        bundle.join({name: tensors for name, tensors in parts.items() if name != "resampler"}, buffers)
    with pytest.raises(ValueError, match="betas"):
        bundle.join(parts, {name: tensor for name, tensor in buffers.items() if name != "betas"})


def test_part_of_a_file_is_found_with_and_without_its_prefix():
    whole = tiny_whole()
    unet = bundle.part(whole, "unet3d")
    assert "input_blocks.0.0.weight" in unet and bundle.part(unet, "unet3d") == unet
    sketch = build("sketch_encoder", preset="tiny").state_dict()
    assert bundle.part(sketch, "sketch_encoder").keys() == sketch.keys()


@pytest.mark.slow
def test_published_file_loads_strictly_through_a_container(tmp_path):
    """The real keys and shapes of the smaller networks, with memory, through a DeepSpeed file in half precision."""
    parts = bundle.split(published_layout())
    for name in ("resampler", "dualref_autoencoder"):
        prefix = f"_forward_module.{bundle.PREFIXES[name]}"
        state = {prefix + key: torch.full(tensor.shape, 0.5, dtype=torch.float16) for key, tensor in parts[name].items()}
        torch.save({"module": state}, tmp_path / "w.ckpt")
        network = build(name, device="meta")
        load_into(network, bundle.part(read_tensors(tmp_path / "w.ckpt"), name), source="w.ckpt")
        assert all(bool((tensor == 0.5).all()) for tensor in network.state_dict().values())
