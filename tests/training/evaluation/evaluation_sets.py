"""Tiny held-out shards and triplets, and jobs that evaluate on them: a bright square moving over flat paint."""

import io
import json
from fractions import Fraction

import av
import numpy as np
from PIL import Image
from rich.console import Console

from pipeline.config import EVALUATE, load
from pipeline.shards import Manifest, Sample, write_manifest, write_shards
from training.evaluation.run import run

SMALL = ("networks=tiny", "size=64x64", "num_frames=10", "weights=embedded", "sampler.steps=2", "memory.precision=fp32",
         "device=cpu", "tracker=disabled", "num_films=1", "replicates=20", "systems=[repeat,crossfade]",
         "metrics=[psnr@interior]", "strata=[]")


def moving_square(num_frames, *, seed=0, side_px=64, speed=2):
    """[t, h, w, 3] uint8."""
    rng = np.random.default_rng(seed)
    paint, square = rng.integers(0, 120, 3), rng.integers(130, 256, 3)
    frames = np.empty((num_frames, side_px, side_px, 3), np.uint8)
    frames[:] = paint
    for index in range(num_frames):
        left = 6 + speed * index
        frames[index, 20:40, left:left + 20] = square
    return frames


def film(frames):
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "4", "preset": "ultrafast"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for index, pixels in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            picture.pts, picture.time_base = index, Fraction(1, 24)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def clip(index, *, num_frames=12, **record):
    facts = {"schema": 1, "fps": 24.0, "holds": [1] * num_frames, "title": f"film {index % 2}", "cadence": "twos",
             "captions": [{"text": "a square", "model": "none"}],
             "scores": {"motion": {"kind": "drawn", "mean": 0.01 * (index + 1)}}, **record}
    frames = moving_square(num_frames, seed=index, speed=1 + index % 3)
    return Sample(f"clip-{index:02d}", {"mp4": film(frames), "txt": b"a square", "json": json.dumps(facts).encode()})


def write_heldout(folder, num_clips=3, samples=None):
    shards = write_shards(samples or [clip(index) for index in range(num_clips)], folder, "eval", max_bytes=10**8, max_samples=2)
    write_manifest(folder, Manifest("key", shards))
    return folder


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def write_atd12k(root, names=("Japan_v1_0_001_s2", "Disney_v4_8_002_s1"), *, width=96, height=54):
    """Triplets as ATD-12K lays them out; annotations in native pixels, twice as large."""
    for place, name in enumerate(names):
        folder = root / "test_2k_540p" / name
        folder.mkdir(parents=True)
        frames = moving_square(3, seed=place, side_px=96, speed=8)[:, :height, :width]
        for number, pixels in enumerate(frames, 1):
            Image.fromarray(pixels).save(folder / f"frame{number}.png")
        notes = root / "test_2k_annotations" / name
        notes.mkdir(parents=True)
        record = {"image_size": [2 * width, 2 * height], "motion_RoI": {"x": 10, "y": 30, "width": 80, "height": 60},
                  "level": place, "behavior": "walking", "more": [1]}
        (notes / f"{name}.json").write_text(json.dumps(record))
    return root


def make_job(*overrides):
    return load([*SMALL, *map(str, overrides)], EVALUATE)


def evaluate(*overrides):
    """Exit code, what was printed."""
    job = make_job(*overrides)
    console = Console(record=True, width=250, force_terminal=False, file=io.StringIO())
    return run(job, console), console.export_text()


def results(out):
    return json.loads((out / "results.json").read_text())


def numbers(out, system, table=0):
    """The numbers of a system's measured row by column."""
    rows = results(out)["tables"][table]["rows"]
    return next(row["numbers"] for row in rows if row["system"] == system and row["source"] == "measured")
