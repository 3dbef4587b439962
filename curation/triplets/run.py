"""The driver of the triplets: measure pairs, decide, choose, make, grade, write; in that order, and nothing twice.

Everything between the two measurements is a pure function of the rows, computed again in every run: another limit costs nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from curation.executor import Executor, Timing
from curation.progress import Progress
from curation.triplets.candidates import Candidate, choose, propose, repeats_a_drawing
from curation.triplets.clips import CLIPS_FILE, Curation, TripletClip, read_curation
from curation.triplets.config import TripletsJob
from curation.triplets.difficulty import GRADED_BY, LEVELS, grade
from curation.triplets.funnel import RULES, SUMMARY_SCHEMA
from curation.triplets.gates import ClipPairs, FailedClip, MeasurePairs, decide
from curation.triplets.layout import Annotation, TripletFiles, write_layout
from curation.triplets.make import MadeTriplet, MakeJob, MakeTriplets, read_pictures
from curation.triplets.samples import annotate, build_sample, name_of
from curation.triplets.sheet import MAX_TRIPLETS, SheetRow, write_sheet
from curation.triplets.ssim import CONVENTION
from curation.triplets.statistics import write_histograms
from curation.triplets.votes import Ballot, is_eligible, read_votes
from pipeline.errors import UserError
from pipeline.hashing import content_key
from pipeline.records import write_json
from pipeline.shards import MANIFEST_FILE, SPLITS, Manifest, ShardInfo, read_manifest, write_manifest, write_shards
from pipeline.store import Store

PARTS = {"train": "train", "eval": "test"}         # our splits by the names of ATD-12K's


@dataclass(frozen=True, slots=True)
class Graded:
    """A triplet with everything that is known about it."""

    name: str
    made: MadeTriplet
    pairs: ClipPairs
    annotation: Annotation
    ballot: Ballot | None


def build_triplets(job: TripletsJob) -> dict[str, Any]:
    """Builds a set of triplets to its end and returns its summary; UserError for what the user can mend."""
    if job.shards is None:
        raise UserError("shards has no value", "triplets are made of a finished curation", "Give its folder: shards=out/films")
    shards, out = Path(job.shards), Path(job.out)
    curation = read_curation(shards)
    _check_out(out, shards)
    ballots = read_votes(Path(job.votes.file)) if job.votes.file is not None else None
    store = Store(Path(job.store) if job.store else out / "artifacts")
    store.sweep()
    with Executor(job.executor, job.workers, job.ray) as executor, Progress(len(curation.clips)) as progress:
        run = _Run(job, store, executor, progress)
        run.measure(curation)
        passing = run.decide()
        chosen = run.choose(passing, ballots)
        made = run.make(chosen)
    if not made:
        raise UserError("no triplet is left", run.why_none(curation), "Widen ssim.min and ssim.max, or curate more films")
    graded, cuts = _grade(made, run.pairs, job, ballots)
    summary = run.summarise(curation, graded, cuts, ballots)
    _write_outputs(job, store, graded, summary, read_manifest(shards).key)
    return summary


class _Run:
    """One job's steps, what they share, and the counts of its funnel."""

    def __init__(self, job: TripletsJob, store: Store, executor: Executor, progress: Progress) -> None:
        self.job, self.store, self.executor, self.progress = job, store, executor, progress
        self.pairs: dict[str, ClipPairs] = {}
        self.failed: list[FailedClip] = []
        self.num_candidates = self.num_without = 0
        self.dropped: Counter[str] = Counter()

    def measure(self, curation: Curation) -> None:
        """How alike the frames of every clip are."""
        root, candidates = str(self.store.root), self.job.candidates
        stage = MeasurePairs(str(self.job.shards), root, candidates, self.job.ssim.size)
        for row in self._run("pairs", stage, curation.clips):
            if isinstance(row, ClipPairs):
                self.pairs[row.clip.key] = row
            else:
                self.failed.append(row)

    def decide(self) -> list[tuple[TripletClip, Candidate]]:
        """The candidates that pass every rule about their pictures."""
        passing: list[tuple[TripletClip, Candidate]] = []
        for _, pairs in sorted(self.pairs.items()):
            candidates = propose(pairs.clip.holds, self.job.candidates)
            self.num_without += not candidates
            self.num_candidates += len(candidates)
            for candidate in candidates:
                if repeats_a_drawing(candidate, pairs.clip.holds):
                    self.dropped["same_drawing"] += 1
                    continue
                verdict = decide(pairs.of(candidate), self.job.ssim)
                if verdict.keep:
                    passing.append((pairs.clip, candidate))
                else:
                    self.dropped[verdict.gate] += 1
        return passing

    def choose(self, passing: Sequence[tuple[TripletClip, Candidate]], ballots: dict[str, Ballot] | None
               ) -> list[tuple[TripletClip, Candidate]]:
        """Those that each shot gives, and of these the ones that the reviewers keep: so votes do not change what is voted on."""
        chosen = choose(passing, self.job.candidates)
        self.dropped["shot_has_enough"] = len(passing) - len(chosen)
        if ballots is None:
            return chosen
        kept = [(clip, candidate) for clip, candidate in chosen
                if is_eligible(ballots.get(name_of(clip, candidate, self.job.names)), self.job.votes.min)]
        self.dropped["votes"] = len(chosen) - len(kept)
        return kept

    def make(self, chosen: Sequence[tuple[TripletClip, Candidate]]) -> list[MadeTriplet]:
        """Pictures and measures, in the order of clips and frames."""
        by_clip: dict[str, list[Candidate]] = {}
        for clip, candidate in chosen:
            by_clip.setdefault(clip.key, []).append(candidate)
        jobs = [MakeJob(self.pairs[key].clip, self.pairs[key].digest, tuple(found)) for key, found in sorted(by_clip.items())]
        rows = list(self._run("triplets", MakeTriplets(str(self.job.shards), str(self.store.root)), jobs))
        failed = {row.key for row in rows if isinstance(row, FailedClip)}
        self.dropped["failed"] = sum(len(by_clip[key]) for key in failed)
        return sorted((row for row in rows if isinstance(row, MadeTriplet)),
                      key=lambda made: (made.clip.key, made.candidate.frames, made.candidate.spacing))

    def summarise(self, curation: Curation, graded: Sequence[Graded], cuts: dict[str, tuple[float, float]],
                  ballots: dict[str, Ballot] | None) -> dict[str, Any]:
        """The content of summary.json: a function of curation and job alone, without times."""
        spacings = Counter(one.made.candidate.spacing for one in graded)
        names = {one.name for one in graded}
        silent = {"votes"} if ballots is None else set()
        silent |= set() if self.dropped["failed"] else {"failed"}
        return {
            "schema": SUMMARY_SCHEMA,
            "clips": {"proposed": curation.num_proposed, "dropped": curation.dropped, "failed": len(self.failed),
                      "without_candidate": self.num_without},
            "failed_clips": {row.key: row.error for row in sorted(self.failed, key=lambda row: row.key)},
            "triplets": {
                "candidates": self.num_candidates, "dropped": {rule: self.dropped[rule] for rule in RULES if rule not in silent},
                "kept": {split: sum(one.made.clip.split == split for one in graded) for split in SPLITS},
                "by_spacing": {str(spacing): spacings[spacing] for spacing in sorted(spacings)},
                "by_level": {split: {name: sum(one.annotation.level == level for one in graded if one.made.clip.split == split)
                                     for level, name in enumerate(LEVELS)} for split in SPLITS},
                "shots": len({one.made.clip.shot_key for one in graded}),
            },
            "difficulty": {"by": GRADED_BY, "cuts": {split: list(found) for split, found in cuts.items()}},
            "votes_of_others": 0 if ballots is None else len(set(ballots) - names - self._rejected(ballots)),
        }

    def why_none(self, curation: Curation) -> str:
        words = [f"{count} by {rule}" for rule, count in sorted(self.dropped.items()) if count]
        return f"of {len(curation.clips)} clips came {self.num_candidates} candidates" + (
            f"; dropped were {', '.join(words)}" if words else "")

    def _rejected(self, ballots: dict[str, Ballot]) -> set[str]:
        return {name for name, ballot in ballots.items() if not is_eligible(ballot, self.job.votes.min)}

    def _run(self, name: str, stage: Any, rows: Sequence[Any]) -> Iterator[Any]:
        self.progress.stage(name, len(rows))
        for row in self.executor.run([stage], rows):
            self.progress.add(row)
            if not isinstance(row, Timing):
                yield row


