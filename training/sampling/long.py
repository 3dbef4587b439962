"""Films along many key frames: one clip from each to the next, put together so that a key frame is there once.

Neighbouring clips share their key frame's latent to the bit, but each decodes it among other frames and so a little differently.
At a joint neither is taken: the frame is the key frame's own reconstruction, which favours no side. Each clip has noise of its
own; with the same noise every clip would move in the same way. Frames are counted from 1 along the film.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.hashing import content_key
from training.sampling.inputs import Pixels


def clip_ends(num_keys: int) -> list[tuple[int, int]]:
    """Which key frames each clip lies between; a single one is both ends (colouring by one reference)."""
    return [(0, 0)] if num_keys == 1 else [(index, index + 1) for index in range(num_keys - 1)]


def clip_frames(clip: int, num_frames: int) -> range:
    """The film's frames in a clip: its last is the first of the next."""
    first = clip * (num_frames - 1) + 1
    return range(first, first + num_frames)


def film_length(num_keys: int, num_frames: int) -> int:
    return clip_frames(len(clip_ends(num_keys)) - 1, num_frames)[-1]


def clip_seed(seed: int, clip: int) -> int:
    """The seed of a clip's noise; that of the first is the film's, so that a film of one clip is what `seed` says."""
    return seed if clip == 0 else int(content_key(seed=seed, clip=clip)[:15], 16)


def join(clips: Sequence[Pixels], joints: Sequence[Pixels]) -> Pixels:
    """One film [T, H, W, 3] of clips [t, H, W, 3] and of the frames [H, W, 3] between them, one fewer."""
    parts = [clips[0]]
    for joint, clip in zip(joints, clips[1:], strict=True):
        parts[-1] = parts[-1][:-1]
        parts += [joint[None], clip[1:]]
    return np.concatenate(parts)
