"""The driver of a curation: identify, survey, score, decide, encode, shard, report; in that order, and nothing twice."""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from curation.clips import Propose
from curation.config import CurateJob, CurationConfig, OverlaysMode
from curation.encode import Encode, EncodedClip, EncodeJob, FailedClip
from curation.executor import Executor, Timing, add_up
from curation.funnel import film_seconds, summarise, write_clips, write_sources
from curation.gates import duplicates, semantic
from curation.gates.credits import MeasureCredits
from curation.label.describe import Describe
from curation.label.draw import SketchJob
from curation.label.embed import load_vectors
from curation.ledger import Clip, Source, SourceRecord, Status, Verdict
from curation.model_stages import ModelStages, versions_of
from curation.overlays import FindOverlays, apply_overlays
from curation.progress import Progress
from curation.repeats import find_repeats
from curation.report import write_report
from curation.sample_archive import draw_archive
from curation.samples import build_sample
from curation.sources import Identify, walk
from curation.split import assign_splits, title_of
from curation.survey import Survey, load_survey
from curation.verdicts import judge
from pipeline.errors import UserError
from pipeline.hashing import content_key
from pipeline.records import write_json
from pipeline.shards import Manifest, ShardInfo, write_manifest, write_shards
from pipeline.store import Store
from pipeline.tracking import Tracker

INTERLACED_SHARE = 0.5       # of the frames a codec marks, or of the looks that show combing
COMB_SHARE = 0.02            # of a look's vertical steps


def curate(job: CurateJob) -> dict[str, Any]:
    """Runs a curation to its end and returns its summary; UserError for what the user can mend."""
    started = time.monotonic()
    out = Path(job.out)
    store = Store(Path(job.store) if job.store else out / "artifacts")
    with _alone(out):
        models = ModelStages.find(job.models, str(store.root))
        archive = job.archive or _draw_sample(job.curation)
        entries = walk(archive, job.curation.sources)
        store.sweep()
        spool = store.root / "spool"
        with Executor(job.curation.executor, job.curation.workers, job.ray) as executor, Progress(len(entries)) as progress:
            run = _Run(job, store, executor, progress, models)
            records, sources = run.identify(entries, spool)
            surveyed, clips = run.survey(sources)
            records = sorted([*records, *surveyed], key=lambda record: record.name)
            clips = run.look_closely(records, clips)
            clips, splits = run.decide(records, clips)
            clips, encoded = run.encode(records, clips, splits)
            shards = run.shard(clips, encoded)
        summary = summarise(records, clips, add_up(run.timings), time.monotonic() - started, not_measured=job.models.not_measured)
        _write_outputs(job, store, records, clips, shards, summary, models)
        shutil.rmtree(spool, ignore_errors=True)
    return summary


