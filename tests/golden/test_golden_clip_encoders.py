"""Promise: both OpenCLIP towers, the tokenizer and the image preprocessing reproduce the stored tensors."""

import pytest
import torch
from cases import cases

from training.models.clip_encoders import OpenClipImage, OpenClipText, tokenize
from training.models.clip_preprocess import preprocess


def text_tower(case):
    settings, embed_dim = case.record["text"], case.record["embed_dim"]
    module = OpenClipText(**settings, embed_dim=embed_dim).eval()
    module.load_state_dict({f"model.{name}": values for name, values in case.weights.items()
                            if not name.startswith("visual.")}, strict=True)
    return module


def image_tower(case):
    text = case.record["text"]
    module = OpenClipImage(**case.record["vision"], embed_dim=case.record["embed_dim"], context_length=text["context_length"],
                           vocab_size=text["vocab_size"], text_width=text["width"]).eval()
    module.load_state_dict({f"model.{name}": values for name, values in case.weights.items()
                            if not name.startswith("transformer.")}, strict=True)
    return module


@pytest.mark.parametrize("case", cases("clip_encoders"))
def test_tokens_of_the_real_vocabulary_are_the_stored_ones(case):
    assert torch.equal(tokenize(case.record["prompts"]), case.tensors["tokens_full_vocab"])


@pytest.mark.parametrize("case", cases("clip_encoders"))
def test_text_tower_reproduces_penultimate_and_last_features(case):
    tower, tokens = text_tower(case), case.tensors["tokens"]
    case.check(tower.encode_tokens(tokens), "text_penultimate")
    case.check(tower.encode_tokens(tokens, skipped_blocks=0), "text_last")


@pytest.mark.parametrize("case", cases("clip_encoders"))
def test_preprocessing_reproduces_the_stored_picture(case):
    case.check(preprocess(case.tensors["image"], case.record["vision"]["image_size"]), "image_preprocessed")


@pytest.mark.parametrize("case", cases("clip_encoders"))
def test_image_tower_reproduces_all_tokens(case):
    tower, image = image_tower(case), case.tensors["image"]
    case.check(tower(image), "image_tokens")
    case.check(tower(torch.zeros_like(image[:1])), "image_tokens_zero")
