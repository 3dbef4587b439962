"""A curation with profile=paper whose models are tiny: the options that name them, and an archive small enough for a test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from drawn_films import acted, painting
from tiny_models import write_blip2, write_clip, write_craft, write_head, write_raft

from curation.cartoonist.reels import h264, write_video
from curation.config import CurateJob
from pipeline.config import load

PERMISSIVE = ["gates.quality.min_side_px=32", "gates.quality.min_sharpness=0", "gates.text_area.max=1", "gates.credits.max=1",
              "gates.aesthetic.min_mean=-100", "gates.alignment.min_mean=-1", "gates.alignment.min_lowest=-1",
              "gates.duplicates.min_cosine=2"]


def write_weights(folder: Path) -> list[str]:
    """Writes every model of the profile and returns the options that use them."""
    clip, blip2 = write_clip(folder / "clip"), write_blip2(folder / "blip2")
    craft, raft, head = write_craft(folder / "craft.pth"), write_raft(folder / "raft.pth"), write_head(folder / "head.pth")
    return ["models.clip.name=local", f"models.clip.weights={clip}", "models.clip.batch=6",
            f"models.caption.weights={blip2}", "models.caption.max_tokens=5", "models.caption.prompt='a photo of'",
            f"models.text.weights={craft}", "models.text.side_px=128", "models.text.batch=2",
            "models.flow.name=raft_small", f"models.flow.weights={raft}", "models.flow.side_px=128", "models.flow.updates=2",
            "models.flow.batch=4", "models.aesthetic.name=laion_v1", f"models.aesthetic.weights={head}",
            "models.sketch.extractors=[opencv]", "models.sketch.binarise=0.5"]


def draw_films(folder: Path) -> Path:
    """Two films of two shots each, an actor before a scene; one shot lies in both."""
    folder.mkdir(parents=True, exist_ok=True)
    shots = {seed: acted(seed, 24) for seed in (1, 2, 3)}
    for name, seeds in (("first.mkv", (1, 2)), ("second.mkv", (3,))):
        write_video(folder / name, [picture for seed in seeds for picture in shots[seed]], 24, h264(16))
    write_video(folder / "still.mkv", [painting(9)] * 24, 24, h264(16))
    return folder


def paper_job(archive: Path, out: Path, *options: str) -> CurateJob:
    return load(["profile=paper", f"archive={archive}", f"out={out}", "curation.executor=inline", "tracker=disabled",
                 "models.device=cpu", *PERMISSIVE, *options])


def poison(path: Path) -> None:
    """Makes one tensor of a torch file NaN."""
    import torch

    state = torch.load(path, weights_only=True)
    first = next(name for name, value in state.items() if value.is_floating_point() and value.ndim > 1)
    state[first] = torch.full_like(state[first], float(np.nan))
    torch.save(state, path)
