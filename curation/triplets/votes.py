"""Reviewers' votes: a triplet stays where at least two people call it eligible (AnimeInterp, section 3).

The file is CSV with the columns triplet, reviewer, eligible (yes or no), and optionally motion and behavior: tags divided by "|",
which go into the annotation where an eligible vote names them.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import UserError, nearest

COLUMNS, TAG_COLUMNS = ("triplet", "reviewer", "eligible"), ("motion", "behavior")
MOTION_TAGS = ("translation", "rotation", "scaling", "deformation")
BEHAVIOR_TAGS = ("speaking", "walking", "eating", "sporting", "fetching", "others")
_YES, _NO = ("yes", "true", "1"), ("no", "false", "0")


@dataclass(slots=True)
class Ballot:
    """What reviewers said about one triplet."""

    eligible: set[str] = field(default_factory=set)      # reviewers
    against: set[str] = field(default_factory=set)
    motion: set[str] = field(default_factory=set)
    behavior: set[str] = field(default_factory=set)


def read_votes(path: Path) -> dict[str, Ballot]:
    """Ballots by the names of triplets; UserError names the line that is wrong."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.DictReader(file, skipinitialspace=True)
            absent = [name for name in COLUMNS if name not in (lines.fieldnames or ())]
            if absent:
                raise UserError(f"votes.file={path} has no column {absent[0]}",
                                fix=f"Begin it with the line {','.join((*COLUMNS, *TAG_COLUMNS))}")
            ballots: dict[str, Ballot] = {}
            for row in lines:
                _add(ballots, {name: (value or "").strip() for name, value in row.items() if isinstance(name, str)},
                     f"line {lines.line_num} of votes.file={path}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"votes.file={path} cannot be read", str(error), "Give a CSV file: docs/triplets.md") from error
    return ballots


def is_eligible(ballot: Ballot | None, minimum: int) -> bool:
    """Whether enough reviewers said yes; a triplet without votes is not."""
    return ballot is not None and len(ballot.eligible) >= minimum


def _add(ballots: dict[str, Ballot], row: dict[str, str], place: str) -> None:
    ballot = ballots.setdefault(row["triplet"], Ballot())
    word, reviewer = row["eligible"].lower(), row["reviewer"]
    if not row["triplet"] or not reviewer or word not in _YES + _NO:
        raise UserError(f"{place} is no vote", f"triplet {row['triplet']!r}, reviewer {reviewer!r}, eligible {word!r}",
                        "Name both, and write yes or no")
    said, other = (ballot.eligible, ballot.against) if word in _YES else (ballot.against, ballot.eligible)
    if reviewer in other:
        raise UserError(f"{place} contradicts an earlier one", f"{reviewer} voted yes and no on {row['triplet']}",
                        "Keep one of them")
    said.add(reviewer)
    for column, known, tags in (("motion", MOTION_TAGS, ballot.motion), ("behavior", BEHAVIOR_TAGS, ballot.behavior)):
        for tag in filter(None, (part.strip() for part in row.get(column, "").split("|"))):
            if tag not in known:
                near = nearest(tag, known)
                raise UserError(f"{place} has an unknown {column} tag {tag}",
                                fix=f"Did you mean {near}?" if near else f"There are: {', '.join(known)}")
            if word in _YES:
                tags.add(tag)