class _Run:
    """One curation's steps and what they share."""

    def __init__(self, job: CurateJob, store: Store, executor: Executor, progress: Progress, models: ModelStages) -> None:
        self.job, self.store, self.executor, self.progress, self.models = job, store, executor, progress, models
        self.timings: list[Timing] = []

    def identify(self, entries: Sequence[Any], spool: Path) -> tuple[list[SourceRecord], list[Source]]:
        """Records of what is no source, and the sources; the same bytes are one source, its other names are records."""
        stage = Identify(self.job.curation.sources, str(spool))
        found = sorted(self._run("identify", [stage], entries), key=lambda row: row.name)
        records = [row for row in found if isinstance(row, SourceRecord)]
        first: dict[str, Source] = {}
        for source in (row for row in found if isinstance(row, Source)):
            original = first.setdefault(source.sha256, source)
            if original is not source:
                records.append(SourceRecord(
                    source.name, Status.DUPLICATE, note=f"the same bytes as {original.name}", sha256=source.sha256,
                    num_bytes=source.num_bytes, duplicate_of=original.name,
                    title=title_of(source.name, self.job.curation.split.title_pattern)))
        return records, list(first.values())

    def survey(self, sources: list[Source]) -> tuple[list[SourceRecord], list[Clip]]:
        """Surveys films and measures their clips; rows of a film come as soon as it is done."""
        config, root = self.job.curation, str(self.store.root)
        stages = [Survey(config.survey, config.sources, root),
                  Propose(config.shots, config.clips, self.job.gates, config.split, root, measure_all=config.measure_all),
                  FindOverlays(root), self.models.text(measure_all=config.measure_all), MeasureCredits(root), Describe(root)]
        rows = list(self._run("survey", stages, sources))
        return apply_overlays([row for row in rows if isinstance(row, SourceRecord)],
                              [row for row in rows if isinstance(row, Clip)], config.encode.overlays)

    def look_closely(self, records: list[SourceRecord], clips: list[Clip]) -> list[Clip]:
        """Scores and captions of models, of clips that no cheap gate drops; nothing where no such model is configured.

        After overlays were cut away, because a clip without its subtitles may pass where it did not before.
        """
        config, gates = self.job.curation, self.job.gates
        accesses = {record.name: record.access for record in records if record.access is not None}
        stages = self.models.of_clips(accesses, config.sources, gates, measure_all=config.measure_all)
        if not stages:
            return clips
        if not config.measure_all:
            clips = [replace(clip, verdict=judge(clip, gates)) for clip in clips]
        left = [clip for clip in clips if not clip.is_dropped]
        measured = {clip.key: clip for clip in self._run("models", stages, left)}
        return [measured.get(clip.key, clip) for clip in clips]

    def decide(self, records: list[SourceRecord], clips: list[Clip]) -> tuple[list[Clip], dict[str, str]]:
        """Verdicts of all gates, what repeats, and the split of what is kept: pure functions of the rows."""
        gates = self.job.gates
        clips = [replace(clip, verdict=judge(clip, gates)) for clip in clips]
        matches = duplicates.find_matches(sorted(clips, key=duplicates.rank), gates.duplicates.max_distance)
        groups = duplicates.group_near_duplicates(clips, gates.duplicates, matches)
        seconds = {record.name: film_seconds(record) for record in records}
        repeats = find_repeats(clips, seconds, gates.duplicates.max_distance, matches)
        clips = [replace(clip.with_score(duplicates.GATE, groups[clip.key]), repeat=repeats[clip.key]) for clip in clips]
        vectors = {clip.key: load_vectors(self.store, clip) for clip in clips if clip.embed_key and not clip.is_dropped}
        alike = semantic.find_semantic(clips, vectors, gates.duplicates)
        clips = [clip.with_score(semantic.SCORE, alike[clip.key]) if clip.key in alike else clip for clip in clips]
        groups = semantic.join_groups(groups, alike)
        clips = [replace(clip, verdict=judge(clip, gates) or Verdict.drop("cascade", "a gate did not measure it"))
                 for clip in clips]
        kept = [clip for clip in clips if clip.verdict and clip.verdict.keep]
        splits = assign_splits(kept, groups, self.job.curation.split)
        return [replace(clip, split=splits.get(clip.key, "")) for clip in clips], splits

    def encode(self, records: list[SourceRecord], clips: list[Clip], splits: dict[str, str]
               ) -> tuple[list[Clip], dict[str, EncodedClip]]:
        """Encodes what is kept, source by source; a clip that cannot be encoded is dropped with the reason."""
        config = self.job.curation
        by_name = {record.name: record for record in records}
        jobs = [_encode_job(by_name[name], [clip for clip in clips if clip.source == name and clip.key in splits], self.store)
                for name in sorted({clip.source for clip in clips if clip.key in splits})]
        settings = replace(config.encode, overlays=OverlaysMode.KEEP)      # what it does is in the clips' crops already
        rows = list(self._run("encode", [Encode(settings, config.sources, str(self.store.root))], jobs))
        encoded = {row.key: row for row in rows if isinstance(row, EncodedClip)}
        failed = {row.key: row.error for row in rows if isinstance(row, FailedClip)}

        def outcome(clip: Clip) -> Clip:
            if clip.key not in splits or clip.key in encoded:
                return clip
            error = failed.get(clip.key, "the source could not be decoded again")
            return replace(clip, verdict=Verdict.drop("encode", error), split="")

        return [outcome(clip) for clip in clips], encoded

    def shard(self, clips: list[Clip], encoded: dict[str, EncodedClip]) -> list[ShardInfo]:
        """Writes the shards of both splits in key order, with the sketches of models where they are asked for."""
        kept = [clip for clip in clips if clip.key in encoded and clip.split]
        stages = self.models.of_encoded()
        jobs = [SketchJob(clip.key, encoded[clip.key].artifact_key) for clip in kept]
        sketches = {row.key: row for row in self._run("sketch", stages, jobs)} if stages else {}
        self.progress.stage("shards")
        config, out = self.job.curation.shards, Path(self.job.out)
        shards: list[ShardInfo] = []
        unknown = self.job.models.not_measured
        for split in ("train", "eval"):
            chosen = sorted((clip for clip in clips if clip.key in encoded and clip.split == split), key=lambda clip: clip.key)
            samples = (build_sample(clip, encoded[clip.key], self.store, not_measured=unknown, sketch=sketches.get(clip.key))
                       for clip in chosen)
            shards += write_shards(samples, out, split, max_bytes=int(config.max_mb * 1e6), max_samples=config.max_samples)
        return shards

    def _run(self, name: str, stages: Sequence[Any], rows: Sequence[Any]) -> Iterator[Any]:
        self.progress.stage(name, len(rows))
        for row in self.executor.run(stages, rows):
            self.progress.add(row)
            if isinstance(row, Timing):
                self.timings.append(row)
            else:
                yield row


