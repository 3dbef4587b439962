"""Promise: an exported model has the upstream names and shapes, holds what was trained, and says where it came from."""


import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from training import export
from training.config import Preset
from training.embedded import seeded
from training.models.bundle import PREFIXES, SCHEDULE_BUFFERS, split

UNET = PREFIXES["unet3d"]


@pytest.fixture
def trained(tmp_path):
    """Weights of a rectification: the UNet's and the projector's, changed."""
    tensors = {PREFIXES[name] + key: tensor + 1 for name in ("unet3d", "resampler")
               for key, tensor in seeded(Preset.TINY, name).state_dict().items()}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


def test_trained_parts_replace_those_of_the_base_and_the_rest_stays(tmp_path, trained):
    out = tmp_path / "model.safetensors"
    assert export.main(["weights=embedded:tiny", f"parts={trained}", f"out={out}", "preset=tiny"]) == 0
    parts, mine = split(load_file(out)), split(load_file(trained))
    assert set(parts) == {*PREFIXES, "schedule"} and set(parts["schedule"]) == set(SCHEDULE_BUFFERS)
    for name in PREFIXES:
        expected = mine.get(name) or seeded(Preset.TINY, name).state_dict()
        assert parts[name].keys() == expected.keys()
        assert all(torch.equal(parts[name][key], tensor) for key, tensor in expected.items()), name
    with safe_open(out, "pt") as file:
        metadata = file.metadata()
    assert metadata["unet3d"].startswith("weights.safetensors sha256:") and metadata["openclip_text"] == "embedded:tiny"


def test_exported_file_is_a_base_again_and_comes_out_the_same(tmp_path, trained):
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    assert export.main(["weights=embedded:tiny", f"parts={trained}", f"out={first}", "preset=tiny"]) == 0
    assert export.main([f"weights={first}", f"out={second}", "preset=tiny"]) == 0
    left, right = load_file(first), load_file(second)
    assert list(left) == list(right) and all(torch.equal(tensor, right[name]) for name, tensor in left.items())


def test_half_precision_is_stored_on_request(tmp_path):
    out = tmp_path / "model.safetensors"
    assert export.main(["weights=embedded:tiny", f"out={out}", "preset=tiny", "half=true"]) == 0
    assert {tensor.dtype for tensor in load_file(out).values()} == {torch.float16}


@pytest.mark.parametrize(("arguments", "part"), [
    ([], "weights has no value"), (["weigths=a"], "Did you mean weights=...?"), (["weights=absent.ckpt", "out=m"], "absent"),
    (["weights=embedded:tiny", "out=m", "preset=x"], "no preset"),
])
def test_mistakes_are_one_sentence(tmp_path, monkeypatch, capsys, arguments, part):
    monkeypatch.chdir(tmp_path)
    assert export.main(arguments) == 2
    message = capsys.readouterr().err
    assert part in message and message.count("\n") == 1


def test_part_of_another_model_is_refused(tmp_path, capsys):
    save_file({f"{UNET}input_blocks.0.0.weight": torch.zeros(1)}, tmp_path / "w.safetensors")
    out = tmp_path / "m.safetensors"
    assert export.main(["weights=embedded:tiny", f"parts={tmp_path / 'w.safetensors'}", f"out={out}", "preset=tiny"]) == 2
    assert "input_blocks.0.0.weight" in capsys.readouterr().err and not out.exists()
