"""Small drawn clips that move, and ways to damage them."""

import torch
import torch.nn.functional as F

from training.metrics.metric import ClipPair


def drawn_clip(seed=0, *, num_frames=16, height=96, width=128):
    """Discs with dark outlines moving over flat paint, [t, 3, h, w] in [0, 1]; drawn twice as large for smooth edges."""
    draws = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.arange(2 * height), torch.arange(2 * width), indexing="ij")
    colours = 0.3 + 0.6 * torch.rand(4, 3, generator=draws)
    start = torch.rand(3, 2, generator=draws) * torch.tensor([height, width]) + torch.tensor([height / 2, width / 2])
    speed = 6 * (torch.rand(3, 2, generator=draws) - 0.5) + 2
    frames = []
    for index in range(num_frames):
        picture = colours[3].view(3, 1, 1).expand(3, 2 * height, 2 * width).clone()
        for disc in range(3):
            y, x = start[disc] + index * speed[disc]
            distance = ((rows - y) ** 2 + (columns - x) ** 2).sqrt()
            radius = 20 + 8 * disc
            picture = torch.where(distance < radius, colours[disc].view(3, 1, 1), picture)
            picture = torch.where((distance - radius).abs() < 3, torch.tensor(0.05), picture)
        frames.append(F.avg_pool2d(picture[None], 2)[0])
    return torch.stack(frames)


def blurred(video, sigma=2.0):
    taps = torch.exp(-(torch.arange(-6, 7).float() / sigma) ** 2 / 2)
    taps = taps / taps.sum()
    padded = F.pad(video, (6, 6, 6, 6), mode="replicate").flatten(0, 1)[:, None]
    soft = F.conv2d(F.conv2d(padded, taps.view(1, 1, 1, -1)), taps.view(1, 1, -1, 1))
    return soft[:, 0].unflatten(0, video.shape[:2]).clamp(0, 1)


def noisy(video, deviation=0.1, seed=0):
    draws = torch.Generator().manual_seed(seed)
    return (video + deviation * torch.randn(video.shape, generator=draws)).clamp(0, 1)


def frozen_at_first(video):
    """Every frame repeats the first."""
    return video[:1].expand_as(video).clone()


def shuffled(video, seed=3):
    """The interior in another order; the given end frames stay."""
    order = 1 + torch.randperm(len(video) - 2, generator=torch.Generator().manual_seed(seed))
    return video[torch.cat([torch.tensor([0]), order, torch.tensor([len(video) - 1])])]


def pairs(damage=lambda video: video.clone(), *, num_clips=3, **shape):
    return [ClipPair(f"clip{seed}", video, damage(video), "a disc rolls")
            for seed, video in ((seed, drawn_clip(seed, **shape)) for seed in range(num_clips))]
