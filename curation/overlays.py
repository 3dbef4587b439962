"""What lies over a film's pictures: a channel's logo and hard subtitles, located once per source; kept, cropped or dropped.

A logo stays while everything under it changes: over many different pictures the gradient at its rim is the same, which no
drawing manages. Subtitles are lines at the foot of the picture whose words change while their place does not, or that
stay while the camera moves; they come from the lines the text gate read. Both are shares of the upright picture.
Where no source gives numbers, they are chosen here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.config import OverlaysMode
from curation.gates import credits, motion, quality, text_area
from curation.gates.credits import Credits, CreditsKind
from curation.gates.motion import Motion, MotionKind
from curation.gates.quality import Quality
from curation.gates.text_area import TextArea, share_within
from curation.ledger import Box, Clip, Overlays, Probe, SourceRecord, Status, Verdict
from curation.stage import Resources
from curation.survey import load_looks
from pipeline.store import Store

GATE = "overlays"

SIDE_PX = 256                # long side of the pictures a logo is looked for in
MAX_PICTURES, MIN_PICTURES = 96, 14      # that differ; among fewer a background that returns looks like a logo
OTHER_GREY = 12.0            # mean difference of two looks at 16x9 from which they show different things
EDGE_GREY = 5.0              # median gradient at a logo's rim, grey levels over two pixels
DIRECTION = 0.5              # tangent of the angle by which a gradient may turn and still be the logo's
AGREE_SHARE = 0.55, 0.6      # of n pictures that have the logo's gradient: the first, and the second over the root of n
RIM = 0.025                  # of the picture: at its very rim films have frames of their own
CORNER = (0.3, 0.28)         # of width and height: where logos are
MIN_PIXELS = 12              # at SIDE_PX
GATHER_PX, GATHERED = 9, 0.8 # a logo is one thing: its pixels lie so near each other, and so many of those in the corner
MAX_LOGO = (0.24, 0.2)       # of width and height
MAX_ELSEWHERE = 0.004        # of the rest of the picture that may be as constant; more is one scene, or a drawn frame
MARGIN = 0.012               # of the picture, around what was found

FOOT = 0.7                   # of the height: subtitles begin below
MAX_LINE, CENTRED = 0.12, 0.15               # height of a line; how far its middle may be from the picture's
SAME_PLACE = 0.04            # of the height: two lines stand at one height
OTHER_WORDS = 0.015          # of the width by which two lines differ; the reader's boxes differ by 0.004
EXACT, MIN_LINE = 0.02, 0.2  # of the width: a line in the very middle, and long enough for that to be no chance

MIN_LEFT = 0.7               # of the picture, for a crop


class FindOverlays:
    """Stage: SourceRecord -> SourceRecord with the logo, from the survey's looks. Subtitles follow in `locate_subtitles`."""

    name = "overlays"
    version = 1
    takes = SourceRecord
    batch_size = 1
    resources = Resources(cpus=1.0, memory_gb=0.3)

    def __init__(self, store_root: str) -> None:
        self.store_root = store_root

    def setup(self) -> None:
        cv2.setNumThreads(1)

    def __call__(self, rows: list[SourceRecord]) -> list[list[SourceRecord]]:
        return [[self._with_logo(row)] for row in rows]

    def failed(self, row: SourceRecord, error: str) -> SourceRecord:
        """The film stays usable: only its logo is not known."""
        return replace(row, note="; ".join(filter(None, [row.note, f"no logo could be looked for: {error}"])))

    def _with_logo(self, record: SourceRecord) -> SourceRecord:
        if record.status is not Status.OK or not record.survey_key:
            return record
        looks = load_looks(Store(Path(self.store_root)), record.survey_key)
        step = max(1, len(looks) // (2 * MAX_PICTURES))
        pictures: list[NDArray[np.uint8]] = []
        for look in looks[::step]:
            whole = cv2.imdecode(np.frombuffer(look.jpeg, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_2)
            if whole is None:
                raise ValueError(f"the look at frame {look.frame_index} cannot be read")
            scale = SIDE_PX / max(whole.shape)
            size = max(1, round(whole.shape[1] * scale)), max(1, round(whole.shape[0] * scale))
            pictures.append(np.asarray(cv2.resize(whole, size, interpolation=cv2.INTER_AREA), np.uint8))
        return replace(record, overlays=Overlays(logo=find_logo(pictures, looks[0].content if looks else (0, 0, 1, 1))))


def find_logo(pictures: Sequence[NDArray[np.uint8]], content: Box = (0.0, 0.0, 1.0, 1.0)) -> Box | None:
    """The corner that stays the same over pictures that do not: luma uint8 [h, w] each, about SIDE_PX wide.

    `content`: the picture inside its black bars, whose borders are constant too. None where too few pictures differ.
    """
    chosen = _different(pictures)
    if len(chosen) < MIN_PICTURES:
        return None
    stack = np.stack(chosen).astype(np.int16)
    gradient = np.zeros((2, *stack.shape), np.float32)
    gradient[0, :, :, 1:-1] = stack[:, :, 2:] - stack[:, :, :-2]
    gradient[1, :, 1:-1] = stack[:, 2:] - stack[:, :-2]
    usual = np.median(gradient, axis=1)
    length = np.hypot(*usual)
    along = (gradient * usual[:, None]).sum(axis=0)          # both times the length of the usual gradient
    across = np.abs(gradient[0] * usual[1] - gradient[1] * usual[0])
    agree = ((along >= 0.25 * length**2) & (across <= DIRECTION * along)).mean(axis=0)
    constant = (length >= EDGE_GREY) & (agree >= AGREE_SHARE[0] + AGREE_SHARE[1] / len(chosen) ** 0.5)

    height, width = length.shape
    left, top, right, bottom = (round(share * side) for share, side in zip(content, (width, height) * 2, strict=True))
    rim = 2 + round(RIM * min(right - left, bottom - top))
    inside = constant[top + rim : bottom - rim, left + rim : right - rim]
    high, wide = inside.shape
    down, across = round(CORNER[1] * high), round(CORNER[0] * wide)
    corners = [(rows, columns) for rows in (slice(0, down), slice(high - down, high))
               for columns in (slice(0, across), slice(wide - across, wide))]
    elsewhere = inside.copy()
    for corner in corners:
        elsewhere[corner] = False
    best = max(corners, key=lambda corner: int(inside[corner].sum()))
    if not inside.size or inside[best].sum() < MIN_PIXELS or elsewhere.mean() > MAX_ELSEWHERE:
        return None
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(
        cv2.dilate(inside[best].astype(np.uint8), np.ones((GATHER_PX, GATHER_PX), np.uint8)))
    sizes = np.bincount(labels[inside[best]], minlength=len(boxes))
    rows, columns = np.nonzero(inside[best] & (labels == sizes.argmax()))
    if len(rows) < max(MIN_PIXELS, GATHERED * inside[best].sum()) or np.ptp(columns) > MAX_LOGO[0] * wide or (
            np.ptp(rows) > MAX_LOGO[1] * high):
        return None
    rows, columns = rows + best[0].start + top + rim, columns + best[1].start + left + rim
    return (_share(columns.min() / width - MARGIN), _share(rows.min() / height - MARGIN),
            _share((columns.max() + 1) / width + MARGIN), _share((rows.max() + 1) / height + MARGIN))


def locate_subtitles(clips: Sequence[Clip]) -> tuple[float, float] | None:
    """Top and bottom of the band in which one source's subtitles appear; None where it has none.

    Two looks prove them whose lines stand at one height with other words, or that keep their words while the picture moves:
    under a moving camera, or under a drawing where they stand in the very middle as no sign in a scene does.
    """
    votes: list[tuple[Clip, list[Box]]] = []
    for clip in clips:
        moves, lettering = clip.scores.get(motion.GATE), clip.scores.get(credits.GATE)
        is_moving = isinstance(moves, Motion) and moves.kind is not MotionKind.STATIC
        is_scene = not isinstance(lettering, Credits) or lettering.kind is CreditsKind.NONE
        if is_moving and is_scene:
            votes += [(clip, lines) for look in clip.text_boxes if look and (lines := _foot_lines(look))]
    proven: list[float] = []
    for (clip, one), (other_clip, two) in combinations(votes[:: max(1, len(votes) // 64)], 2):
        if abs(one[-1][3] - two[-1][3]) <= SAME_PLACE and (
                _are_other_words(one, two) or (clip is other_clip and _stay(clip, one))):
            proven += [one[-1][3], two[-1][3]]
    if not proven:
        return None
    foot = float(np.median(proven))
    band = [line for _, lines in votes for line in lines if abs(lines[-1][3] - foot) <= SAME_PLACE]
    return _share(min(line[1] for line in band) - MARGIN), _share(max(line[3] for line in band) + MARGIN)


def apply_overlays(records: Sequence[SourceRecord], clips: Sequence[Clip], mode: OverlaysMode
                   ) -> tuple[list[SourceRecord], list[Clip]]:
    """Records and clips with everything that was located, cropped or dropped as `mode` says."""
    of_source: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        of_source[clip.source].append(clip)
    located: list[SourceRecord] = []
    changed: list[Clip] = []
    for record in records:
        if record.status is Status.OK:
            record = replace(record, overlays=replace(record.overlays or Overlays(),
                                                      subtitles=locate_subtitles(of_source[record.name])))
        located.append(record)
        for clip in of_source[record.name]:
            clip = replace(clip, overlays=record.overlays)
            if mode is OverlaysMode.CROP and record.probe is not None:
                clip = cropped(clip, record.probe)
            elif mode is OverlaysMode.DROP and (reason := _why_covered(clip)) and (clip.verdict is None or clip.verdict.keep):
                clip = replace(clip, verdict=Verdict.drop(GATE, reason))
            changed.append(clip)
    return located, sorted(changed, key=lambda clip: (clip.source, clip.start_frame))


def cropped(clip: Clip, probe: Probe) -> Clip:
    """The clip with `crop` away from its overlays where that leaves enough; its text and its size are those of the rest."""
    if clip.overlays is None or clip.overlays == Overlays():
        return clip
    x, y, width, height = clip.crop
    coded = (x / probe.width, y / probe.height, (x + width) / probe.width, (y + height) / probe.height)
    kept = largest_rest(turned(coded, probe.rotation_deg), clip.overlays)
    if kept is None:
        return clip
    left, top, right, bottom = turned(kept, -probe.rotation_deg)
    # Inwards to whole pixels; the tolerance keeps sides that are not cut where they were.
    first = int(np.ceil(left * probe.width - 1e-6)), int(np.ceil(top * probe.height - 1e-6))
    last = int(np.floor(right * probe.width + 1e-6)), int(np.floor(bottom * probe.height + 1e-6))
    crop = (*first, last[0] - first[0], last[1] - first[1])
    scores = dict(clip.scores)
    if isinstance(size := scores.get(quality.GATE), Quality):
        geometry = quality.summarise([], crop[2], crop[3], probe.sample_aspect)
        scores[quality.GATE] = replace(size, side_px=geometry.side_px, aspect=geometry.aspect)
    if isinstance(text := scores.get(text_area.GATE), TextArea):
        scores[text_area.GATE] = share_within(text, clip.text_boxes, kept)
    return replace(clip, crop=crop, scores=scores)


def largest_rest(content: Box, overlays: Overlays) -> Box | None:
    """The largest part of the picture without the subtitles' band and without the logo; None where less than MIN_LEFT is left.

    Where both cost too much, the one that costs less; shares of the upright picture.
    """
    without_band = [content] if overlays.subtitles is None else [_cut_band(content, overlays.subtitles)]
    choices = [without_band[0]]
    if overlays.logo is not None:
        left, top, right, bottom = overlays.logo
        for base in (without_band[0], content):
            choices += [_meet(base, side) for side in ((right, 0.0, 1.0, 1.0), (0.0, 0.0, left, 1.0), (0.0, bottom, 1.0, 1.0),
                                                       (0.0, 0.0, 1.0, top))]
    left_over = [(_count_free(box, overlays), _area(box), box) for box in choices if _area(box) >= MIN_LEFT * _area(content)]
    best = max(left_over, default=None)
    return None if best is None or best[0] == 0 or best[2] == content else best[2]


def turned(box: Box, rotation_deg: int) -> Box:
    """A box of a picture in that picture turned clockwise by a multiple of 90 degrees."""
    left, top, right, bottom = box
    for _ in range(rotation_deg // 90 % 4):
        left, top, right, bottom = 1.0 - bottom, left, 1.0 - top, right
    return left, top, right, bottom


def _different(pictures: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """At most MAX_PICTURES that show different things: a scene that stays, or comes back soon, counts once."""
    chosen: list[NDArray[np.uint8]] = []
    small = np.zeros((len(pictures), 9, 16), np.float32)
    for picture in pictures:
        tiny = cv2.resize(picture, (16, 9), interpolation=cv2.INTER_AREA).astype(np.float32)
        if (np.abs(small[: len(chosen)] - tiny).mean(axis=(1, 2)) >= OTHER_GREY).all():
            small[len(chosen)] = tiny
            chosen.append(picture)
    step = max(1, -(-len(chosen) // MAX_PICTURES))
    return chosen[::step]


def _foot_lines(look: Sequence[Box]) -> list[Box]:
    """The centred lines at the foot of a look, the lowest last."""
    return sorted((box for box in look if box[1] >= FOOT and box[3] - box[1] <= MAX_LINE
                   and abs((box[0] + box[2]) / 2 - 0.5) <= CENTRED), key=lambda box: box[3])


def _are_other_words(one: Sequence[Box], two: Sequence[Box]) -> bool:
    return len(one) != len(two) or any(abs((left[2] - left[0]) - (right[2] - right[0])) > OTHER_WORDS
                                       for left, right in zip(one, two, strict=True))


def _stay(clip: Clip, lines: Sequence[Box]) -> bool:
    """Whether lines that two looks of a moving clip share lie over the picture."""
    moves = clip.scores[motion.GATE]
    is_camera = isinstance(moves, Motion) and moves.kind in (MotionKind.PAN, MotionKind.BOTH)
    return is_camera or all(abs((line[0] + line[2]) / 2 - 0.5) <= EXACT and line[2] - line[0] >= MIN_LINE for line in lines)


def _why_covered(clip: Clip) -> str:
    if clip.overlays is None:
        return ""
    if clip.overlays.logo is not None:
        return "a logo lies over the film"
    band = clip.overlays.subtitles
    lines = [line for look in clip.text_boxes for line in look or ()]
    if band is not None and any(line[1] < band[1] and line[3] > band[0] for line in lines):
        return "subtitles lie over the picture"
    return ""


def _share(value: float) -> float:
    return round(min(1.0, max(0.0, float(value))), 4)


def _cut_band(box: Box, band: tuple[float, float]) -> Box:
    left, top, right, bottom = box
    return (left, top, right, min(bottom, max(top, band[0])))


def _meet(one: Box, two: Box) -> Box:
    return max(one[0], two[0]), max(one[1], two[1]), min(one[2], two[2]), min(one[3], two[3])


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def _count_free(box: Box, overlays: Overlays) -> int:
    """How many of the overlays a box leaves out."""
    free = 0
    if overlays.logo is not None:
        free += _area(_meet(box, overlays.logo)) <= 1e-9
    if overlays.subtitles is not None:
        free += _area(_meet(box, (0.0, overlays.subtitles[0], 1.0, overlays.subtitles[1]))) <= 1e-9
    return free
