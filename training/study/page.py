"""Builds the study: page/, a folder to hand out that works without a network, and key.json, which is kept.

An attention check looks like any other comparison: one film and as many copies of it as there are other systems, with
their frames in another order or black. Chosen here: of five films a thoughtless answer is wrong four times in five, of two once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np

from pipeline.errors import UserError
from pipeline.hashing import content_key
from pipeline.records import canonical_json, write_text
from training.study import films
from training.study.config import BuildOptions
from training.study.films import Frames
from training.study.key import BLACK, CLIP, COPY, KEY_FILE, ORIGINAL, QUESTIONS, SCHEMA, SHUFFLED, Key, Trial, read_key, write_key
from training.study.order import shuffled

PAGE_FOLDER, FILM_FOLDER = "page", "films"
TEMPLATE, PLACEHOLDER = "page.html", "{{ study }}"
NAME_DIGITS = 16
MIN_GAIN = 0.5               # grey levels that another order must add to the changes of a film to be seen; chosen here


@dataclass(frozen=True, slots=True)
class Built:
    """A finished study; `left_out` holds clips that are not in all folders, with the systems that lack them."""

    page: Path
    key: Key
    left_out: dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class _Source:
    """A film as it was given; `gain` is by how many grey levels another order of its frames would make it change more."""

    clip: str
    system: str
    place: Path
    shape: tuple[int, ...]
    content: str
    gain: float


@dataclass(frozen=True, slots=True)
class _Film:
    """A film of the page: a source as it is, shuffled (by `scope`) or black."""

    name: str
    label: str
    place: Path
    kind: str = CLIP
    scope: str = ""


def build(options: BuildOptions) -> Built:
    """Writes page/index.html, page/films and key.json under options.out: the same films and options give the same bytes.

    UserError where systems have no clip in common, where their films of a clip differ in size or length, which would tell them
    apart, or where `out` holds another study.
    """
    out = Path(options.out)
    systems = films.find_systems(options.systems)
    _refuse_inside(out, options, systems)
    clips, left_out = _common_clips(systems, options)
    comparisons = [[_source(clip, system, place) for system, place in places.items()] for clip, places in clips.items()]
    for comparison in comparisons:
        _refuse_uneven(comparison)
    sources = [source for comparison in comparisons for source in comparison]
    shown: dict[str, tuple[str, str, list[_Film]]] = {}         # kind, clip and films of each comparison, by its name
    for comparison in comparisons:
        shown[_name(options, "trial", *(source.content for source in comparison))] = (CLIP, comparison[0].clip, [
            # The content is part of the name, or who knows the systems' names could guess which film is whose.
            _Film(_name(options, "film", source.clip, source.system, source.content), source.system, source.place)
            for source in comparison])
    shown |= _checks(sources, len(systems), options)
    key = Key(content_key(schema=SCHEMA, seed=options.seed, fps=options.fps, questions=QUESTIONS, trials=sorted(shown),
                          films=[[source.clip, source.system, source.content] for source in sources])[:NAME_DIGITS],
              tuple(systems), {name: Trial(kind, clip, {film.name: film.label for film in made})
                               for name, (kind, clip, made) in sorted(shown.items())})
    if (out / KEY_FILE).exists() and read_key(out).study != key.study:
        raise UserError(f"out={out} holds another study", "without its key, its answers would be worth nothing",
                        "Give another folder, or the films and options it was built from")
    write_key(out, key)
    for film in (film for _, _, made in shown.values() for film in made):
        films.write_film(out / PAGE_FOLDER / FILM_FOLDER / f"{film.name}.mp4", _frames(film), options.fps)
    write_text(out / PAGE_FOLDER / "index.html", render(key))
    return Built(out / PAGE_FOLDER / "index.html", key, left_out)


def render(key: Key) -> str:
    """The page: names of films and comparisons, sorted, and nothing else of the key."""
    study = {
        "schema": SCHEMA, "study": key.study, "folder": FILM_FOLDER,
        "questions": [{"name": name, "text": text} for name, text in QUESTIONS.items()],
        "trials": [{"id": name, "films": sorted(trial.labels)} for name, trial in sorted(key.trials.items())],
    }
    template = (files("training.study") / TEMPLATE).read_text(encoding="utf-8")
    assert template.count(PLACEHOLDER) == 1
    return template.replace(PLACEHOLDER, canonical_json(study).replace("<", "\\u003c"))


def _common_clips(systems: Mapping[str, Path], options: BuildOptions) -> tuple[dict[str, dict[str, Path]], dict[str, list[str]]]:
    """The chosen clips with each system's film, and clips that are not everywhere with the systems that lack them."""
    found = {system: films.find_clips(folder) for system, folder in systems.items()}
    names = sorted(set().union(*found.values()))
    lacking = {name: [system for system in systems if name not in found[system]] for name in names}
    common = [name for name in names if not lacking[name]]
    if not common:
        shortest = min(systems, key=lambda system: len(found[system]))
        raise UserError(f"systems={options.systems} have no clip in common", f"{shortest} has {len(found[shortest])}",
                        "Name the films of a clip alike in all folders: CLIP.mp4 or CLIP/0001.png")
    chosen = shuffled(common, "clips", str(options.seed))[:options.clips]
    return ({name: {system: found[system][name] for system in systems} for name in sorted(chosen)},
            {name: absent for name, absent in lacking.items() if absent})


