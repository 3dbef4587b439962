"""Answer files as the page writes them: read, held against the study's key, and counted or left out with a reason."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UserError
from training.study.key import CLIP, JUDGED, ORIGINAL, QUESTIONS, SCHEMA, Key
from training.study.order import shuffled

PARTICIPANT = re.compile(r"[A-Za-z0-9_-]{1,32}")
MAX_BYTES = 1 << 20                     # an answer of a hundred comparisons has 60 KB


@dataclass(frozen=True, slots=True)
class Answers:
    """What one participant chose: `choices` holds a film by comparison and question, of all comparisons and questions."""

    participant: str
    choices: dict[str, dict[str, str]]


@dataclass(frozen=True, slots=True)
class Collected:
    """All files of a folder: those who count, who failed an attention check, and files left out with the reason."""

    counted: tuple[Answers, ...]
    failed: tuple[str, ...]
    left_out: dict[str, str]


class _Unusable(Exception):
    """Why a file is left out."""


def collect(folder: Path, key: Key) -> Collected:
    """Reads every *.json of the folder in the order of their names; UserError where there is none."""
    paths = [path for path in sorted(folder.glob("*.json")) if not path.name.startswith(".")]
    if not paths:
        raise UserError(f"answers={folder} holds no answers", "participants save files that end in .json", "Give another folder")
    accepted: dict[str, Answers] = {}
    left_out: dict[str, str] = {}
    for path in paths:
        try:
            answers = read(path, key)
            earlier = accepted.setdefault(answers.participant, answers)
            if earlier is not answers:
                same = "the same answers" if earlier == answers else "other answers; the first file counts"
                raise _Unusable(f"participant {answers.participant} is there already with {same}")
        except _Unusable as reason:
            left_out[path.name] = str(reason)
    passed = {name: passes_checks(answers, key) for name, answers in accepted.items()}
    return Collected(tuple(answers for name, answers in accepted.items() if passed[name]),
                     tuple(name for name in accepted if not passed[name]), left_out)


def read(path: Path, key: Key) -> Answers:
    """One file; _Unusable says in a few words why it is none of this study."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _Unusable("it is too large to be an answer")
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _Unusable("it is damaged or cut off") from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA or "study" not in record:
        raise _Unusable("it is no answer file of this version")
    if record["study"] != key.study:
        raise _Unusable("it belongs to another study")
    participant, given = record.get("participant"), record.get("answers")
    if not isinstance(participant, str) or not PARTICIPANT.fullmatch(participant) or not isinstance(given, list):
        raise _Unusable("it is damaged: participant or answers are missing")
    return Answers(participant, _choices(participant, given, key))


def seen_by(participant: str, key: Key) -> Iterator[tuple[str, list[str]]]:
    """The comparisons in the order this participant saw them, each with its films in theirs."""
    for trial in shuffled(key.trials, key.study, participant):
        yield trial, shuffled(key.trials[trial].labels, key.study, participant, trial)


def passes_checks(answers: Answers, key: Key) -> bool:
    """Whether the original was chosen in every check and every question that has a right answer there; chosen here: no slips."""
    return all(trial.labels[answers.choices[name][question]] == ORIGINAL
               for name, trial in key.trials.items() if trial.kind != CLIP for question in JUDGED[trial.kind])


def _choices(participant: str, given: list[object], key: Key) -> dict[str, dict[str, str]]:
    order = dict(seen_by(participant, key))
    if [entry.get("trial") if isinstance(entry, Mapping) else None for entry in given] != list(order):
        raise _Unusable("its comparisons are not those, in that order, which the page shows to this participant")
    choices: dict[str, dict[str, str]] = {}
    for entry in given:
        assert isinstance(entry, Mapping)
        name, chosen = str(entry["trial"]), entry.get("choices")
        if entry.get("order") != order[name]:
            raise _Unusable("its films are not in the order which the page shows to this participant")
        if not isinstance(chosen, Mapping) or not all(chosen.get(question) in order[name] for question in QUESTIONS):
            raise _Unusable("it is not complete: an answer is missing or names no film of its comparison")
        choices[name] = {question: chosen[question] for question in QUESTIONS}
    return choices
