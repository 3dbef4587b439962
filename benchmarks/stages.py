"""What is timed: a bare decode, the survey alone, and a whole curation in one process with one thread.

Every pass begins with an empty store in a folder of its own. The curation is the driver's own with the inline executor; its
stages are found as they run, so a new one has its row at once. Only the text reader is built beforehand, so that no stage
pays for starting it.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import av
import cv2
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import webdataset  # noqa: F401 - the first shard would pay for it

import curation.survey as survey_module
from benchmarks.meter import Meter, Place, Usage
from curation import cascade
from curation.bars import BarsMeter
from curation.config import CurateJob, ExecutorName
from curation.decode import FileWindow, FilmReader, UnreadableSource
from curation.executor import Executor
from curation.gates import text_area
from curation.ledger import Access, Probe, Source
from curation.models.rapidocr import TextReader
from curation.motion import FlowMeter
from curation.progress import Progress
from curation.signals import FrameMeter
from curation.sources import Identify, walk
from curation.stage import Stage
from curation.survey import Survey
from pipeline.shards import read_manifest
from pipeline.tracking import TrackerMode

STEPS: dict[str, Sequence[Place]] = {      # of the driver; stages are found as they run
    "scoring": [(cascade._Run, "survey"), (cascade._Run, "decide")],
    "decide": [(cascade._Run, "decide")],
    "shards": [(cascade._Run, "shard")],
    "report": [(cascade, "write_report")],
}
PARTS: dict[str, Sequence[Place]] = {      # of the survey, then of text_area
    "decode": [(FilmReader, "__enter__"), (FilmReader, "frames")],
    "signals": [(FrameMeter, "measure")],
    "flow": [(FlowMeter, "measure"), (FrameMeter, "last_two")],
    "looks": [(survey_module, "measure_look"), (survey_module, "encode_look"), (BarsMeter, "add")],
    "reading": [(TextReader, "read_text")],
}


@dataclass(frozen=True, slots=True)
class Film:
    """A source that can be decoded."""

    source: Source
    probe: Probe


@dataclass(frozen=True, slots=True)
class WholePass:
    """One curation: usages of its stages in the order they began, of the parts of some, and what there was to do."""

    stages: dict[str, Usage]
    parts: dict[str, Usage]
    num_frames: int                    # decoded by the survey
    num_kept_frames: int               # encoded
    shard_bytes: int


def find_films(job: CurateJob, archive: str, folder: Path) -> list[Film]:
    """The sources that a reader opens, in order of their names; members of archives are unpacked into `folder`."""
    limits = job.curation.sources
    stage = Identify(limits, str(folder))
    rows = [row for entry in walk(archive, limits) for row in stage([entry])[0]]
    sources = {row.sha256: row for row in reversed(rows) if isinstance(row, Source)}     # the same bytes are one source
    films: list[Film] = []
    for source in sorted(sources.values(), key=lambda source: source.name):
        reader = FilmReader(source.access, picture_fps=limits.picture_fps, max_pixels=limits.max_pixels)
        try:
            with reader:
                films.append(Film(source, reader.probe))
        except UnreadableSource:
            continue
    return films


def decode_bare(films: Sequence[Film]) -> tuple[Usage, dict[str, tuple[int, float]]]:
    """PyAV and nothing else, one thread. Returns the whole, and frames and CPU-seconds of each film by name."""
    meter, by_film = Meter(with_memory=True), {}
    gc.collect()
    with meter.measure("bare"):
        for film in films:
            cpu = time.process_time()
            num_frames = sum(_decode(access) for access in _files(film.source.access))
            by_film[film.source.name] = (num_frames, time.process_time() - cpu)
    return meter.usages["bare"], by_film


def survey_alone(job: CurateJob, films: Sequence[Film], folder: Path) -> tuple[Usage, int]:
    """Decode, small signals, looks and bars, without flow. Returns its usage and the frames surveyed."""
    meter = Meter(with_memory=True)
    stage = Survey(job.curation.survey, job.curation.sources, str(folder / "store"))
    stage.setup()
    gc.collect()
    with mock.patch.object(survey_module, "FLOW_FROM", float("inf")), meter.measure("survey_alone"):
        records = [stage.survey(film.source) for film in films]
    return meter.usages["survey_alone"], sum(record.num_frames for record in records)


def curate_whole(job: CurateJob, archive: str, folder: Path, reader: TextReader) -> WholePass:
    """A curation with everything but W&B: its own driver in this process, watched."""
    out = folder / "out"
    inline = replace(job, archive=archive, out=str(out), store=None, tracker=replace(job.tracker, mode=TrackerMode.DISABLED),
                     curation=replace(job.curation, executor=ExecutorName.INLINE, workers=1))
    steps, parts, run = Meter(with_memory=True), Meter(time.thread_time), Executor.run

    def run_watched(executor: Executor, stages: Sequence[Stage], rows: Sequence[Any]) -> Iterator[Any]:
        of_survey = PARTS if any(stage.name == Survey.name for stage in stages) else {}
        with steps.watching({stage.name: [(type(stage), "__call__")] for stage in stages}), parts.watching(of_survey):
            yield from run(executor, stages, rows)

    gc.collect()
    with (steps.watching(STEPS), mock.patch.object(Executor, "run", run_watched),
          mock.patch.object(text_area, "TextReader", lambda: reader),
          mock.patch.object(cascade, "Progress", lambda total: Progress(total, quiet=True))):
        cascade.curate(inline)
    sources = pq.read_table(out / "sources.parquet", columns=["frames"])
    kept = pq.read_table(out / "clips.parquet", columns=["frames", "split"]).filter(pc.field("split") != "")
    return WholePass(steps.usages, parts.usages, pc.sum(sources["frames"]).as_py() or 0, pc.sum(kept["frames"]).as_py() or 0,
                     sum(shard.bytes for shard in read_manifest(out).shards))


def start_reader() -> tuple[TextReader, Usage]:
    """The text reader with what its start took: imports, models, and a first reading, which is slower than the others."""
    meter = Meter()
    page = np.full((288, 512, 3), 255, np.uint8)
    cv2.putText(page, "THE END", (90, 160), cv2.FONT_HERSHEY_SIMPLEX, 2.5, (0, 0, 0), 6)
    with meter.measure("start"):
        reader = TextReader()
        reader.read_text(page)
    return reader, meter.usages["start"]


def _files(access: Access) -> list[Access]:
    """A film's own file, or each picture of a folder."""
    return [Access(str(Path(access.path, name))) for name in access.pictures] or [access]


def _decode(access: Access) -> int:
    """Decodes every frame of a file and drops it; broken packets are passed over. Returns how many there were."""
    num_frames = 0
    opened = access.path if access.offset is None else FileWindow(access.path, access.offset, access.length)
    with av.open(opened, "r") as film:
        stream = film.streams.video[0]
        stream.codec_context.thread_count = 1
        for packet in film.demux(stream):
            try:
                num_frames += len(packet.decode())
            except av.FFmpegError:
                continue
    return num_frames
