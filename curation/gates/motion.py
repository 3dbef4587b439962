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
DRAWN_AREA = 0.004           # of the picture that must move against the camera for a drawing to count as drawn motion
DRAWN_AREA_PANNING = 0.03    # the same while the camera moves: interpolation and parallax leave traces
LOCAL_PEAK = 20.0            # grey levels: a change this strong is drawn however small it is (a mouth, an eye)


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


def measure_motion(signals: dict[str, NDArray[np.float32]], new: NDArray[np.bool_], start: int, end: int,
                   seconds: float) -> Motion:
    """Sums what the survey measured between the drawings of frames start..end (exclusive).

    The step into the first frame belongs to what came before and does not count. `seconds`: length of the span.
    """
    inside = slice(start + 1, end)
    brings = new[inside]

    def column(name: str) -> NDArray[np.float64]:
        return np.nan_to_num(signals[name][inside].astype(np.float64)) * brings

    pan = column("pan_x") + 1j * column("pan_y")
    zoom = column("zoom")
    area = np.where(np.isnan(signals["drawn_area"][inside]), 0.0, signals["drawn_area"][inside])
    camera_mean = float(np.abs(pan).sum() / seconds)
    camera_moves = abs(pan.sum()) / seconds > CAMERA_STILL_PER_S or abs(zoom.sum()) / seconds > ZOOM_STILL_PER_S
    drawn = area > (DRAWN_AREA_PANNING if camera_moves else DRAWN_AREA)
    if not camera_moves:
        drawn |= signals["change_peak"][inside] > LOCAL_PEAK
    drawn &= brings
    num_drawn = int(drawn.sum())
    moves = num_drawn >= 2
    kind = {(True, True): MotionKind.BOTH, (True, False): MotionKind.DRAWN,
            (False, True): MotionKind.PAN, (False, False): MotionKind.STATIC}[moves, bool(camera_moves)]
    return Motion(
        kind=kind, mean=float(column("total_mean").sum() / seconds), drawn_mean=float(column("drawn_mean").sum() / seconds),
        drawn_max=float(column("drawn_peak").max(initial=0.0)),
        drawn_area=float(area[drawn].mean()) if num_drawn else 0.0, drawn_share=num_drawn / max(1, len(brings)),
        camera_mean=camera_mean, pan_x=float(-pan.real.sum() / seconds), pan_y=float(-pan.imag.sum() / seconds),
        zoom=float(zoom.sum() / seconds))


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
