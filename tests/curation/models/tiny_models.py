"""Tiny models of random weights, written to files as their libraries and we read them; seeded, so they are always the same."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import torch

WIDTH = 32                   # of CLIP's vectors
SHARED_WEIGHTS = Path(os.environ.get("WEIGHTS_DIR", Path(__file__).resolve().parents[3] / ".." / "shared" / "weights"))
SHARED_FILMS = Path(os.environ.get("CARTOONS_DIR", Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "cartoons"))
COLOURS = ("red", "green", "blue", "grey")


def write_clip(folder: Path) -> Path:
    """An open_clip model of two layers, with the open_clip_config.json that says so; its weights file."""
    import open_clip

    from pipeline.weights import write_tensors

    folder.mkdir(parents=True, exist_ok=True)
    config = {"embed_dim": WIDTH, "quick_gelu": True,
              "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
              "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    torch.manual_seed(1)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    write_tensors(folder / "open_clip_model.safetensors", model.state_dict(), {})
    return folder / "open_clip_model.safetensors"


def write_head(path: Path, width: int = WIDTH) -> Path:
    """A LAION head of version 1 that gives about 5."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(2)
    torch.save({"weight": torch.randn(1, width) * 0.5, "bias": torch.tensor([5.0])}, path)
    return path


def write_craft(path: Path) -> Path:
    """EasyOCR's network with random weights, with the prefix that its own file has."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from easyocr.craft import CRAFT

    path.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(3)
    torch.save({f"module.{name}": value for name, value in CRAFT().state_dict().items()}, path)
    return path


def write_raft(path: Path) -> Path:
    from torchvision.models.optical_flow import raft_small

    path.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(4)
    torch.save(raft_small(weights=None).state_dict(), path)
    return path


def write_blip2(folder: Path) -> Path:
    """A BLIP-2 of a few thousand weights with processor and tokenizer, as save_pretrained writes it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import (
        Blip2Config,
        Blip2ForConditionalGeneration,
        Blip2Processor,
        Blip2QFormerConfig,
        Blip2VisionConfig,
        BlipImageProcessor,
        OPTConfig,
        PreTrainedTokenizerFast,
    )

    words = ["<s>", "<pad>", "</s>", "<unk>", "<image>", *COLOURS, "a", "cat", "dog", "boat", "photo", "of", "runs"]
    bare = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    bare.pre_tokenizer, bare.decoder = pre_tokenizers.Whitespace(), decoders.WordPiece(prefix="##")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bare, bos_token="<s>", pad_token="<pad>", eos_token="</s>",
                                        unk_token="<unk>", additional_special_tokens=["<image>"])
    torch.manual_seed(5)
    config = Blip2Config(
        vision_config=Blip2VisionConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
                                        image_size=28, patch_size=14).to_dict(),
        qformer_config=Blip2QFormerConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
                                          encoder_hidden_size=16, cross_attention_frequency=1, vocab_size=16).to_dict(),
        text_config=OPTConfig(vocab_size=len(words), hidden_size=16, ffn_dim=16, num_hidden_layers=1, num_attention_heads=2,
                              max_position_embeddings=64, word_embed_proj_dim=16, bos_token_id=0, pad_token_id=1,
                              eos_token_id=2).to_dict(),
        num_query_tokens=4, image_token_index=words.index("<image>"))
    model = Blip2ForConditionalGeneration(config)
    model.save_pretrained(folder)
    images = BlipImageProcessor(size={"height": 28, "width": 28})
    Blip2Processor(images, tokenizer, num_query_tokens=4).save_pretrained(folder)
    return folder


def picture(seed: int, width: int = 64, height: int = 48) -> np.ndarray:
    """BGR uint8 noise with large patches."""
    rng = np.random.default_rng(seed)
    return np.kron(rng.integers(0, 256, (height // 8, width // 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
