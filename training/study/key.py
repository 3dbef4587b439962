"""What undoes the blinding of a study: which film of which comparison is whose. Kept by who asks, never handed out.

ToonCrafter (arXiv 2405.17933) section 4.4 asked 24 people to choose the best of five systems' results in motion quality, temporal
coherence and frame fidelity. How the questions were put and whether attention was checked lies in a supplement that we do not
have: the sentences and the checks are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UserError
from pipeline.records import read_json, write_json

SCHEMA = 1
KEY_FILE = "key.json"
QUESTIONS: Mapping[str, str] = {
    "motion_quality": "Motion: in which film do things move best, most naturally and completely?",
    "temporal_coherence": "Steadiness: which film holds together best over time, without flicker, jumps or changing shapes?",
    "frame_fidelity": "Drawing: in which film is each single picture most like a clean drawing of this cartoon?",
}
CLIP, SHUFFLED, BLACK = "clip", "shuffled", "black"     # kinds of comparison; the last two are attention checks
ORIGINAL, COPY = "original", "copy"                     # labels of the films of a check

# The questions of a check that have a right answer: single frames of a shuffled film are as good as before, and nothing
# flickers in a black one.
JUDGED: Mapping[str, tuple[str, ...]] = {
    SHUFFLED: ("motion_quality", "temporal_coherence"),
    BLACK: ("motion_quality", "frame_fidelity"),
}


@dataclass(frozen=True, slots=True)
class Trial:
    """One comparison: `labels` says what each film is, by its name on the page: a system, or an original and copies."""

    kind: str
    clip: str
    labels: dict[str, str]


@dataclass(frozen=True, slots=True)
class Key:
    """Systems, and comparisons by their name on the page."""

    study: str
    systems: tuple[str, ...]
    trials: dict[str, Trial]


def write_key(folder: Path, key: Key) -> None:
    trials = {name: {"kind": trial.kind, "clip": trial.clip, "labels": trial.labels} for name, trial in key.trials.items()}
    record = {"schema": SCHEMA, "study": key.study, "systems": key.systems, "trials": trials}
    write_json(folder / KEY_FILE, record, indent=1)


def read_key(folder: Path) -> Key:
    """The key of a built study; UserError where it is absent or damaged."""
    record = read_json(folder / KEY_FILE, SCHEMA)
    study, systems, trials = record.get("study"), record.get("systems"), record.get("trials")
    if not isinstance(study, str) or not isinstance(systems, list) or not isinstance(trials, dict):
        raise _damaged(folder)
    return Key(study, tuple(str(system) for system in systems),
               {name: _trial(folder, trial, systems) for name, trial in trials.items()})


def _trial(folder: Path, record: object, systems: list[object] | object) -> Trial:
    if not isinstance(record, dict) or record.get("kind") not in (CLIP, SHUFFLED, BLACK):
        raise _damaged(folder)
    labels = record.get("labels")
    known = systems if record["kind"] == CLIP else [ORIGINAL, COPY]
    if not isinstance(labels, dict) or not isinstance(known, list) or not all(label in known for label in labels.values()):
        raise _damaged(folder)
    return Trial(str(record["kind"]), str(record.get("clip")), {name: str(label) for name, label in labels.items()})


def _damaged(folder: Path) -> UserError:
    return UserError(f"{folder / KEY_FILE} is damaged", "it does not say which film is whose",
                     "Build the study again from the same films and options")
