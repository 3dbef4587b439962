"""A film: shots spliced by cuts, fades, dissolves and wipes, with the truth about every picture kept beside it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import cv2
import numpy as np

from curation.cartoonist.ink import Picture
from curation.cartoonist.shots import FPS, Beat, Shot, Studio, draw_shot

FRAME_INDEX = ("0-based, in the order of the file; a hard cut is the index of the FIRST frame of the new shot; "
               "start and end of shots, gradual changes and flashes are both inclusive")
_DRAWN = ("walk", "talk", "ball", "dance", "sail", "opening")
_TRANSITION_FRAMES = {"fade": 14, "dissolve": 16, "wipe": 14}
_LOW, _MEDIUM = 1.2, 4.5                   # mean change of luma a frame, in levels; chosen here


@dataclass(frozen=True, slots=True)
class Script:
    """What a film consists of."""

    title: str
    series: str                            # films of one series share cast, places and opening
    beats: tuple[Beat, ...]
    bars: str = ""                         # "letterbox": 2.2 to 1 in the picture; "pillarbox": 4 to 3
    instants: int = 1                      # pictures drawn per 1/24 s; 2 where fields are to be woven


@dataclass(slots=True)
class Film:
    """Pictures with their truth. `bars` is the rectangle x, y, width, height of the content."""

    title: str
    frames: list[Picture]
    fps: int
    shots: list[dict[str, Any]] = field(default_factory=list)
    hard_cuts: list[int] = field(default_factory=list)
    gradual: list[dict[str, Any]] = field(default_factory=list)
    flashes: list[dict[str, Any]] = field(default_factory=list)
    ambiguous: list[dict[str, Any]] = field(default_factory=list)
    bars: tuple[int, int, int, int] = (0, 0, 0, 0)

    @property
    def new_drawing(self) -> list[int]:
        """1 where a picture differs from the one before it, exactly as drawn; the first counts as new."""
        pairs = pairwise(self.frames)
        return [1, *(int(before is not after and not np.array_equal(before, after)) for before, after in pairs)]


def draw_film(script: Script, *, seed: int, size: tuple[int, int], name: str = "") -> Film:
    """Draws one film of `size` (width, height). `name` tells apart films of one series."""
    content = _content(script.bars, size)
    studio = Studio(script.series, seed, content[2:])
    rng = studio.rng("film", name or script.title)
    beats = _shuffled(script.beats, rng)
    film = Film(script.title, [], FPS * script.instants, bars=content)
    place = ("", "")
    for number, beat in enumerate(beats):
        # The opening is drawn from the series alone, so that all its films begin with the same pictures.
        own = studio.rng("opening") if beat.kind == "opening" else rng
        shot = draw_shot(studio, beat, own, title=script.title, instants=script.instants, avoid=place)
        place = shot.place
        _splice(film, shot, script.instants)
        film.shots[-1]["id"] = number
    _fade(film, len(film.frames) - 14 * script.instants, len(film.frames), is_in=False)
    film.frames = _framed(film.frames, content, size)
    _measure(film)
    return film


def retime(film: Film, sources: list[int], frames: list[Picture], fps: int) -> Film:
    """The same film with other frames: new frame j shows what old frame sources[j] showed. `sources` rises."""
    order = np.array(sources)

    def first(index: int) -> int:
        return min(int(np.searchsorted(order, index)), len(order) - 1)

    def span(row: dict[str, Any]) -> dict[str, Any]:
        start = first(row["start"])
        return {**row, "start": start, "end": max(start, int(np.searchsorted(order, row["end"], side="right")) - 1)}

    shots = [span(row) for row in film.shots]
    for row, following in pairwise(shots):
        row["end"] = following["start"] - 1
    changed = replace(film, frames=frames, fps=fps, shots=shots, hard_cuts=[first(cut) for cut in film.hard_cuts],
                      gradual=[span(row) for row in film.gradual], flashes=[span(row) for row in film.flashes],
                      ambiguous=[span(row) for row in film.ambiguous])
    _measure(changed)
    return changed


def weave(film: Film) -> Film:
    """Interlaced frames, top field first: even rows of one instant, odd rows of the next. Half as many frames."""
    woven = []
    for first, second in zip(film.frames[::2], film.frames[1::2], strict=True):
        frame = first.copy()
        frame[1::2] = second[1::2]
        woven.append(frame)
    changed = retime(film, list(range(0, len(film.frames), 2)), woven, film.fps // 2)
    for row in changed.shots:
        if row["drawn"]:                   # what was drawn on fields has no even exposure in frames
            row["cadence"] = "ones" if row["measured"]["still_frame_fraction"] < 0.1 else "mixed"
    return changed


def thin(film: Film, max_hold_s: float = 0.5) -> tuple[Film, list[int]]:
    """Drops repeats of held drawings, so that frames last unequally long; also returns the kept frames' old indexes."""
    kept: list[int] = []
    for index, is_new in enumerate(film.new_drawing):
        if is_new or index - kept[-1] >= max_hold_s * film.fps:
            kept.append(index)
    return retime(film, kept, [film.frames[index] for index in kept], film.fps), kept


def describe(film: Film) -> dict[str, Any]:
    """The truth of a film as plain data, without what only its file knows."""
    height, width = film.frames[0].shape[:2]
    x, y, wide, high = film.bars
    return {
        "title": film.title, "width": width, "height": height, "fps": film.fps, "frames": len(film.frames),
        "frame_index": FRAME_INDEX, "hard_cuts": film.hard_cuts, "gradual": film.gradual, "flashes": film.flashes,
        "ambiguous": film.ambiguous, "shots": film.shots, "new_drawing": film.new_drawing,
        "bars": {"x": x, "y": y, "width": wide, "height": high},
    }


