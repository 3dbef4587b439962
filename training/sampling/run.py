"""One rank of a sampling: its share of the films is drawn clip by clip and written, with what it was made of in sample.json.

A film is finished when its sample.json is there, which is written last; it holds a key of everything that changes the film, and a
film with the same key is not drawn again. So the same command continues whatever stopped it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from pipeline.errors import EXIT_OK, EXIT_STOPPED, UserError
from pipeline.hashing import content_key, file_digest
from pipeline.records import Json, read_json, to_plain, write_json
from training.models.presets import preset_info
from training.ranks import Ranks
from training.sampling.config import OWN_SIZE, EmbeddedPicture, SampleJob
from training.sampling.inputs import Pixels, fit, read_picture
from training.sampling.jobs import Request, share
from training.sampling.long import clip_ends, clip_frames, clip_seed, join
from training.sampling.outputs import write_film
from training.sampling.progress import progress
from training.sampling.sampler import Clip, Key, Sampler
from training.sampling.sketches import hints, numbered_files, read_sketches
from training.sampling.weights import Source, find_sources, load_networks, print_table
from training.stop import StopRequest

RECORD, SCHEMA = "sample.json", 1
# What is not part of a film's key, because the film does not depend on it (or only through what the key has itself).
NO_PART = {
    "first": "its bytes are", "last": "its bytes are", "keys": "their bytes are", "jobs": "each film has its own key",
    "out": "a place", "device": "a place", "ranks": "a place", "prompt": "the film's own is", "fps": "the film's own is",
    "seed": "the film's own is", "size": "the resolved one is", "networks": "digests of the weights are",
    "sketch.folder": "their bytes are", "sketch.sheet": "its bytes are", "sketch.sheet_frames": "the film's own are",
    "memory.batch": "the same to rounding", "memory.offload": "the same", "memory.attention_frames": "the same to rounding",
}


class Stopped(Exception):
    """Somebody asked to stop."""


@dataclass(slots=True)
class Film:
    """A film in the making. `clips` and `joints` are filled in order."""

    request: Request
    record: dict[str, Json]
    clips: list[Pixels] = field(default_factory=list)
    joints: list[Pixels] = field(default_factory=list)

    @property
    def num_clips(self) -> int:
        return len(clip_ends(len(self.request.keys)))


def run(job: SampleJob, requests: Sequence[Request], console: Console) -> int:
    """Draws this rank's share of the films; returns the exit code. UserError where weights are absent or a picture is damaged."""
    ranks = Ranks.start(job.device)
    try:
        sources = find_sources(job.networks, with_sketches=any(request.has_sketches for request in requests))
        if ranks.is_first:
            print_table(sources, console)
        films = [Film(request, film_record(job, request, sources)) for request in share(requests, ranks.rank, ranks.world)]
        waiting = [film for film in films if not _is_done(_folder(job, film.request), film.record["key"])]
        if len(waiting) < len(films):
            console.print(f"{len(films) - len(waiting)} of {len(films)} films are there already", highlight=False)
        if not waiting:
            return EXIT_OK
        sampler = Sampler(load_networks(job.networks, sources, job.memory.precision), job, ranks.device)
        with StopRequest(Path(job.out), watches_file=True) as stop:
            try:
                who = f"rank {ranks.rank}, " if ranks.world > 1 else ""
                _draw_films(job, sampler, waiting, stop, console, who)
            except Stopped:
                console.print("stopped as asked; the same command continues", highlight=False)
                return EXIT_STOPPED
        return EXIT_OK
    finally:
        ranks.stop()


def film_size(job: SampleJob) -> tuple[int, int]:
    """(width, height): as given, or what the networks were made for, rounded up to multiples of 64."""
    if job.size != OWN_SIZE:
        width, _, height = job.size.partition("x")
        return int(width), int(height)
    info = preset_info(job.networks.preset.value)
    return math.ceil(info.width_px / 64) * 64, math.ceil(info.height_px / 64) * 64


def film_record(job: SampleJob, request: Request, sources: Sequence[Source]) -> dict[str, Json]:
    """What sample.json says before there is a film: settings, seeds, digests and the key of them all."""
    width, height = film_size(job)
    sketches: dict[str, Json] = {}
    if request.sketches is not None:
        files = numbered_files(request.sketches, request.film_length)
        sketches = {str(frame): _file(path) for frame, path in sorted(files.items())}
    if request.sheet is not None:
        sketches = {"sheet": _file(request.sheet), "sheet_frames": list(request.sheet_frames)}
    uses_sketches = request.has_sketches
    parts: dict[str, Json] = {
        "size": f"{width}x{height}", "prompt": request.prompt, "fps": request.fps, "seed": request.seed,
        "clip_seeds": [clip_seed(request.seed, clip) for clip in range(len(clip_ends(len(request.keys))))],
        "keys": [_file(path) for path in request.keys], "sketches": sketches,
        "weights": [source.record() for source in sources if uses_sketches or source.network != "sketch_encoder"],
        "networks": {"preset": job.networks.preset.value, "sketch_context": job.networks.sketch_context.value},
        "settings": _without(to_plain(job), "", NO_PART)}
    return {"schema": SCHEMA, "key": content_key(**parts), "num_frames": request.film_length, **parts}


