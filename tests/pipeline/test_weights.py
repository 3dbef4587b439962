"""Promise: weights are read without running code, fit exactly or say in one look why they do not."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pipeline import weight_files, weight_kinds, weights
from pipeline.errors import UserError
from pipeline.hashing import file_digest

DIGEST = "0123456789abcdef" * 4


def some_tensors():
    return {"time_embed.weight": torch.arange(6.0).reshape(2, 3), "time_embed.bias": torch.ones(2)}


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype


# References

def test_hub_reference_is_taken_apart():
    hub = weights.parse_hub(f"hf:owner/some.name/a/b+c.ckpt@v1/x#{DIGEST}")
    assert (hub.repository, hub.file, hub.revision, hub.sha256) == ("owner/some.name", "a/b+c.ckpt", "v1/x", DIGEST)
    assert hub.folder == "owner/some.name@v1_x"
    assert weights.parse_hub("hf:owner/name").file == ""


@pytest.mark.parametrize("reference", ["hf:owner", "hf:", "hf:a/b/c#12", "hf:a/b/../../../c", "hf:../b/c", "hf:a/b//etc/c",
                                       "hf:a/b/"])
def test_malformed_hub_reference_is_refused(reference):
    with pytest.raises(UserError, match="cannot be read"):
        weights.parse_hub(reference)


def test_embedded_reference_needs_no_file():
    assert weights.is_embedded("embedded:tiny-unet3d") and not weights.is_embedded("hf:a/b/c")


def test_every_form_of_reference_finds_its_file(tmp_path, monkeypatch):
    monkeypatch.setenv(weights.FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(weights, "_cached", lambda hub: None)
    for place in ("own/name/a/b.ckpt", "own/name@v2/a/b.ckpt", "torchvision/vgg16-397923af.pth", "mine.pth",
                  "own/all/config.json"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(place.encode())
    assert weights.resolve("hf:own/name/a/b.ckpt") == tmp_path / "own/name/a/b.ckpt"
    assert weights.resolve("hf:own/name/a/b.ckpt@v2") == tmp_path / "own/name@v2/a/b.ckpt"
    assert weights.resolve("hf:own/all") == tmp_path / "own/all"
    assert weights.resolve("torchvision:VGG16_Weights.IMAGENET1K_V1") == tmp_path / "torchvision/vgg16-397923af.pth"
    assert weights.resolve("vgg16") == tmp_path / "torchvision/vgg16-397923af.pth"
    assert weights.resolve("mine.pth") == tmp_path / "mine.pth"
    assert weights.resolve(str(tmp_path / "mine.pth")) == tmp_path / "mine.pth"
    assert weights.resolve("mine.pth", folder=tmp_path) == tmp_path / "mine.pth"


@pytest.mark.parametrize("form", ["hf:own/name/mine.pth#{}", "own/name/mine.pth#{}"])
def test_digest_in_a_reference_is_checked(tmp_path, form):
    path = tmp_path / "own/name/mine.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    assert weights.resolve(form.format(file_digest(path)), folder=tmp_path) == path
    with pytest.raises(UserError, match="not the file it should be"):
        weights.resolve(form.format(DIGEST), folder=tmp_path)


def test_digest_of_the_catalogue_is_checked_for_a_file_put_by_hand(tmp_path):
    (tmp_path / "lpips_v0.1_vgg_heads.pth").write_bytes(b"something else")
    with pytest.raises(UserError, match="not the file it should be"):
        weights.resolve("lpips_vgg", folder=tmp_path)


def test_recorded_digest_is_believed_only_while_the_file_is_unchanged(tmp_path):
    path = tmp_path / "w.bin"
    path.write_bytes(b"first")
    assert weights.record_digest(path) == file_digest(path)
    record = tmp_path / "w.bin.sha256"
    first, second = record.read_text().splitlines()
    assert first == f"{file_digest(path)}  w.bin"
    record.write_text(f"{DIGEST}  w.bin\n{second}\n")
    assert weights.digest(path) == DIGEST, "the record is used"
    path.write_bytes(b"other")
    os.utime(path, ns=(1, 1))
    assert weights.digest(path) == file_digest(path)


@pytest.mark.parametrize(("reference", "words"), [
    ("hf:Doubiiu/ToonCrafter/model.ckpt", ["10.5 GB", "make weights PROFILE=training"]),
    ("svd_decoder", ["make weights PROFILE=training FILES=svd_decoder"]),
    ("hf:someone/unknown/w.safetensors", ["FILES='hf:someone/unknown/w.safetensors'"]),
    ("i3d", ["51 MB", "VideoGPT", "i3d_pretrained_400.pt"]),
    ("tooncraftr", ["Did you mean tooncrafter?"]),
    ("here/mine.pt", ["Did you mean mine.pth?"]),
])
def test_absent_file_says_what_fetches_it(tmp_path, monkeypatch, reference, words):
    monkeypatch.setattr(weights, "_cached", lambda hub: None)
    (tmp_path / "mine.pth").write_bytes(b"")
    with pytest.raises(UserError) as found:
        weights.resolve(reference, folder=tmp_path)
    for word in words:
        assert word in str(found.value)


def test_file_in_the_cache_of_the_hub_is_used(tmp_path, monkeypatch):
    cached = tmp_path / "cache" / "blob"
    cached.parent.mkdir()
    cached.write_bytes(b"x")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda repository, file, revision: str(cached))
    assert weights.resolve("hf:own/name/w.ckpt", folder=tmp_path / "weights") == cached


# Reading

CONTAINERS = {
    "plain": lambda state: state,
    "lightning": lambda state: {"state_dict": state, "epoch": 3, "hyper": {"lr": 0.1}},
    "deepspeed": lambda state: {"module": {f"_forward_module.{name}": tensor for name, tensor in state.items()},
                                "optimizer": None, "global_steps": 7},
    "model": lambda state: {"model": state, "step": 1},
    "ema": lambda state: {"ema": state},
    "data parallel": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "nested": lambda state: {"state_dict": {"model": state}},
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_gives_the_same_tensors(tmp_path, container):
    path = tmp_path / "w.ckpt"
    torch.save(CONTAINERS[container](some_tensors()), path)
    assert_same(weights.read_tensors(path), some_tensors())


def test_safetensors_and_old_torch_files_are_read_whatever_they_are_called(tmp_path):
    save_file(some_tensors(), tmp_path / "a.ckpt")
    torch.save(some_tensors(), tmp_path / "b.safetensors", _use_new_zipfile_serialization=False)
    for name in ("a.ckpt", "b.safetensors"):
        found = weights.read_tensors(tmp_path / name)
        assert_same(dict(sorted(found.items())), dict(sorted(some_tensors().items())))


def test_half_precision_is_kept_as_read(tmp_path):
    save_file({"a": torch.ones(2, dtype=torch.float16)}, tmp_path / "w.safetensors")
    assert weights.read_tensors(tmp_path / "w.safetensors")["a"].dtype == torch.float16


def test_fps_layers_of_the_256_model_get_their_later_name(tmp_path):
    torch.save({"state_dict": {"model.diffusion_model.framestride_embed.0.weight": torch.ones(1)}}, tmp_path / "w.ckpt")
    assert list(weights.read_tensors(tmp_path / "w.ckpt")) == ["model.diffusion_model.fps_embedding.0.weight"]


class RunsCode:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("is_zip", [True, False])
def test_pickle_with_code_is_refused_and_not_run(tmp_path, is_zip):
    trap = tmp_path / "ran"
    torch.save({"state_dict": some_tensors(), "callback": RunsCode(trap)}, tmp_path / "w.ckpt",
               _use_new_zipfile_serialization=is_zip)
    with pytest.raises(UserError, match="would have to run code") as found:
        weights.read_tensors(tmp_path / "w.ckpt")
    assert "mkdir" in str(found.value) and not trap.exists()


def test_torchscript_is_refused_as_a_program(tmp_path):
    torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "w.pt"))
    with pytest.raises(UserError, match="TorchScript"):
        weights.read_tensors(tmp_path / "w.pt")


@pytest.mark.parametrize("kind", ["safetensors", "zip", "old"])
@pytest.mark.parametrize("kept", [0.05, 0.5, 0.97])
def test_truncated_file_is_called_damaged(tmp_path, kind, kept):
    path = tmp_path / "w"
    tensors = {"a": torch.randn(300, 7), "b": torch.randn(50)}
    if kind == "safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    path.write_bytes(whole[:int(len(whole) * kept)])
    with pytest.raises(UserError, match="damaged or incomplete"):
        weights.read_tensors(path)


@pytest.mark.parametrize(("content", "words"), [
    (b"", "damaged"), (b"\x80garbage", "damaged"), (b"<!DOCTYPE html><html>", "web page"),
    (b"version x\noid sha256:1\ngit-lfs\n", "Git LFS"), (b"\x00" * 100, "damaged"),
    (pickle.dumps([1, 2]), "damaged|no named tensors"),
])
def test_files_of_another_kind_are_told_apart(tmp_path, content, words):
    (tmp_path / "w.ckpt").write_bytes(content)
    with pytest.raises(UserError, match=words):
        weights.read_tensors(tmp_path / "w.ckpt")


def test_file_without_weights_or_with_several_sets_is_refused(tmp_path):
    optimizer = torch.optim.AdamW(nn.Linear(2, 2).parameters()).state_dict()
    torch.save(optimizer, tmp_path / "optimizer.pt")
    with pytest.raises(UserError, match="state of an optimizer"):
        weights.read_tensors(tmp_path / "optimizer.pt")
    torch.save({"model": some_tensors(), "ema": some_tensors()}, tmp_path / "two.pt")
    with pytest.raises(UserError, match="model, ema"):
        weights.read_tensors(tmp_path / "two.pt")
    with pytest.raises(UserError, match="cannot be read"):
        weights.read_tensors(tmp_path / "nothing.pt")
    with pytest.raises(UserError, match="cannot be read"):
        weights.read_tensors(tmp_path)


# Loading and writing

def test_loading_casts_to_the_precision_of_the_module():
    module = nn.Linear(3, 2).to(torch.bfloat16)
    tensors = {"x.weight": torch.full((2, 3), 0.5), "x.bias": torch.ones(2, dtype=torch.float16), "y": torch.ones(1)}
    assert weights.load_into(module, tensors, source="w", prefix="x.") == []
    assert module.weight.dtype == torch.bfloat16 and module.weight[0, 0] == 0.5 and module.bias[1] == 1


def test_loading_gives_memory_to_a_module_without():
    with torch.device("meta"):
        module = nn.Linear(3, 2)
    given = {"weight": torch.ones(2, 3, dtype=torch.float16), "bias": torch.ones(2)}
    weights.load_into(module, given, source="w")
    assert module.weight.dtype == torch.float32 and module.weight.requires_grad
    given["bias"].zero_()
    assert module.bias.sum() == 2, "the module does not share the file's memory"


def test_only_names_that_may_miss_are_left_alone():
    module = nn.Linear(3, 2)
    before = module.bias.clone()
    kept = weights.load_into(module, {"weight": torch.ones(2, 3)}, source="w", may_miss=lambda name: name == "bias")
    assert kept == ["bias"] and torch.equal(module.bias, before) and module.weight.sum() == 6
    with pytest.raises(UserError, match="1 missing"):
        weights.load_into(module, {"bias": torch.ones(2)}, source="w", may_miss=lambda name: name == "bias")


def test_mismatch_is_a_table_of_the_first_few_names():
    module = nn.ModuleDict({f"layer{index}": nn.Linear(3, 2) for index in range(5)})
    tensors = dict(module.state_dict())
    tensors["layer0.weight"] = torch.ones(4, 3)
    del tensors["layer1.bias"]
    tensors |= {f"extra.{index}": torch.ones(()) for index in range(2000)}
    with pytest.raises(UserError) as found:
        weights.load_into(module, tensors, source="weights/w.ckpt")
    first, *table = str(found.value).splitlines()
    assert first.startswith("weights/w.ckpt does not fit ModuleDict: 1 missing, 2000 unexpected, 1 of another shape. ")
    assert "  missing        layer1.bias 2" in table
    assert "  another shape  layer0.weight: file 4x3, model 2x3" in table
    assert "  unexpected     extra.0 scalar" in table
    assert any(row.strip() == "and 1,996 more" for row in table) and len(table) == 7


def test_nothing_is_loaded_when_something_does_not_fit():
    module = nn.Linear(3, 2)
    before = module.weight.clone()
    with pytest.raises(UserError):
        weights.load_into(module, {"weight": torch.ones(2, 3), "bias": torch.ones(9)}, source="w")
    assert torch.equal(module.weight, before)


def test_written_tensors_are_read_again_with_their_metadata(tmp_path):
    from safetensors import safe_open

    shared = torch.arange(12.0).reshape(3, 4)
    tensors = {"a": shared, "b": shared, "c": shared.T, "d": torch.ones(1).expand(3), "e": torch.ones((), dtype=torch.bfloat16)}
    path = tmp_path / "new" / "w.safetensors"
    weights.write_tensors(path, tensors, {"task": "rectify"})
    found = weights.read_tensors(path)
    for name, tensor in tensors.items():
        assert torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"task": "rectify"}
    assert [found.name for found in path.parent.iterdir()] == ["w.safetensors"]


# Guesses

UNET = "model.diffusion_model."
CONV = "input_blocks.0.0.weight"
KEY = "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
TIME = "init_attn.0.norm.weight"
GUESSES = [
    ({UNET + CONV: (320, 8, 3, 3), UNET + TIME: (1,), "image_proj_model.latents": (1,),
      "first_stage_model.decoder.attn_refinement.0.conv.weight": (1,)}, "the whole of ToonCrafter"),
    ({UNET + CONV: (320, 8, 3, 3), UNET + TIME: (1,), "image_proj_model.latents": (1,)}, "DynamiCrafter with 8 input channels"),
    ({UNET + CONV: (320, 4, 3, 3), UNET + TIME: (1,), "image_proj_model.latents": (1,)}, "DynamiCrafter with 4 input channels"),
    ({UNET + CONV: (320, 8, 3, 3), UNET + TIME: (1,), UNET + "input_blocks.1.1.attn2.alpha": ()}, "DynamiCrafter 256"),
    ({UNET + CONV: (320, 4, 3, 3), UNET + TIME: (1,)}, "text-to-video checkpoint"),
    ({UNET + CONV: (320, 4, 3, 3), UNET + KEY: (320, 1024)}, "the whole of Stable Diffusion 2.x"),
    ({UNET + CONV: (320, 8, 3, 3), "conditioner.embedders.0.x": (1,)}, "Stable Video Diffusion"),
    ({CONV: (320, 4, 3, 3), KEY: (320, 1024)}, "the UNet of Stable Diffusion 2.x"),
    ({CONV: (320, 9, 3, 3), KEY: (320, 768)}, "Stable Diffusion 1.x for inpainting"),
    ({CONV: (320, 4, 3, 3), TIME: (1,)}, "a video UNet with 4 input channels"),
    ({"input_hint_block.0.weight": (16, 1, 3, 3), KEY: (320, 1024)}, "a sketch encoder"),
    ({"control_model.input_hint_block.0.weight": (16, 3, 3, 3), KEY: (320, 1024)}, "a ControlNet for hints of 3 channels"),
    ({"decoder.conv_in.weight": (1,), "decoder.up.0.block.0.time_stack.x": (1,)}, "temporal decoder of Stable Video Diffusion"),
    ({"decoder.conv_in.weight": (1,), "quant_conv.weight": (8, 8, 1, 1)}, "the VAE of Stable Diffusion"),
    ({"model.visual.transformer.x": (1,), "model.token_embedding.weight": (1,)}, "an OpenCLIP with its image tower"),
    ({"latents": (1,), "layers.0.0.to_kv.weight": (1,)}, "Resampler"),
    ({"down_blocks.0.resnets.0.conv1.weight": (1,)}, "names of diffusers"),
    ({"lora_unet_down_blocks_0.lora_up.weight": (1,)}, "a LoRA"),
    ({"state.0.exp_avg": (1,)}, "an optimizer"),
    ({"nothing": (1,)}, "a file of another kind"),
]


@pytest.mark.parametrize(("shapes", "words"), GUESSES)
def test_file_is_recognised_by_its_names_and_shapes(shapes, words):
    assert words in weight_kinds.guess(shapes).name


def test_guess_is_part_of_the_message():
    text = {CONV: torch.ones(2, 4, 1, 1), TIME: torch.ones(1)}
    with pytest.raises(UserError, match=r"a video UNet with 4 input channels, as of text-to-video. Interpolation needs 8"):
        weights.load_into(nn.Linear(1, 1), text, source="w")


# Catalogue

def test_hub_files_of_the_catalogue_lie_where_references_look(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "_cached", lambda hub: None)
    for file in weight_files.CATALOGUE:
        path = tmp_path / file.file
        path.mkdir(parents=True) if file.patterns else (path.parent.mkdir(parents=True, exist_ok=True), path.touch())
        if file.sha256 is None:
            assert weights.resolve(file.reference, folder=tmp_path) == weights.resolve(file.name, folder=tmp_path) == path


def test_catalogue_names_files_once_and_says_what_they_are_bound_to():
    names = [file.name for file in weight_files.CATALOGUE]
    assert len(set(names)) == len(names)
    for file in weight_files.CATALOGUE:
        assert file.licence and file.purpose and file.profiles and file.origin and file.size_mb > 0
        assert file.sha256 is None or len(file.sha256) == 64
        assert "://" not in repr(file)


def test_torchvision_files_have_the_names_that_torchvision_gives_them():
    models = pytest.importorskip("torchvision.models")
    for file in weight_files.CATALOGUE:
        if file.reference.startswith("torchvision:"):
            url = models.get_weight(file.reference.partition(":")[2]).url
            assert Path(file.file).name == url.rpartition("/")[2]


SMALL = Path(os.environ.get("WEIGHTS_DIR", Path(__file__).parents[3] / "shared" / "weights"))


@pytest.mark.skipif(not SMALL.is_dir(), reason="no small real weights: set WEIGHTS_DIR to their folder")
def test_digests_of_the_catalogue_are_those_of_the_real_files():
    by_digest = {file.sha256: file.name for file in weight_files.CATALOGUE if file.sha256}
    found = {by_digest.get(file_digest(path)) for path in SMALL.iterdir()}
    assert found >= set(by_digest.values())


def test_page_on_weights_lists_every_file_with_its_digest():
    page = (Path(__file__).parents[2] / "docs" / "weights.md").read_text(encoding="utf-8")
    rows = [line for line in page.partition("## Licences")[2].splitlines() if line.startswith("| `")]
    listed = {row.split("|")[1].strip(" `"): row for row in rows}
    for file in weight_files.CATALOGUE:
        assert file.sha256 is None or file.sha256 in listed[file.name]
        assert file.name in listed
