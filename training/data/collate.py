"""Items side by side: bytes as they travel from a worker to its rank, floats as a task takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import UserError
from training.data.batch import Batch
from training.data.clip_dataset import Item
from training.data.clip_table import Damage


@dataclass(frozen=True, slots=True)
class DecodedBatch:
    """Items of one size, as bytes: a quarter of what floats would take between processes."""

    items: tuple[Item, ...]      # without their pictures
    pictures_u8: Tensor          # [b, t, H, W, 3]
    sketches_u8: Tensor | None   # [b, t, H, W]
    damages: tuple[Damage, ...]
    flows: Tensor | None = None  # [b, 2, 2, H, W]

    def batch(self, weight: Tensor | None = None) -> Batch:
        """Pixels in [-1, 1], strokes 1 on 0; `weight` [b] is 1 where it is not given."""
        video = self.pictures_u8.permute(0, 4, 1, 2, 3).contiguous().float().div_(127.5).sub_(1.0)
        sketches, guided = None, None
        if self.sketches_u8 is not None:
            sketches = (255 - self.sketches_u8).float().div_(255.0).unsqueeze(1)
            guided = torch.from_numpy(np.stack([item.guided for item in self.items if item.guided is not None]))
        return Batch(
            numbers=torch.tensor([item.number for item in self.items]), keys=tuple(item.key for item in self.items),
            video=video, fps=torch.tensor([item.fps for item in self.items]),
            captions=tuple(item.caption for item in self.items),
            has_image=torch.tensor([item.has_image for item in self.items]), sketches=sketches, guided=guided,
            windows=tuple(item.window for item in self.items),
            weight=torch.ones(len(self.items)) if weight is None else weight, flows=self.flows)


def collect(items: Sequence[Item | UserError]) -> DecodedBatch | UserError:
    """Items as one; the first error if there is one."""
    whole: list[Item] = []
    for item in items:
        if isinstance(item, UserError):
            return item
        whole.append(item)
    sketches = [item.sketches_u8 for item in whole if item.sketches_u8 is not None]
    flows = [item.flows for item in whole if item.flows is not None]
    return DecodedBatch(
        tuple(item.without_pictures() for item in whole), torch.from_numpy(np.stack([item.pictures_u8 for item in whole])),
        torch.from_numpy(np.stack(sketches)) if sketches else None, tuple(damage for item in whole for damage in item.damages),
        torch.from_numpy(np.stack(flows)) if flows else None)
