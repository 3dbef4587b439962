"""Promise: every model gives the same answer alone and in a batch of 16, also after its batch was halved, and tells NaN."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import picture, write_blip2, write_clip, write_craft, write_raft

from curation.models.anime2sketch import build_network
from curation.models.batches import NotFinite
from curation.models.captioner import Captioner, without_prompt
from curation.models.clip import ImageTower, TextTower
from curation.models.config import CaptionConfig, CaptionName, DeviceName, FlowName, Precision
from curation.models.craft import CraftDetector
from curation.models.raft import RaftFlow, fit_size
from pipeline.errors import UserError
from pipeline.weights import write_tensors

CPU: dict[str, Any] = {"device": DeviceName.CPU, "precision": Precision.FLOAT32}
PICTURES = [picture(seed) for seed in range(5)]
LARGE = [picture(seed, 128, 128) for seed in range(4)]
ATOL = 1e-5                  # style: the same model, another batch


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tiny")
    write_clip(made / "clip")
    write_blip2(made / "blip2")
    write_craft(made / "craft.pth")
    write_raft(made / "raft.pth")
    return made


def caption_config(batch: int, prompt: str = "a photo of") -> CaptionConfig:
    return CaptionConfig(name=CaptionName.BLIP2, weights="", batch=batch, frames=1, precision=Precision.AUTO, prompt=prompt,
                         max_tokens=4)


def clip_of(folder: Path, batch: int) -> tuple[Any, Callable[[Any], Sequence[Any]]]:
    tower = ImageTower("local", folder / "clip" / "open_clip_model.safetensors", batch=batch, **CPU)
    return tower, lambda model: model.embed(PICTURES)


def craft_of(folder: Path, batch: int) -> tuple[Any, Callable[[Any], Sequence[Any]]]:
    return (CraftDetector(folder / "craft.pth", batch=batch, side_px=64, **CPU),
            lambda model: [np.array(quads).ravel() for quads in model.detect(PICTURES)])


def raft_of(folder: Path, batch: int) -> tuple[Any, Callable[[Any], Sequence[Any]]]:
    model = RaftFlow(FlowName.RAFT_SMALL, folder / "raft.pth", batch=batch, updates=2, **CPU)
    return model, lambda model: model.flow([(LARGE[0], one) for one in LARGE[1:]])


def captioner_of(folder: Path, batch: int) -> tuple[Any, Callable[[Any], Sequence[Any]]]:
    return Captioner(caption_config(batch), folder / "blip2", **CPU), lambda model: model.caption(PICTURES)


@pytest.mark.parametrize("build", [clip_of, captioner_of, pytest.param(raft_of, marks=pytest.mark.slow),
                                   pytest.param(craft_of, marks=pytest.mark.slow)])
def test_batch_of_1_and_of_16_agree_and_so_does_one_that_was_halved(
        build: Callable[[Path, int], tuple[Any, Callable[[Any], Sequence[Any]]]], folder: Path) -> None:
    one, ask = build(folder, 1)
    many, _ = build(folder, 16)
    expected = ask(one)
    assert_same(ask(many), expected)
    forward, sizes = many._forward, list[int]()

    def full_above_4(items: Sequence[Any]) -> Any:
        sizes.append(len(items))
        if len(items) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(items)

    many._forward = full_above_4
    assert_same(ask(many), expected)
    assert sizes[:3] == [16, 8, 4] and set(sizes[3:]) <= {4}


def assert_same(found: Sequence[Any], expected: Sequence[Any]) -> None:
    assert len(found) == len(expected)
    for one, two in zip(found, expected, strict=True):
        if isinstance(two, str):
            assert one == two
        else:
            np.testing.assert_allclose(one, two, atol=ATOL, rtol=ATOL)


def test_company_in_a_batch_changes_no_bit_of_a_vector(folder: Path) -> None:
    tower, _ = clip_of(folder, 4)
    alone = tower.embed(PICTURES[:1])[0]
    assert all(np.array_equal(tower.embed([PICTURES[0], *others])[0], alone) for others in (PICTURES[1:3], PICTURES[2:]))


def test_vectors_have_length_1_and_words_lie_in_the_space_of_pictures(folder: Path) -> None:
    tower, ask = clip_of(folder, 4)
    words = TextTower("local", folder / "clip" / "open_clip_model.safetensors", batch=4, **CPU).embed(["a cat", "a red boat"])
    assert words.shape[1] == ask(tower)[0].shape[0]
    for vectors in (words, ask(tower)):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_captioner_notices_nan_and_cuts_the_question_off(folder: Path) -> None:
    model, ask = captioner_of(folder, 4)
    said = ask(model)
    assert all(isinstance(text, str) and text and not text.startswith("a photo of") for text in said)
    model._model.lm_head.weight.data.fill_(float("nan")) if hasattr(model._model, "lm_head") else (
        model._model.language_model.lm_head.weight.data.fill_(float("nan")))
    assert all(isinstance(text, NotFinite) for text in ask(model))


def test_only_a_repeated_question_is_cut_off() -> None:
    assert without_prompt("A photo of\n a cat", "a photo of") == "a cat"
    assert without_prompt("a cat", "a photo of") == "a cat" and without_prompt(" a cat ", "") == "a cat"


def test_captioner_refuses_a_folder_without_a_model_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"models.caption.weights=.* cannot be used"):
        Captioner(caption_config(1), tmp_path, **CPU)


@pytest.mark.slow
def test_craft_notices_nan_which_its_own_code_would_take_for_no_text(folder: Path) -> None:
    model, _ = craft_of(folder, 2)
    next(model._model.parameters()).data.fill_(float("nan"))
    assert all(isinstance(found, NotFinite) for found in model.detect(PICTURES[:2]))


def test_raft_sizes_are_multiples_of_8_and_never_too_small() -> None:
    assert fit_size(1920, 1080, 448) == (448, 256)       # 252 rounds to the nearest multiple of 8: 31.5 -> 32 eights
    assert fit_size(1080, 1920, 448) == (256, 448)
    assert fit_size(4096, 64, 448) == (448, 128)


def test_unknown_architecture_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Did you mean ViT-L-14-quickgelu"):
        ImageTower("ViT-L-14-quickgel", tmp_path / "none", batch=1, **CPU)


def test_weights_of_another_model_are_refused(folder: Path, tmp_path: Path) -> None:
    write_tensors(tmp_path / "other.safetensors", {"weight": torch.zeros(2)}, {})
    with pytest.raises(UserError):
        RaftFlow(FlowName.RAFT_SMALL, tmp_path / "other.safetensors", batch=1, updates=1, **CPU)


def test_anime2sketch_has_the_published_names_and_shapes() -> None:
    """Worked out by hand from pix2pix's generator: eight levels, the outermost two convolutions without a norm between."""
    state = {name: tuple(value.shape) for name, value in build_network().state_dict().items()}
    assert len(state) == 8 * 4                            # a convolution down and one up, each with weight and bias
    assert state["model.model.0.weight"] == (64, 3, 4, 4)
    assert state["model.model.1.model.1.weight"] == (128, 64, 4, 4)
    assert state["model.model.3.weight"] == (128, 1, 4, 4)
    innermost = "model.model.1" + ".model.3" * 6 + ".model"
    assert state[f"{innermost}.1.weight"] == (512, 512, 4, 4) and state[f"{innermost}.3.weight"] == (512, 512, 4, 4)
    assert sum(int(np.prod(shape)) for shape in state.values()) * 4 / 1e6 == pytest.approx(218, abs=1)   # MB of netG.pth
    small = build_network(filters=2)
    assert small(torch.zeros(1, 3, 256, 256)).shape == (1, 1, 256, 256)
