"""Motion gate: drops clips in which nothing is drawn moving, and those that move too fast to learn from.

Measured between distinct drawings, in shares of the picture's diagonal a second, so hold lengths and picture size change
nothing: an even-stride sample of animation on twos sees either every drawing or none. Camera and drawn motion are kept
apart: a pan over a still painting is its own kind, and a locked-off talking head is kept for its mouth.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from curation.config import MotionLimits
from curation.ledger import Verdict

GATE = "motion"

CAMERA_STILL_PER_S = 0.01    # shares of the diagonal a second below which the camera stands still; chosen here
ZOOM_STILL_PER_S = 0.02
DRAWN_AREA = 0.004           # of the picture that must move for a drawing to count as drawn motion under a still camera
LOCAL_PEAK = 20.0            # grey levels: a change this strong is drawn however small it is (a mouth, an eye)
FLOOR_FACTOR, FLOOR_PLUS = 1.6, 8.0    # under a moving camera: above the floor that shifting a picture leaves
MIN_REST_PEAK, MAX_REST_PEAK = 14.0, 70.0
MIN_DRAWN_SHARE = 0.025      # of the frames that bring drawn motion: less is a still picture with a flaw, a blink


class MotionKind(StrEnum):
    STATIC = "static"
    PAN = "pan_over_still"
    DRAWN = "drawn"
    BOTH = "drawn_and_camera"


@dataclass(frozen=True, slots=True)
class Motion:
    """Lengths in shares of the diagonal; a second means a second of film."""

    kind: MotionKind
    mean: float              # of all motion, a second
    drawn_mean: float        # of drawn motion, a second
    drawn_max: float         # largest drawn motion between two drawings
    drawn_area: float        # share of the picture that moves, mean over the drawings with drawn motion
    drawn_share: float       # of the frames after the first: how many bring drawn motion; 0.5 on twos
    camera_mean: float       # length of the camera's path, a second
    pan_x: float             # where the camera looks: positive moves right, a second
    pan_y: float             # positive moves down
    zoom: float              # relative growth of the picture a second


@dataclass(frozen=True, slots=True)
class Changes:
    """What every frame of a span after its first brings, [n - 1]."""

    camera_moves: bool
    camera: NDArray[np.complex128]     # shift of the picture, shares of the diagonal
    zoom: NDArray[np.float64]
    drawn: NDArray[np.bool_]           # something drawn moved


def find_changes(signals: dict[str, NDArray[np.float32]], new: NDArray[np.bool_], start: int, end: int, seconds: float
                 ) -> Changes:
    """Tells drawn changes from the camera's over frames start..end (exclusive) of a film; `seconds`: their length.

    Under a moving camera every frame differs from the last. What is left when the camera's motion is undone tells which
    frames bring a new drawing: a still picture leaves a floor that sub-pixel shifts cause, a drawing stands out of it.
    """
    inside = slice(start + 1, end)
    brings = new[inside]

    def column(name: str) -> NDArray[np.float64]:
        return np.nan_to_num(signals[name][inside].astype(np.float64)) * brings

    camera, zoom = column("pan_x") + 1j * column("pan_y"), column("zoom")
    moves = bool(abs(camera.sum()) / seconds > CAMERA_STILL_PER_S or abs(zoom.sum()) / seconds > ZOOM_STILL_PER_S)
    if moves and brings.any():
        rest = column("rest_peak")
        floor = float(np.quantile(rest[brings], 0.2))
        drawn = rest > np.clip(FLOOR_FACTOR * floor + FLOOR_PLUS, MIN_REST_PEAK, MAX_REST_PEAK)
    else:
        drawn = (column("drawn_area") > DRAWN_AREA) | (signals["change_peak"][inside] > LOCAL_PEAK)
    return Changes(moves, camera, zoom, drawn & brings)


def measure_motion(signals: dict[str, NDArray[np.float32]], new: NDArray[np.bool_], start: int, end: int,
                   seconds: float) -> Motion:
    """Sums what the survey measured between the drawings of frames start..end (exclusive).

    The step into the first frame belongs to what came before and does not count. `seconds`: length of the span.
    """
    changes = find_changes(signals, new, start, end, seconds)
    inside = slice(start + 1, end)
    measured = {name: np.nan_to_num(signals[name][inside].astype(np.float64)) for name in
                ("total_mean", "drawn_mean", "drawn_peak", "drawn_area", "rest_area")}
    drawn, num_drawn = changes.drawn, int(changes.drawn.sum())
    moves = num_drawn >= 2 and num_drawn >= MIN_DRAWN_SHARE * len(drawn)
    kind = {(True, True): MotionKind.BOTH, (True, False): MotionKind.DRAWN, (False, True): MotionKind.PAN,
            (False, False): MotionKind.STATIC}[moves, changes.camera_moves]
    area = np.maximum(measured["drawn_area"], measured["rest_area"])
    camera = changes.camera
    return Motion(
        kind=kind, mean=float((measured["total_mean"] * new[inside]).sum() / seconds),
        drawn_mean=float(measured["drawn_mean"][drawn].sum() / seconds),
        drawn_max=float(measured["drawn_peak"][drawn].max(initial=0.0)),
        drawn_area=float(area[drawn].mean()) if num_drawn else 0.0, drawn_share=num_drawn / max(1, len(drawn)),
        camera_mean=float(np.abs(camera).sum() / seconds), pan_x=float(-camera.real.sum() / seconds),
        pan_y=float(-camera.imag.sum() / seconds), zoom=float(changes.zoom.sum() / seconds))


def decide(score: Motion, limits: MotionLimits) -> Verdict:
    """Keeps drawn motion between the limits; a pan over a still painting only where the limits allow it."""
    if score.kind is MotionKind.STATIC:
        return Verdict.drop(GATE, "nothing moves")
    if score.kind is MotionKind.PAN and limits.drop_pan_over_still:
        return Verdict.drop(GATE, f"the camera moves over a still picture ({score.camera_mean:.3f} of the diagonal a second)")
    if score.kind is not MotionKind.PAN and score.drawn_share < limits.min_drawn_share:
        return Verdict.drop(GATE, f"only {score.drawn_share:.1%} of the frames bring drawn motion < {limits.min_drawn_share:.1%}")
    if score.mean > limits.max_mean:
        return Verdict.drop(GATE, f"moves {score.mean:.2f} of the diagonal a second > {limits.max_mean:.2f}")
    return Verdict.kept(GATE)


def decide_again(score: Motion, limits: MotionLimits) -> Verdict:
    """The same for the score of a second flow, which decides only about still clips and too fast ones.

    What tells a camera from drawn motion was fitted to the survey's flow: on 46 half-second spans of real cartoons RAFT agreed
    with it about still or moving every time, but called three spans with drawn motion a pan (docs/models.md).
    """
    if score.kind is MotionKind.STATIC:
        return Verdict.drop(GATE, "nothing moves, says the second flow")
    if score.mean > limits.max_mean:
        return Verdict.drop(GATE, f"moves {score.mean:.2f} of the diagonal a second by the second flow > {limits.max_mean:.2f}")
    return Verdict.kept(GATE)
