"""What a task is given: the samples of one micro-batch of one rank."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """b samples of t frames, all of one size H x W."""

    numbers: Tensor              # [b] int64: sample numbers, from which everything random about the samples follows
    keys: tuple[str, ...]
    video: Tensor                # [b, 3, t, H, W] float32 in [-1, 1], RGB
    fps: Tensor                  # [b] int64: pictures a second at the stride the sample was taken with
    captions: tuple[str, ...]    # "" where the text condition is dropped
    has_image: Tensor            # [b] bool; False: the image condition is dropped, a zero image takes its place
    sketches: Tensor | None      # [b, 1, t, H, W] float32 in [0, 1]: strokes 1 on 0, blank where not guided
    guided: Tensor | None        # [b, t] bool: frames that have a sketch
    windows: tuple[str, ...]     # film, size, frames and mirroring of each sample: equal where the pictures are equal
    weight: Tensor               # [b] float32: 1, or 0 where the sample only fills the batch of a rank
    flows: Tensor | None = None  # [b, 2, 2, H, W] float32, of triplets: coarse flow first to last frame and back; x, y in pixels

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with its tensors on `device`."""
        return replace(
            self, numbers=self.numbers.to(device), video=self.video.to(device), fps=self.fps.to(device),
            has_image=self.has_image.to(device), sketches=None if self.sketches is None else self.sketches.to(device),
            guided=None if self.guided is None else self.guided.to(device), weight=self.weight.to(device),
            flows=None if self.flows is None else self.flows.to(device))
