"""One training from its frozen configuration: networks, task, engines and data are put together here, then the loop has it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from pipeline.errors import UserError
from pipeline.hashing import content_key
from pipeline.records import to_plain
from pipeline.shards import ShardReader
from pipeline.tracking import Tracker
from training.config import EngineName, TaskName, TrainJob
from training.data.caches import FeatureCache
from training.data.loader import heldout_batches, training_batches
from training.diffusion.schedule import Schedule, make_schedule
from training.engine import build_engines
from training.loop import Outcome, train
from training.models.presets import preset_info
from training.networks import Networks, load_animeinterp, load_networks
from training.ranks import Ranks
from training.tasks.animeinterp import Interpolate
from training.tasks.conditions import Encoders
from training.tasks.decoder import Decoder
from training.tasks.denoiser import Denoiser
from training.tasks.rectify import Rectify
from training.tasks.sketch import Sketch
from training.tasks.task import Task


def run(job: TrainJob, run_dir: Path) -> Outcome:
    """Trains, or continues, until the job is done or is asked to stop; the environment says which rank this is."""
    ranks = Ranks.start(job.device, needs_group=job.engine.name is EngineName.DEEPSPEED)
    try:
        expected = job.launch.nodes * job.launch.ranks_per_node
        if ranks.world != expected:
            raise UserError(f"{ranks.world} ranks were started", f"launch.nodes and launch.ranks_per_node ask for {expected}",
                            "Let them agree with your launcher: the batch is split over all ranks")
        task = build_task(job, ranks.device)
        engines = build_engines(task, job, ranks, run_dir)
        heldout = heldout_batches(job, ranks.rank, ranks.world)
        inputs = {"shards": content_key(shards=[shard.sha256 for shard in ShardReader(job.shards or "").shards])}
        tracker = _tracker(job, run_dir, inputs) if ranks.is_first else None
        outcome = train(job, task, engines, lambda step: training_batches(job, ranks.rank, ranks.world, step), lambda: heldout,
                        run_dir, ranks, tracker=tracker, inputs=inputs)
        if tracker is not None:
            if outcome.checkpoint is not None:
                tracker.log_artifact(f"{_run_name(job)}-weights", "model", outcome.checkpoint,
                                     metadata={"step": outcome.step, "samples_seen": outcome.samples_seen, **inputs})
            tracker.finish()
        return outcome
    finally:
        ranks.stop()


def build_task(job: TrainJob, device: torch.device) -> Task:
    """The job's task with all its networks on `device`; UserError where weights are absent or do not fit."""
    if job.task.name is TaskName.ANIMEINTERP:
        return Interpolate(job, load_animeinterp(job, device))
    networks = load_networks(job, device)
    schedule = schedule_of(job)
    if job.task.name is TaskName.DECODER:
        assert networks.discriminator is not None and networks.lpips is not None
        return Decoder(job, _encoders(job, networks), networks.discriminator, networks.lpips)
    assert networks.unet is not None and networks.projector is not None
    denoiser = Denoiser(networks.unet, networks.projector, bypass_temporal=job.task.bypass_temporal)
    if job.task.name is TaskName.RECTIFY:
        return Rectify(job, denoiser, _encoders(job, networks), schedule)
    assert networks.sketch is not None
    return Sketch(job, networks.sketch, denoiser, _encoders(job, networks), schedule)


def schedule_of(job: TrainJob) -> Schedule:
    """The noise schedule that belongs to the job's networks."""
    settings = preset_info(job.model.preset.value).schedule
    return make_schedule(
        timesteps=settings.timesteps, linear_start=settings.linear_start, linear_end=settings.linear_end,
        zero_terminal_snr=settings.zero_terminal_snr, parameterization=settings.parameterization,
        dynamic_rescale=settings.dynamic_rescale, base_scale=settings.base_scale, turning_step=settings.turning_step)


def _tracker(job: TrainJob, run_dir: Path, inputs: Mapping[str, str]) -> Tracker:
    """One run in W&B for one folder, however often it is continued; it names the shards it reads."""
    config = to_plain(job)
    assert isinstance(config, dict)
    # The folder tells two runs of the same settings apart; its bare name is no secret of the machine.
    run_id = content_key(folder=run_dir.resolve().name, seed=job.seed, task=job.task, **inputs)[:16]
    settings = job.tracker
    tracker = Tracker(run_dir, mode=settings.mode.value, project=settings.project, group=settings.group, job_type="train",
                      config=config, name=_run_name(job), run_id=run_id)
    tracker.use_artifact("shards", "dataset", _address(job.shards or ""), metadata=dict(inputs))
    return tracker


def _run_name(job: TrainJob) -> str:
    return job.experiment or job.task.name.value


def _address(place: str) -> str:
    return place if "://" in place else Path(place).resolve().as_uri()


def _encoders(job: TrainJob, networks: Networks) -> Encoders:
    cache = job.data.cache
    folder = Path(cache.folder) if cache.folder is not None else Path(job.out) / "cache"
    precision = job.model.frozen_precision.value

    def kept(wanted: bool, network: str) -> FeatureCache | None:
        parts = {"network": network, "weights": networks.sources.get(network, ""), "precision": precision,
                 "preset": job.model.preset.value}
        return FeatureCache(folder / network, parts) if wanted else None

    return Encoders(networks.first_stage, networks.text, networks.image, job.seed, kept(cache.text, "openclip_text"),
                    kept(cache.latents, "dualref_autoencoder"))