def to_bytes(pictures: Tensor) -> Pixels:
    """[3, ..., H, W] in [-1, 1] to [..., H, W, 3] uint8, rounded (the public program cuts off)."""
    return ((pictures.clamp(-1, 1) + 1) * 127.5).round().byte().movedim(0, -1).numpy()


def _draw_films(job: SampleJob, sampler: Sampler, films: Sequence[Film], stop: StopRequest, console: Console, who: str) -> None:
    num_clips, drawn = sum(film.num_clips for film in films), 0
    for batch in _batches(job, films):
        clips = [clip for _, clip in batch]
        these = f"clip {drawn + 1}" if len(clips) == 1 else f"clips {drawn + 1}-{drawn + len(clips)}"
        label = f"{who}{these} of {num_clips}"
        latents = _draw_batch(sampler, clips, label, stop, console)
        with progress(console, f"{label}: decoded", len(clips)) as advance:
            for (film, clip), z in zip(batch, latents, strict=True):
                film.clips.append(to_bytes(sampler.decode(z, clip)))
                if len(film.clips) < film.num_clips:
                    film.joints.append(to_bytes(sampler.reconstruct(clip.last)))
                else:
                    _write(job, film, console)
                advance()
        drawn += len(clips)
        if stop.requested() and drawn < num_clips:
            raise Stopped


def _draw_batch(sampler: Sampler, clips: Sequence[Clip], label: str, stop: StopRequest, console: Console) -> Tensor:
    with progress(console, f"{label}: steps", sampler.num_steps) as advance:
        def on_step() -> None:
            advance()
            if stop.requested():
                raise Stopped

        return sampler.draw(clips, on_step)


def _write(job: SampleJob, film: Film, console: Console) -> None:
    folder = _folder(job, film.request)
    (folder / RECORD).unlink(missing_ok=True)           # from here on it is no longer the earlier film
    files = write_film(folder, join(film.clips, film.joints), job.output)
    write_json(folder / RECORD, {**film.record, "files": list(files)}, indent=1)
    film.clips, film.joints = [], []
    formats = ", ".join(job.output.formats)
    console.print(f"{folder}: {film.request.film_length} frames, {formats}", highlight=False, soft_wrap=True)


def _batches(job: SampleJob, films: Sequence[Film]) -> Iterator[list[tuple[Film, Clip]]]:
    """Clips in the order of the films, as many at once as is asked for; those with sketches and those without stay apart."""
    batch: list[tuple[Film, Clip]] = []
    for film in films:
        for clip in make_clips(job, film.request):
            if batch and (len(batch) == job.memory.batch or (batch[0][1].hints is None) != (clip.hints is None)):
                yield batch
                batch = []
            batch.append((film, clip))
    if batch:
        yield batch


def make_clips(job: SampleJob, request: Request) -> Iterator[Clip]:
    """The clips of a film, their pictures read; key frames are read once each."""
    width, height = film_size(job)
    strokes = read_sketches(folder=request.sketches, sheet=request.sheet, wanted=request.sheet_frames,
                            num_frames=request.film_length, lines=job.sketch.lines)
    keys: dict[int, Key] = {}
    for number, ends in enumerate(clip_ends(len(request.keys))):
        for index in ends:
            if index not in keys:
                keys[index] = _key(job, request, index, width, height)
        shown, guided = None, None
        if request.has_sketches:
            found, which = hints(strokes, clip_frames(number, request.num_frames), width=width, height=height,
                                 pad=job.framing.pad, invert=job.sketch.invert)
            shown, guided = torch.from_numpy(found), torch.from_numpy(which)
        yield Clip(keys[ends[0]], keys[ends[1]], request.num_frames, request.prompt, request.fps,
                   clip_seed(request.seed, number), shown, guided)
        keys.pop(ends[0] if ends[0] != ends[1] else -1, None)


def _key(job: SampleJob, request: Request, index: int, width: int, height: int) -> Key:
    picture = read_picture(request.keys[index], "key frame")
    cropped = fit(picture, width=width, height=height, pad=job.framing.pad)
    shown = picture if job.framing.embedded is EmbeddedPicture.ORIGINAL else cropped
    return Key(_signed(cropped), _signed(shown), request.seed, index)


def _signed(pixels: Pixels) -> Tensor:
    """[H, W, 3] uint8 to [3, H, W] float32 in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).float() / 127.5 - 1


def _folder(job: SampleJob, request: Request) -> Path:
    return Path(job.out) / request.name if request.name else Path(job.out)


def _is_done(folder: Path, key: Json) -> bool:
    try:
        record = read_json(folder / RECORD, SCHEMA)
    except UserError:
        return False
    files = record.get("files")
    return record.get("key") == key and isinstance(files, list) and all((folder / str(name)).is_file() for name in files)


def _file(path: Path) -> dict[str, Json]:
    return {"file": path.name, "sha256": file_digest(path)}


def _without(record: Json, prefix: str, names: dict[str, str]) -> Json:
    """A record without the fields of these full names."""
    if not isinstance(record, dict):
        return record
    return {name: _without(value, f"{prefix}{name}.", names) for name, value in record.items() if f"{prefix}{name}" not in names}
