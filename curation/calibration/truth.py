"""Labels of films that people looked at, as one small JSON file per film; docs/calibrate.md shows how to write one.

Only `file` must be there. What is not labelled is not judged, so a label may hold the cuts of a film and nothing else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.calibration.agreement import Span
from pipeline.errors import UserError, nearest

TEXTS = ("none", "some", "heavy")
CADENCES = ("ones", "twos", "threes", "fours", "mixed", "hold")
HELP = "See docs/calibrate.md"


@dataclass(frozen=True, slots=True)
class TruthShot:
    """One labelled shot; None is not labelled."""

    start: int                         # first and last frame, both inclusive
    end: int
    static: bool | None = None         # nothing drawn moves and the camera does not
    text: str | None = None            # one of TEXTS
    camera: str | None = None          # "none" or how it moves
    drawn: bool | None = None          # something drawn moves
    cadence: str | None = None         # one of CADENCES


@dataclass(frozen=True, slots=True)
class Truth:
    """The labels of one film. Frames count from 0 in the order of the file."""

    file: str                                    # name of the source; for pictures, their folder
    frames: int | None = None
    hard_cuts: tuple[int, ...] | None = None     # first frames of new shots
    gradual: tuple[Span, ...] | None = None
    ambiguous: tuple[Span, ...] = ()             # where people would not agree
    shots: tuple[TruthShot, ...] = ()
    new_drawing: tuple[bool, ...] | None = None  # per frame; the first is new
    is_rejected: bool = False                    # no film: to be refused, not judged

    @property
    def open_ranges(self) -> tuple[Span, ...]:
        """Where a detected cut is neither right nor wrong."""
        return (*(self.gradual or ()), *self.ambiguous)


def read_truths(path: Path) -> list[Truth]:
    """Every label of a folder of .json files, or of one file, in the order of film names; UserError where one is wrong."""
    if not path.exists():
        near = nearest(path.name, [found.name for found in path.parent.iterdir()]) if path.parent.is_dir() else None
        raise UserError(f"truth={path} does not exist",
                        fix=f"Did you mean {path.parent / near}?" if near else f"Give a folder of labels. {HELP}")
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"truth={path} holds no label", "there is no .json file in it", HELP)
    truths: dict[str, Truth] = {}
    for file in files:
        truth = _read(file)
        if truth.file in truths:
            raise UserError(f"{file} labels {truth.file} a second time", fix="Keep one label per film")
        truths[truth.file] = truth
    return [truths[name] for name in sorted(truths)]


def _read(file: Path) -> Truth:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read", str(error), HELP) from error
    try:
        return parse_truth(values)
    except ValueError as error:
        raise UserError(f"{file} is no label", str(error), HELP) from error


def parse_truth(values: Any) -> Truth:
    """A label from its JSON; unknown names are notes. ValueError says which value is wrong."""
    if not isinstance(values, dict) or not isinstance(values.get("file"), str) or not values["file"]:
        raise ValueError('"file" must be the name of a film')
    cuts, gradual, fresh = values.get("hard_cuts"), values.get("gradual"), values.get("new_drawing")
    frames = values.get("frames")
    return Truth(
        file=values["file"], frames=None if frames is None else _frame(frames, "frames"),
        hard_cuts=None if cuts is None else tuple(sorted(_frame(cut, "hard_cuts") for cut in _list(cuts, "hard_cuts"))),
        gradual=None if gradual is None else _spans(gradual, "gradual"),
        ambiguous=_spans(values.get("ambiguous", []), "ambiguous"),
        shots=tuple(_shot(shot) for shot in _list(values.get("shots", []), "shots")),
        new_drawing=None if fresh is None else tuple(bool(_frame(one, "new_drawing")) for one in _list(fresh, "new_drawing")),
        is_rejected=values.get("expect") == "reject")


def _shot(values: Any) -> TruthShot:
    start, end = _span(values, "shots")
    return TruthShot(start, end, _flag(values, "static"), _word(values, "text", TEXTS), _word(values, "camera"),
                     _flag(values, "drawn"), _word(values, "cadence", CADENCES))


def _list(values: Any, name: str) -> list[Any]:
    if not isinstance(values, list):
        raise ValueError(f'"{name}" must be a list')
    return values


def _frame(value: Any, name: str) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError(f'"{name}" holds {value!r}; numbers of frames are whole and count from 0')
    return int(value)


def _spans(values: Any, name: str) -> tuple[Span, ...]:
    return tuple(_span(value, name) for value in _list(values, name))


def _span(values: Any, name: str) -> Span:
    if not isinstance(values, dict) or "start" not in values or "end" not in values:
        raise ValueError(f'"{name}" needs "start" and "end" in every entry')
    start, end = _frame(values["start"], name), _frame(values["end"], name)
    if end < start:
        raise ValueError(f'"{name}" has an entry that ends at {end} before it starts at {start}')
    return start, end


def _flag(values: dict[str, Any], name: str) -> bool | None:
    value = values.get(name)
    if value is not None and not isinstance(value, bool):
        raise ValueError(f'"{name}" is {value!r}; write true or false')
    return value


def _word(values: dict[str, Any], name: str, choices: tuple[str, ...] = ()) -> str | None:
    value = values.get(name)
    if value is not None and (not isinstance(value, str) or (choices and value not in choices)):
        raise ValueError(f'"{name}" is {value!r}; write {", ".join(choices) if choices else "a word"}')
    return value
