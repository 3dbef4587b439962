"""From answers to Table 2 of ToonCrafter (arXiv 2405.17933): the share of votes of each system for each question.

Intervals are 95% percentile bootstrap intervals over participants, seeded. Answers of one person are not independent, so Wilson's
interval over all votes would be too narrow; persons are drawn with all their votes. What another choice of clips would change
is not in them, and where nobody, or everybody, chose a system they have no width.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.records import write_json, write_text
from training.study.answers import Answers, Collected, collect
from training.study.config import AnalyseOptions
from training.study.key import CLIP, KEY_FILE, QUESTIONS, Key, read_key

LEVEL = 0.95
PROTOCOL = "share of votes; 95% percentile bootstrap over participants"
TITLES: Mapping[str, str] = {name: name.replace("_", " ").capitalize() for name in QUESTIONS}


@dataclass(frozen=True, slots=True)
class Share:
    """Votes for a system: their number, their share in [0, 1] and the ends of its interval."""

    votes: int
    share: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Result:
    """The table, shares[question][system], and whose answers are in it."""

    study: str
    num_clips: int
    shares: dict[str, dict[str, Share]]
    collected: Collected


def analyse(options: AnalyseOptions) -> Result:
    """Reads all answers, writes results.md, results.csv and results.json; UserError where nobody's answers count."""
    folder = Path(options.answers)
    if not folder.is_dir():
        raise UserError(f"answers={folder} is no folder", fix="Give the folder into which the participants' files were put")
    study = _study_folder(options)
    key = read_key(study)
    collected = collect(folder, key)
    if not collected.counted:
        first = next((f", e.g. {name}: {reason}" for name, reason in collected.left_out.items()), "")
        raise UserError(f"answers={folder} hold nothing to count",
                        f"{len(collected.failed)} failed a check and {len(collected.left_out)} were left out{first}",
                        "Give the answers of this study, or its folder with study=...")
    result = Result(key.study, sum(trial.kind == CLIP for trial in key.trials.values()),
                    tabulate(collected.counted, key, seed=options.seed, resamples=options.resamples), collected)
    out = Path(options.out) if options.out else study / "results"
    write_text(out / "results.md", markdown(result))
    write_text(out / "results.csv", as_csv(result))
    shares = {name: {system: asdict(share) for system, share in row.items()} for name, row in result.shares.items()}
    write_json(out / "results.json", {
        "schema": 1, "protocol": PROTOCOL, "seed": options.seed, "resamples": options.resamples, "study": result.study,
        "num_clips": result.num_clips, "counted": [answers.participant for answers in collected.counted],
        "failed": collected.failed, "left_out": collected.left_out, "shares": shares}, indent=1)
    return result


def tabulate(counted: Sequence[Answers], key: Key, *, seed: int, resamples: int) -> dict[str, dict[str, Share]]:
    """Shares of votes with intervals, by question and system, over comparisons of clips (not over attention checks)."""
    votes = count_votes(counted, key)
    low, high = bootstrap(votes, seed=seed, resamples=resamples)
    total = votes.sum(axis=0)
    shares = total / total.sum(axis=-1, keepdims=True)
    return {name: {system: Share(int(total[row, column]), float(shares[row, column]), float(low[row, column]),
                                 float(high[row, column])) for column, system in enumerate(key.systems)}
            for row, name in enumerate(QUESTIONS)}


def count_votes(counted: Sequence[Answers], key: Key) -> NDArray[np.int64]:
    """Votes [participants, questions, systems]."""
    votes = np.zeros((len(counted), len(QUESTIONS), len(key.systems)), np.int64)
    for person, answers in enumerate(counted):
        for name, trial in key.trials.items():
            if trial.kind != CLIP:
                continue
            for row, question in enumerate(QUESTIONS):
                votes[person, row, key.systems.index(trial.labels[answers.choices[name][question]])] += 1
    return votes


def bootstrap(votes: NDArray[np.int64], *, seed: int, resamples: int) -> NDArray[np.float64]:
    """Ends of the intervals [2, questions, systems] of the shares of votes [participants, questions, systems]."""
    people = len(votes)
    times_drawn = np.random.default_rng(seed).multinomial(people, np.full(people, 1 / people), size=resamples)
    totals = np.einsum("rp,pqs->rqs", times_drawn, votes).astype(np.float64)
    shares = totals / totals.sum(axis=-1, keepdims=True)
    ends: NDArray[np.float64] = np.quantile(shares, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return ends


def markdown(result: Result) -> str:
    """The table and what it is made of, as text."""
    systems = list(next(iter(result.shares.values())))
    lines = ["| Property | " + " | ".join(system.replace("|", "\\|") for system in systems) + " |",
             "|---" * (len(systems) + 1) + "|"]
    for name, row in result.shares.items():
        cells = [f"{share.share:.2%} ({100 * share.low:.1f} to {100 * share.high:.1f})" for share in row.values()]
        lines.append(f"| {TITLES[name]} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *summary(result), ""])


def summary(result: Result) -> list[str]:
    """Whose answers are in the table and whose are not, a line each."""
    collected = result.collected
    lines = [f"{PROTOCOL}. {len(collected.counted)} participants, {result.num_clips} clips; study {result.study}."]
    if collected.failed:
        lines.append(f"Excluded, {len(collected.failed)} failed an attention check: {', '.join(collected.failed)}.")
    lines += [f"Left out {name}: {reason}." for name, reason in collected.left_out.items()]
    return lines


def as_csv(result: Result) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["property", "system", "votes", "share", "low", "high"])
    for name, row in result.shares.items():
        for system, share in row.items():
            writer.writerow([name, system, share.votes, f"{share.share:.6f}", f"{share.low:.6f}", f"{share.high:.6f}"])
    return text.getvalue()


def _study_folder(options: AnalyseOptions) -> Path:
    if options.study:
        return Path(options.study)
    answers = Path(options.answers).resolve()
    for folder in (answers, *answers.parents):
        if (folder / KEY_FILE).is_file():
            return folder
    raise UserError(f"answers={options.answers} belong to no study that is known", f"there is no {KEY_FILE} above them",
                    "Give the folder the study was built into: study=FOLDER")