def _source(clip: str, system: str, place: Path) -> _Source:
    frames = films.read_frames(place)
    content = films.digest(frames)
    gain = films.change(_reordered(frames, content)) - films.change(frames)
    return _Source(clip, system, place, frames.shape, content, gain)


def _checks(sources: Sequence[_Source], num_films: int, options: BuildOptions) -> dict[str, tuple[str, str, list[_Film]]]:
    """The attention checks, on the films in which another order of frames shows most; different clips while there are any."""
    best: dict[str, _Source] = {}
    for source in sorted(sources, key=lambda source: (-source.gain, source.clip, source.system)):
        best.setdefault(source.clip, source)
    candidates = list(best.values())
    checks: dict[str, tuple[str, str, list[_Film]]] = {}
    for index in range(options.checks):
        kind, source = (SHUFFLED, BLACK)[index % 2], candidates[index % len(candidates)]
        if kind == SHUFFLED and source.gain < MIN_GAIN:
            raise UserError(f"checks={options.checks} cannot be made", "no film moves enough to look worse when it is shuffled",
                            "Give films that move, or checks=0")
        scopes = [f"check {index} {source.content} {number}" for number in range(num_films)]
        names = [_name(options, scope) for scope in scopes]
        checks[_name(options, *scopes)] = (kind, source.clip, [
            _Film(names[0], ORIGINAL, source.place),
            *(_Film(name, COPY, source.place, kind, scope) for name, scope in zip(names[1:], scopes[1:], strict=True))])
    return checks


def _frames(film: _Film) -> Frames:
    frames = films.read_frames(film.place)
    if film.kind == BLACK:
        return np.zeros_like(frames)
    return _reordered(frames, film.scope) if film.kind == SHUFFLED else frames


def _reordered(frames: Frames, scope: str) -> Frames:
    return frames[[int(index) for index in shuffled((str(index) for index in range(len(frames))), scope)]]


def _name(options: BuildOptions, *parts: str) -> str:
    return content_key(seed=options.seed, parts=list(parts))[:NAME_DIGITS]


def _refuse_inside(out: Path, options: BuildOptions, systems: Mapping[str, Path]) -> None:
    """A study among the systems would be taken for one, or for a clip, the next time."""
    read = list(systems.values()) + ([] if "," in options.systems else [Path(options.systems)])
    if any(out.resolve().is_relative_to(folder.resolve()) for folder in read):
        raise UserError(f"out={out} lies inside systems={options.systems}", "it would be taken for a system the next time",
                        "Choose another folder with out=...")


def _refuse_uneven(comparison: Sequence[_Source]) -> None:
    first = comparison[0]
    for other in comparison[1:]:
        if other.shape != first.shape:
            told = ", ".join(f"{source.system} has {source.shape[0]} frames of {source.shape[2]}x{source.shape[1]}"
                             for source in (first, other))
            raise UserError(f"clip {first.clip} is not the same everywhere", f"{told}, which tells them apart",
                            "Cut and scale the films alike, or remove the clip")
