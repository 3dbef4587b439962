"""One film compared with its label: cuts, transitions, holds, and a verdict on every labelled shot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from curation.calibration.agreement import Agreement, Span, judge_binary, match_cuts, match_ranges
from curation.calibration.truth import Truth, TruthShot
from curation.gates import motion, text_area
from curation.gates.motion import Motion, MotionKind
from curation.gates.text_area import TextArea
from curation.ledger import Clip

TOLERANCES = (0, 1, 2)       # frames

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Mistake:
    """One place where a film and its label disagree."""

    what: str                          # "cut", "gradual", "static", "text", "camera", "cadence" or "holds"
    start: int                         # frames, both inclusive
    end: int
    said: str
    truth: str


@dataclass(frozen=True, slots=True)
class Found:
    """What was decided about a film."""

    num_frames: int
    cuts: Sequence[int]
    graduals: Sequence[Span]
    new: NDArray[np.bool_]             # [n], True where a frame shows a new drawing
    is_damaged: NDArray[np.bool_]      # [n]
    clips: Sequence[Clip]              # with the scores of all gates


@dataclass(frozen=True, slots=True)
class FilmAgreement:
    """Counts of one film, or the sum of several."""

    cuts: dict[int, Agreement] = field(default_factory=lambda: {tolerance: Agreement() for tolerance in TOLERANCES})
    gradual: Agreement = field(default_factory=Agreement)
    static: Agreement = field(default_factory=Agreement)
    text: Agreement = field(default_factory=Agreement)
    camera: Agreement = field(default_factory=Agreement)         # a pan over a still painting against drawn motion
    camera_moves: Agreement = field(default_factory=Agreement)
    holds: Agreement = field(default_factory=Agreement)          # per frame; positive is a new drawing
    cadence: Agreement = field(default_factory=Agreement)        # right ones are true positives, wrong ones false positives
    mistakes: tuple[Mistake, ...] = ()
    open_cuts: tuple[int, ...] = ()                              # found where the label leaves it open; of one film

    def __add__(self, other: FilmAgreement) -> FilmAgreement:
        return FilmAgreement(
            {tolerance: self.cuts[tolerance] + other.cuts[tolerance] for tolerance in TOLERANCES},
            self.gradual + other.gradual, self.static + other.static, self.text + other.text, self.camera + other.camera,
            self.camera_moves + other.camera_moves, self.holds + other.holds, self.cadence + other.cadence,
            self.mistakes + other.mistakes)


def compare(truth: Truth, found: Found, max_text: float) -> FilmAgreement:
    """Compares one film with its label, as far as both go; `max_text`: share of the picture above which a clip is text."""
    cuts, mistakes = compare_cuts(truth, found.cuts, found.num_frames)
    gradual, wrong = compare_graduals(truth, found.graduals, found.num_frames)
    shots = [shot for shot in truth.shots if shot.start < found.num_frames]
    static, wrong_static = _compare_shots("static", shots, found.clips, _labelled_static, _is_static)
    text, wrong_text = _compare_shots("text", shots, found.clips, _labelled_text, _is_text(max_text))
    camera, wrong_camera = _compare_shots("camera", shots, found.clips, _labelled_still_pan, _is_still_pan)
    moves, wrong_moves = _compare_shots("camera_moves", shots, found.clips, _labelled_camera, _camera_moves)
    holds, wrong_holds = _compare_holds(truth, found)
    cadence, wrong_cadence = _compare_cadence(shots, found.clips)
    mistakes += wrong + wrong_static + wrong_text + wrong_camera + wrong_moves + wrong_cadence + wrong_holds
    return FilmAgreement(cuts, gradual, static, text, camera, moves, holds, cadence, tuple(mistakes),
                         open_cuts(truth, found.cuts))


def compare_cuts(truth: Truth, cuts: Sequence[int], num_frames: int) -> tuple[dict[int, Agreement], list[Mistake]]:
    """Agreement at every tolerance; mistakes are those at the widest."""
    if truth.hard_cuts is None:
        return {tolerance: Agreement() for tolerance in TOLERANCES}, []
    expected = [cut for cut in truth.hard_cuts if cut < num_frames]
    matchings = {tolerance: match_cuts(cuts, expected, tolerance, truth.open_ranges) for tolerance in TOLERANCES}
    widest = matchings[TOLERANCES[-1]]
    mistakes = [Mistake("cut", cuts[index], cuts[index], "cut", "no cut") for index in widest.false]
    mistakes += [Mistake("cut", expected[index], expected[index], "no cut", "cut") for index in widest.missed]
    return {tolerance: matching.agreement for tolerance, matching in matchings.items()}, sorted(mistakes, key=_by_frame)


def open_cuts(truth: Truth, cuts: Sequence[int]) -> tuple[int, ...]:
    """Cuts within a labelled transition or ambiguous range that no label confirms: not counted, but worth a look."""
    matching = match_cuts(cuts, truth.hard_cuts or (), TOLERANCES[-1], truth.open_ranges)
    return tuple(cuts[index] for index in matching.ignored)


def compare_graduals(truth: Truth, graduals: Sequence[Span], num_frames: int) -> tuple[Agreement, list[Mistake]]:
    """A labelled transition that the end of a broken film cuts off is left open."""
    if truth.gradual is None:
        return Agreement(), []
    expected = [span for span in truth.gradual if span[1] < num_frames]
    cut_off = [span for span in truth.gradual if span[1] >= num_frames]
    matching = match_ranges(graduals, expected, [*truth.ambiguous, *cut_off])
    mistakes = [Mistake("gradual", *graduals[index], "transition", "none") for index in matching.false]
    mistakes += [Mistake("gradual", *expected[index], "none", "transition") for index in matching.missed]
    return matching.agreement, sorted(mistakes, key=_by_frame)


def compare_text(truth: Truth, clips: Sequence[Clip], num_frames: int, max_text: float) -> Agreement:
    """How shots with and without text are told apart at one limit."""
    shots = [shot for shot in truth.shots if shot.start < num_frames]
    return _compare_shots("text", shots, clips, _labelled_text, _is_text(max_text))[0]


def _by_frame(mistake: Mistake) -> tuple[int, int]:
    return mistake.start, mistake.end


def _compare_shots(what: str, shots: Iterable[TruthShot], clips: Sequence[Clip], label: Callable[[TruthShot], bool | None],
                   verdict: Callable[[Clip], bool | None]) -> tuple[Agreement, list[Mistake]]:
    """A shot's verdict is that of most of its frames; frames in no clip, and clips without the score, do not vote."""
    pairs: list[tuple[bool, bool]] = []
    mistakes: list[Mistake] = []
    for shot in shots:
        true, said = label(shot), _majority(shot, clips, verdict)
        if true is None or said is None:
            continue
        pairs.append((said, true))
        if said != true:
            mistakes.append(Mistake(what, shot.start, shot.end, str(said).lower(), str(true).lower()))
    return judge_binary(pairs), mistakes