def _shuffled(beats: tuple[Beat, ...], rng: np.random.Generator) -> list[Beat]:
    """Beats with jittered lengths in another order; titles, credits and the ways of joining stay where they are."""
    movable = [k for k, beat in enumerate(beats) if not beat.kind.startswith(("opening", "title", "credits"))]
    order = list(range(len(beats)))
    for slot, source in zip(movable, rng.permutation(movable), strict=True):
        order[slot] = int(source)
    changed = []
    for slot, source in enumerate(order):
        stretch = rng.uniform(1.0, 1.12) if beats[source].kind == "static" else rng.uniform(0.86, 1.14)
        if beats[source].kind == "opening":
            stretch = 1.0
        changed.append(replace(beats[source], seconds=beats[source].seconds * float(stretch), join=beats[slot].join))
    return changed


def _content(bars: str, size: tuple[int, int]) -> tuple[int, int, int, int]:
    width, height = size
    wide = round(height * 4 / 3 / 4) * 4 if bars == "pillarbox" else width
    high = round(width / 2.2 / 4) * 4 if bars == "letterbox" else height
    return (width - wide) // 4 * 2, (height - high) // 4 * 2, wide, high


def _splice(film: Film, shot: Shot, instants: int) -> None:
    join = shot.beat.join
    count = _TRANSITION_FRAMES.get(join, 0) * instants
    begin = start = len(film.frames)
    if not film.frames:
        film.frames = list(shot.frames)
        if join == "fade":
            _fade(film, 0, count, is_in=True)
    elif join == "cut":
        film.hard_cuts.append(start)
        film.frames += shot.frames
    elif join == "fade":
        _fade(film, start - count, start, is_in=False)
        film.frames += shot.frames
        _fade(film, start, start + count, is_in=True)
    else:
        begin = start - count
        start = begin + count // 2
        film.gradual.append({"type": join, "start": begin, "end": begin + count - 1})
        for k in range(count):
            film.frames[begin + k] = _between(film.frames[begin + k], shot.frames[k], (k + 1) / (count + 1), join)
        film.frames += shot.frames[count:]
    if film.shots:
        film.shots[-1]["end"] = start - 1
    beat = shot.beat
    film.shots.append({
        "id": 0, "start": start, "end": len(film.frames) - 1, "motion": "", "static": False, "text": shot.text,
        "text_share": round(shot.text_share, 4), "camera": beat.camera, "drawn": beat.kind in _DRAWN,
        "kind": "credits" if beat.kind.startswith("credits") else beat.kind, "cadence": _cadence(beat),
                       "description": shot.description,
    })
    film.flashes += [{"start": begin + first, "end": begin + last} for first, last in shot.flashes]
    film.ambiguous += [{"start": begin + first, "end": begin + last, "note": note} for first, last,
                       note in shot.ambiguous]


def _cadence(beat: Beat) -> str:
    if beat.kind in ("static", "title", "credits_pages"):
        return "hold" if beat.camera == "none" else "ones"
    if beat.kind in ("still_pan", "credits_roll"):
        return "ones"
    return "mixed" if beat.camera != "none" and beat.step != "ones" else beat.step


def _between(old: Picture, new: Picture, share: float, join: str) -> Picture:
    if join == "dissolve":
        return cv2.addWeighted(old, 1 - share, new, share, 0).astype(np.uint8, copy=False)
    picture = old.copy()
    edge = round(share * old.shape[1])
    picture[:, :edge] = new[:, :edge]
    return picture


def _fade(film: Film, start: int, end: int, *, is_in: bool) -> None:
    """Frames start..end-1 come from black, or go to it; the black end is entirely black."""
    film.gradual.append({"type": "fade_in" if is_in else "fade_out", "start": start, "end": end - 1})
    for k in range(end - start):
        light = k / (end - start) if is_in else 1 - (k + 1) / (end - start)
        film.frames[start + k] = cv2.convertScaleAbs(film.frames[start + k], alpha=light).astype(np.uint8, copy=False)


def _framed(frames: list[Picture], content: tuple[int, int, int, int], size: tuple[int, int]) -> list[Picture]:
    x, y, wide, high = content
    if (wide, high) == size:
        return frames
    framed: list[Picture] = []
    for index, frame in enumerate(frames):
        if index and frame is frames[index - 1]:
            framed.append(framed[-1])
            continue
        picture = np.zeros((size[1], size[0], 3), np.uint8)
        picture[y:y + high, x:x + wide] = frame
        framed.append(picture)
    return framed


def _measure(film: Film) -> None:
    """Labels every shot with its motion: mean change of luma from frame to frame, transitions and flashes left out."""
    outside = np.ones(len(film.frames) + 1, bool)
    for row in film.gradual + film.flashes:
        outside[row["start"]:row["end"] + 2] = False
    fresh = film.new_drawing
    for row in film.shots:
        changes = [_change(film.frames[k - 1], film.frames[k]) if fresh[k] else 0.0
                   for k in range(row["start"] + 1, row["end"] + 1) if outside[k]]
        mean = float(np.mean(changes)) if changes else 0.0
        row["static"] = is_static = not any(changes)
        row["motion"] = "static" if is_static else "low" if mean < _LOW else "medium" if mean < _MEDIUM else "high"
        still = sum(change == 0 for change in changes) / len(changes) if changes else 1.0
        row["measured"] = {"mean_abs_luma_diff": round(mean, 3), "still_frame_fraction": round(still, 3)}


def _change(before: Picture, after: Picture) -> float:
    """Mean absolute change of luma (BT.601), in levels."""
    red, green, blue, _ = cv2.mean(cv2.absdiff(before, after))
    return 0.299 * red + 0.587 * green + 0.114 * blue
