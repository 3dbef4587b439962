"""Small shards and the job that reads them: grey films of 96x64 whose level tells clip and frame apart."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from pipeline.shards import Manifest, Sample, write_manifest, write_shards
from pipeline.tracking import TrackerConfig
from training.config import (
    CacheConfig,
    Checkpointing,
    DataConfig,
    EngineConfig,
    EngineName,
    GanConfig,
    LastLayer,
    LaunchConfig,
    LauncherName,
    LoraConfig,
    ModelConfig,
    OptimConfig,
    Precision,
    Preset,
    RunConfig,
    SketchConfig,
    SketchContext,
    SketchSource,
    TaskConfig,
    TaskName,
    TrainJob,
)


def make_film(levels: list[int], *, width: int = 96, height: int = 64) -> bytes:
    """An mp4 whose frames are grey, with a darker left half, so that a mirrored one is told apart, and a line between."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "1", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 24)
        for index, level in enumerate(levels):
            pixels = np.full((height, width, 3), level, np.uint8)
            pixels[:, : width // 2] = level - 20
            pixels[:, width // 2 - 1 : width // 2 + 1] = 0
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            picture.pts, picture.time_base = index, Fraction(1, 24)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def make_clip(index: int, *, num_frames: int = 12, width: int = 96, height: int = 64, sketches: bool = False,
              holds: tuple[int, ...] = ()) -> Sample:
    """Clip `index`: frame f has the level 50 + (10 * index + 5 * f) % 200."""
    levels = [50 + (10 * index + 5 * frame) % 200 for frame in range(num_frames)]
    record = {"schema": 1, "fps": 24.0, "holds": holds or (1,) * num_frames, "width": width, "height": height,
              "captions": [{"text": f"clip {index}", "model": "none"}]}
    files = {"mp4": make_film(levels, width=width, height=height), "txt": f"clip {index}".encode(),
             "json": json.dumps(record).encode()}
    if sketches:
        drawings = np.full((num_frames, height, width), 255, np.uint8)
        for frame in range(num_frames):
            drawings[frame, :, 4 * frame] = 0            # a line that moves with the frame
        buffer = io.BytesIO()
        np.savez_compressed(buffer, sketch=drawings)
        files["sketch.npz"] = buffer.getvalue()
    return Sample(f"clip-{index:02d}", files)


def changed(sample: Sample, files: Mapping[str, bytes | None]) -> Sample:
    """The sample with other contents of some members, or without those that are None."""
    merged = {**sample.files, **files}
    return replace(sample, files={name: data for name, data in merged.items() if data is not None})


def write_data_set(folder: Path, train: list[Sample], held_out: list[Sample] = ()) -> Path:
    shards = write_shards(train, folder, "train", max_bytes=10**8, max_samples=3)
    shards += write_shards(held_out, folder, "eval", max_bytes=10**8, max_samples=3)
    write_manifest(folder, Manifest("key", shards))
    return folder


def make_job(shards: Path | str | None, out: Path, *, task: TaskName = TaskName.RECTIFY, seed: int = 5, global_batch: int = 8,
             micro_batch: int = 2, condition_drop: float = 0.1, zero_gate: bool = False, **data: object) -> TrainJob:
    """Four frames of 64x64 at strides 1 to 3; `data` are fields of DataConfig."""
    settings: dict[str, object] = {
        "num_frames": 4, "size": "64x64", "buckets": [], "stride_min": 1, "stride_max": 3, "drawings": False, "fps_max": 0.0,
        "flip": 0.5, "sketch_source": SketchSource.SAMPLE, "num_workers": 0, "num_heldout": 5, "num_previews": 1,
        "cache": CacheConfig(text=False, latents=False), **data}
    optim = OptimConfig(learning_rate=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, grad_clip=0.0, warmup_steps=0,
                        ema_decay=0.0)
    return TrainJob(
        shards=None if shards is None else str(shards), out=str(out), seed=seed, device="cpu",
        task=TaskConfig(name=task, num_steps=1, global_batch=global_batch, train_groups=[], bypass_temporal=False,
                        condition_drop=condition_drop, offset_noise=0.0, optim=optim,
                        lora=LoraConfig(rank=0, alpha=1.0, merge_on_export=True),
                        gan=GanConfig(lpips_weight=0.1, disc_weight=0.5, disc_learning_rate=1e-3, disc_start=0, adv_start=0,
                                      last_layer=LastLayer.CONV_OUT, use_references=True, use_temporal=True),
                        sketch=SketchConfig(context=SketchContext.TEXT, zero_gate=zero_gate, bisection_share=0.8)),
        model=ModelConfig(preset=Preset.TINY, frozen_precision=Precision.FP32, checkpointing=Checkpointing.NONE, compile=False),
        data=DataConfig(**settings),
        engine=EngineConfig(name=EngineName.PLAIN, zero=0, precision=Precision.FP32, micro_batch=micro_batch,
                            cpu_offload=False),
        launch=LaunchConfig(name=LauncherName.LOCAL, nodes=1, ranks_per_node=1, master_port=29500, time_limit="1:00:00",
                            grace_s=60, forward_env=[], dry_run=False),
        run=RunConfig(log_every=1, heldout_every=1, preview_every=1, preview_ddim_steps=1, save_every=1, save_minutes=0.0,
                      keep_last=2, keep_every=0),
        tracker=TrackerConfig(mode="disabled", project="tests", group=None))
