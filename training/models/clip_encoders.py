"""The two frozen OpenCLIP towers that condition the video model: caption tokens and first-frame tokens.

Built of the open_clip library's own transformers (ViT-H-14 sizes by default), so that its weights fit; only the ends differ from
ordinary CLIP use: the text stops one block early and passes the final norm, the picture keeps all tokens without norm and
projection. Key names are the public video checkpoint's, tensors included that nothing reads (text projection, logit scale, and
inside the image embedder the embeddings of a text tower without its transformer).
"""

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from training.models.clip_preprocess import preprocess

if TYPE_CHECKING:
    from open_clip.tokenizer import SimpleTokenizer
    from open_clip.transformer import VisionTransformer


class OpenClipText(nn.Module):
    """Captions to penultimate text features. All parameters are frozen from the start."""

    def __init__(self, *, context_length: int = 77, vocab_size: int = 49408, width: int = 1024, heads: int = 16,
                 layers: int = 24, embed_dim: int = 1024) -> None:
        from open_clip.transformer import TextTransformer

        super().__init__()
        self.model = TextTransformer(context_length=context_length, vocab_size=vocab_size, width=width, heads=heads,
                                     layers=layers, output_dim=embed_dim)
        # The mask is made at every call instead: a buffer outside the state dict is lost when a model is made without memory.
        self.model.attn_mask = None
        self.model.logit_scale = _logit_scale()
        self.requires_grad_(False)

    def forward(self, captions: Sequence[str]) -> Tensor:
        """Returns one row of features per caption: [b, context_length, width]."""
        tokens = tokenize(captions, self.model.context_length)
        return self.encode_tokens(tokens.to(self.model.positional_embedding.device))

    def encode_tokens(self, tokens: Tensor, *, skipped_blocks: int = 1) -> Tensor:
        """Returns the final norm of what the last but `skipped_blocks` blocks give; 1 is what the video model was trained with.

        Shapes: tokens [b, n] int64 with n at most context_length -> [b, n, width].
        """
        length = tokens.shape[1]
        x = self.model.token_embedding(tokens) + self.model.positional_embedding[:length]
        later = torch.full((length, length), -math.inf, dtype=x.dtype, device=x.device).triu(1)
        blocks = self.model.transformer.resblocks
        for block in blocks[:len(blocks) - skipped_blocks]:
            x = block(x, attn_mask=later)
        return self.model.ln_final(x)


class OpenClipImage(nn.Module):
    """A picture to all tokens of the last visual block, class token first. All parameters are frozen from the start.

    `context_length`, `vocab_size`, `text_width` and `embed_dim` shape tensors that are stored and never read.
    """

    def __init__(self, *, image_size: int = 224, layers: int = 32, width: int = 1280, head_width: int = 80,
                 patch_size: int = 14, embed_dim: int = 1024, context_length: int = 77, vocab_size: int = 49408,
                 text_width: int = 1024) -> None:
        from open_clip.transformer import VisionTransformer

        super().__init__()
        self.image_size = image_size
        self.model = _TextLeftovers(context_length, vocab_size, text_width, embed_dim)
        self.model.visual = VisionTransformer(
            image_size=image_size, patch_size=patch_size, width=width, layers=layers, heads=width // head_width, mlp_ratio=4.0,
            output_dim=embed_dim)
        self.requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        """Shapes: image [b, 3, H, W] RGB in [-1, 1], any size -> [b, 1 + patches, width]; no final norm, no projection."""
        return self.encode_preprocessed(preprocess(image, self.image_size))

    def encode_preprocessed(self, pixels: Tensor) -> Tensor:
        """Shapes: pixels [b, 3, image_size, image_size], CLIP-normalised -> [b, 1 + patches, width]."""
        tower = self.model.visual
        # Preprocessing is float32 whatever the tower's precision is.
        found = tower.forward_intermediates(pixels.to(tower.class_embedding.dtype), indices=1, intermediates_only=True,
                                            output_fmt="NLC", output_extra_tokens=True)
        return torch.cat([found["image_intermediates_prefix"][0], found["image_intermediates"][0]], dim=1)


class _TextLeftovers(nn.Module):
    """What the checkpoint keeps of the image embedder's text side; unused, but a strict load wants it."""

    visual: "VisionTransformer"

    def __init__(self, context_length: int, vocab_size: int, width: int, embed_dim: int) -> None:
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.zeros(context_length, width))
        self.text_projection = nn.Parameter(torch.zeros(width, embed_dim))
        self.logit_scale = _logit_scale()
        self.token_embedding = nn.Embedding(vocab_size, width, _weight=torch.zeros(vocab_size, width))
        self.ln_final = nn.LayerNorm(width)


def tokenize(captions: Sequence[str], context_length: int = 77) -> Tensor:
    """Returns byte-pair ids [b, context_length] int64 on the CPU: start, caption, end, then zeros.

    A caption that is too long is cut and still ends with the end token. The vocabulary is part of the open_clip package.
    """
    return _tokenizer()(list(captions), context_length=context_length)


@functools.cache
def _tokenizer() -> "SimpleTokenizer":
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()


def _logit_scale() -> nn.Parameter:
    return nn.Parameter(torch.tensor(math.log(1 / 0.07)))