def _majority(shot: TruthShot, clips: Sequence[Clip], verdict: Callable[[Clip], T | None]) -> T | None:
    votes: dict[T, int] = defaultdict(int)
    for clip in clips:
        frames = min(clip.end_frame, shot.end + 1) - max(clip.start_frame, shot.start)
        if frames > 0 and (said := verdict(clip)) is not None:
            votes[said] += frames
    return max(votes, key=lambda said: votes[said]) if votes else None


def _labelled_static(shot: TruthShot) -> bool | None:
    return shot.static


def _labelled_text(shot: TruthShot) -> bool | None:
    return {"none": False, "heavy": True}.get(shot.text or "")


def _labelled_still_pan(shot: TruthShot) -> bool | None:
    """True for a moving camera over a still picture, False where something drawn moves."""
    if shot.drawn is None or shot.camera is None or not (shot.drawn or shot.camera != "none"):
        return None
    return not shot.drawn


def _labelled_camera(shot: TruthShot) -> bool | None:
    return None if shot.camera is None or (shot.drawn is False and shot.camera == "none") else shot.camera != "none"


def _kind(clip: Clip) -> MotionKind | None:
    score = clip.scores.get(motion.GATE)
    return score.kind if isinstance(score, Motion) else None


def _is_static(clip: Clip) -> bool | None:
    return None if (kind := _kind(clip)) is None else kind is MotionKind.STATIC


def _is_still_pan(clip: Clip) -> bool | None:
    return None if (kind := _kind(clip)) is None else kind is MotionKind.PAN


def _camera_moves(clip: Clip) -> bool | None:
    return None if (kind := _kind(clip)) is None else kind in (MotionKind.PAN, MotionKind.BOTH)


def _is_text(max_text: float) -> Callable[[Clip], bool | None]:
    def verdict(clip: Clip) -> bool | None:
        score = clip.scores.get(text_area.GATE)
        return score.share > max_text if isinstance(score, TextArea) else None

    return verdict


def _compare_holds(truth: Truth, found: Found) -> tuple[Agreement, list[Mistake]]:
    """Frame by frame after the first; damaged frames are left out. Mistakes are runs of wrong frames."""
    if truth.new_drawing is None:
        return Agreement(), []
    count = min(len(truth.new_drawing), found.num_frames)
    said, true = found.new[1:count], np.asarray(truth.new_drawing[1:count], bool)
    judged = ~found.is_damaged[1:count]
    pairs = list(zip(said[judged].tolist(), true[judged].tolist(), strict=True))
    wrong = 1 + np.flatnonzero((said != true) & judged)
    runs = np.split(wrong, 1 + np.flatnonzero(np.diff(wrong) > 1)) if len(wrong) else []
    mistakes = [Mistake("holds", int(run[0]), int(run[-1]), _words(said, run), _words(true, run)) for run in runs]
    return judge_binary(pairs), mistakes


def _words(new: NDArray[np.bool_], frames: NDArray[np.int64]) -> str:
    share = float(new[frames - 1].mean())
    return "new" if share == 1 else "held" if share == 0 else "new and held"


def _compare_cadence(shots: Iterable[TruthShot], clips: Sequence[Clip]) -> tuple[Agreement, list[Mistake]]:
    num_right, mistakes = 0, []
    for shot in shots:
        said = _majority(shot, clips, lambda clip: clip.cadence or None)
        if shot.cadence is None or said is None:
            continue
        num_right += said == shot.cadence
        if said != shot.cadence:
            mistakes.append(Mistake("cadence", shot.start, shot.end, said, shot.cadence))
    return Agreement(true_positives=num_right, false_positives=len(mistakes)), mistakes