def _grade(made: Sequence[MadeTriplet], pairs: dict[str, ClipPairs], job: TripletsJob, ballots: dict[str, Ballot] | None
           ) -> tuple[list[Graded], dict[str, tuple[float, float]]]:
    """Triplets with names and levels in the order of their names, and the cuts between levels of each split."""
    graded: list[Graded] = []
    cuts: dict[str, tuple[float, float]] = {}
    for split in SPLITS:
        these = [one for one in made if one.clip.split == split]
        grades = grade([one.motion.mean for one in these], [one.motion.occluded for one in these])
        cuts[split] = grades.cuts
        for one, level in zip(these, grades.levels, strict=True):
            name = name_of(one.clip, one.candidate, job.names)
            ballot = None if ballots is None else ballots.get(name)
            graded.append(Graded(name, one, pairs[one.clip.key], annotate(one, level, ballot), ballot))
    return sorted(graded, key=lambda one: one.name), cuts


def _write_outputs(job: TripletsJob, store: Store, graded: Sequence[Graded], summary: dict[str, Any], curation_key: str) -> None:
    """Everything of the folder; manifest.json last, since a folder without it is no data set."""
    out = Path(job.out)
    (out / MANIFEST_FILE).unlink(missing_ok=True)
    shards: list[ShardInfo] = []
    for split in SPLITS:
        samples = (build_sample(one.name, one.made, one.pairs, one.annotation, job.candidates.unit, one.ballot,
                                read_pictures(store, one.made)) for one in graded if one.made.clip.split == split)
        shards += write_shards(samples, out, split, max_bytes=int(job.tars.max_mb * 1e6), max_samples=job.tars.max_samples)
    write_layout(out, (TripletFiles(one.name, read_pictures(store, one.made),
                                    one.annotation if PARTS[one.made.clip.split] == "test" else None) for one in graded))
    write_histograms(out / "motion.png", {part: [one.made.motion for one in graded if one.made.clip.split == split]
                                          for split, part in PARTS.items()})
    write_sheet(out / "contact_sheet.png", [_sheet_row(one, store) for one in graded[:: max(1, len(graded) // MAX_TRIPLETS)]])
    write_json(out / "summary.json", summary, indent=1)
    models = {"ssim": f"{CONVENTION}, at {job.ssim.size}", "flow": "OpenCV DIS, medium, at 960x540", "difficulty": GRADED_BY}
    versions = {stage.name: stage.version for stage in (MeasurePairs, MakeTriplets)}
    key = content_key(curation=curation_key, candidates=job.candidates, ssim=job.ssim, names=job.names, votes_min=job.votes.min,
                      votes={one.name: _plain(one.ballot) for one in graded}, versions=versions)
    counts = {"train": summary["triplets"]["kept"]["train"], "eval": summary["triplets"]["kept"]["eval"],
              "candidates": summary["triplets"]["candidates"]}
    write_manifest(out, Manifest(key=key, shards=shards, counts=counts, models=models, versions=versions))


def _plain(ballot: Ballot | None) -> dict[str, list[str]] | None:
    return None if ballot is None else {name: sorted(found) for name, found in asdict(ballot).items()}


def _sheet_row(one: Graded, store: Store) -> SheetRow:
    made = one.made
    middle = "" if made.midtime is None else f", middle at {made.midtime.share:.2f}"
    label = f"{made.clip.title[:24]} {made.clip.start_frame + made.candidate.frames[0]}, s{made.candidate.spacing}, " \
            f"{LEVELS[one.annotation.level]}{middle}, {PARTS[made.clip.split]}"
    return SheetRow(read_pictures(store, made), made.width, made.height, made.roi, label)


def _check_out(out: Path, shards: Path) -> None:
    """The names of shards are the same as a curation's: nothing of one may be replaced."""
    if out.resolve() == shards.resolve() or (out / CLIPS_FILE).exists():
        raise UserError(f"out={out} holds a curation", "its shards would be replaced", "Choose another folder with out=...")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"out={out} cannot be written", error.strerror or str(error), "Give another folder") from error