def _encode_job(record: SourceRecord, clips: list[Clip], store: Store) -> EncodeJob:
    survey = load_survey(store, record.survey_key)
    assert record.access is not None and record.probe is not None
    combed = [look.quality.comb > COMB_SHARE for look in survey.looks]
    interlaced = survey.interlaced > INTERLACED_SHARE or sum(combed) > INTERLACED_SHARE * max(1, len(combed))
    pts = tuple(tuple(int(value) for value in survey.pts[clip.start_frame:clip.end_frame]) for clip in clips)
    return EncodeJob(source=Source(record.name, record.sha256, record.num_bytes, record.access), clips=tuple(clips),
                     frame_pts=pts, probe=record.probe, by_index=survey.pts_repaired, deinterlace=interlaced)


def _write_outputs(job: CurateJob, store: Store, records: list[SourceRecord], clips: list[Clip], shards: list[ShardInfo],
                   summary: dict[str, Any], models: ModelStages) -> None:
    """Everything beside the shards; manifest.json last, since a folder without it is no finished curation."""
    out = Path(job.out)
    write_sources(out / "sources.parquet", records)
    write_clips(out / "clips.parquet", clips, not_measured=job.models.not_measured)
    write_json(out / "summary.json", summary, indent=1)
    text = models.text(measure_all=False)
    versions = {stage.name: stage.version for stage in (Identify, Survey, Propose, FindOverlays)} | {text.name: text.version} | {
        stage.name: stage.version for stage in (MeasureCredits, Describe, Encode)}
    versions |= versions_of([*models.of_clips({}, job.curation.sources, job.gates, measure_all=True), *models.of_encoded()])
    counts = {"sources": len(records), "clips": len(clips), "train": sum(clip.split == "train" for clip in clips),
              "eval": sum(clip.split == "eval" for clip in clips)}
    described = models.described()
    write_report(out / "report.html", records, clips, summary, job.gates, store, title=job.archive or "sample archive",
                 profile=job.profile, not_measured=job.models.not_measured, models=described, versions=versions)
    key = content_key(versions=versions, models=described, sources=sorted(record.sha256 for record in records if record.sha256),
                      gates=asdict(job.gates), curation=_deciding(job.curation))
    _track(job, summary, clips)
    write_manifest(out, Manifest(key=key, shards=shards, counts=counts, models=described, versions=versions))


def _deciding(config: CurationConfig) -> dict[str, Any]:
    """The settings that change what is in the shards: not who does the work, nor where the sample is drawn."""
    return {name: value for name, value in asdict(config).items() if name not in ("executor", "workers", "sample_archive")}


def _track(job: CurateJob, summary: dict[str, Any], clips: list[Clip]) -> None:
    tracker = Tracker(Path(job.out), mode=job.tracker.mode, project=job.tracker.project, group=job.tracker.group,
                      job_type="curate", config=asdict(job.gates))
    kept = summary["kept"]
    tracker.log({"curate/sources": summary["sources"]["found"], "curate/shots": summary["shots"],
                 "curate/clips": summary["clips"], "curate/kept_train": kept["train"], "curate/kept_eval": kept["eval"],
                 **{f"curate/dropped_{gate}": count for gate, count in summary["dropped"].items()},
                 "perf/frames_per_s": summary["frames_per_s"], "perf/wall_s": summary["wall_s"]})
    for gate, field in (("motion", "mean"), ("motion", "drawn_share"), ("quality", "sharpness"), ("text_area", "share")):
        values = [getattr(clip.scores[gate], field) for clip in clips if gate in clip.scores]
        tracker.log_histogram(f"curate/{gate}_{field}", values)
    rows = [[clip.key, clip.source, clip.caption, clip.cadence, clip.verdict.reason if clip.verdict else ""]
            for clip in clips[:: max(1, len(clips) // 64)]]
    tracker.log_table("curate/examples", ["key", "source", "caption", "cadence", "reason"], rows)
    tracker.finish()


def _draw_sample(config: CurationConfig) -> str:
    sample = config.sample_archive
    return str(draw_archive(Path(sample.path), seed=sample.seed, size=sample.size))


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """One curation at a time writes into a folder."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = (out / ".lock").open("w")
    except OSError as error:
        raise UserError(f"out={out} cannot be written", error.strerror or str(error), "Give another folder") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"out={out} is in use", "another curation is writing into it",
                            "Wait for it, or give another folder") from error
        yield
