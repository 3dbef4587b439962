"""Which clips the report shows, and their pictures: spread over the sources, the nearest to a limit among them.

The choice depends on the rows alone: an order by digest stands where a random draw would, so the same curation shows
the same clips and another film changes little.
"""

from __future__ import annotations

import base64
import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import cv2

from curation.charts import SCORES, ScoreSpec
from curation.config import GatesConfig
from curation.funnel import is_kept
from curation.ledger import Clip
from curation.survey import Look, Survey, load_looks
from pipeline.store import Store

NUM_KEPT = 24
NUM_DROPPED = 6              # of each gate
NEAR_SHARE = 1 / 3           # of the examples are those nearest to a limit
NEAR = 0.5                   # share of a limit within which a score counts as near
STRIP_LOOKS = 3              # first, middle and last
BOX_W, BOX_H = 160, 120      # a picture of a strip fits into this, pixels
JPEG_QUALITY = 70
MAX_TEXT = 240               # characters of a caption or a reason


@dataclass(frozen=True, slots=True)
class Picture:
    uri: str                           # "data:image/jpeg;base64,..."
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Example:
    """One clip as the report shows it."""

    clip: Clip
    strip: list[Picture]
    caption: str
    reason: str
    near: str                          # the limit it lies close to, if that is why it is shown
    scores: list[tuple[str, str]]      # name and value


def kept_examples(clips: Sequence[Clip], limits: GatesConfig, store: Store) -> list[Example]:
    return _examples([clip for clip in clips if is_kept(clip)], NUM_KEPT, SCORES, limits, store)


def dropped_examples(clips: Sequence[Clip], gate: str, limits: GatesConfig, store: Store) -> list[Example]:
    """Examples of what one gate dropped."""
    dropped = [clip for clip in clips if not is_kept(clip) and clip.verdict is not None and clip.verdict.gate == gate]
    return _examples(dropped, NUM_DROPPED, [spec for spec in SCORES if spec.gate == gate], limits, store)


def spread(clips: Sequence[Clip], number: int) -> list[Clip]:
    """At most `number` clips, one of every source before a second of any."""
    by_source: dict[str, list[Clip]] = defaultdict(list)
    for clip in sorted(clips, key=lambda clip: _digest(clip.key)):
        by_source[clip.source].append(clip)
    queues = [by_source[source] for source in sorted(by_source, key=_digest)]
    rounds = max(map(len, queues), default=0)
    return [queue[turn] for turn in range(rounds) for queue in queues if turn < len(queue)][:number]


def nearest_to_limits(clips: Sequence[Clip], number: int, specs: Sequence[ScoreSpec], limits: GatesConfig
                      ) -> dict[str, str]:
    """Keys of at most `number` clips and the limit each lies close to: the nearest of every limit before a second.

    Of kept clips the scores within their limits count, of dropped ones those beyond: a long clip without motion is
    not close to being dropped for its length.
    """
    ranked: list[tuple[int, float, str, str]] = []
    for spec in specs:
        margins = [(abs(margin), clip.key) for clip in clips if (margin := spec.margin(clip, limits)) is not None
                   and (margin >= 0) == is_kept(clip) and abs(margin) < NEAR]
        option = f"{spec.gate}.{spec.option}"
        ranked += [(rank, margin, key, option) for rank, (margin, key) in enumerate(sorted(margins))]
    found: dict[str, str] = {}
    for _, _, key, option in sorted(ranked):
        if len(found) < number:
            found.setdefault(key, option)
    return found


def _examples(clips: Sequence[Clip], number: int, specs: Sequence[ScoreSpec], limits: GatesConfig, store: Store
              ) -> list[Example]:
    near = nearest_to_limits(clips, round(number * NEAR_SHARE), specs, limits)
    others = spread([clip for clip in clips if clip.key not in near], number - len(near))
    chosen = [clip for clip in clips if clip.key in near] + others
    return [_example(clip, near.get(clip.key, ""), store)
            for clip in sorted(chosen, key=lambda clip: (clip.source, clip.start_frame))]


def _example(clip: Clip, near: str, store: Store) -> Example:
    shown = [(spec.short, spec.form(value)) for spec in SCORES
             if spec.field not in ("frames", "drawings") and (value := spec.value(clip)) is not None]
    assert clip.verdict is not None, f"{clip.key} has no verdict"
    reason = clip.verdict.reason.removeprefix(f"{clip.verdict.gate}: ")  # the heading names the gate
    return Example(clip, _strip(clip, store), shorten(clip.caption), shorten(reason), near, shown)


def _strip(clip: Clip, store: Store) -> list[Picture]:
    """First, middle and last look of a clip; fewer where it has fewer, none where its survey is gone."""
    if not clip.survey_key or not store.has(Survey.name, clip.survey_key):
        return []
    looks = load_looks(store, clip.survey_key, clip.start_frame, clip.end_frame)
    count = min(STRIP_LOOKS, len(looks))
    places = [index * (len(looks) - 1) // max(1, count - 1) for index in range(count)]
    return [_picture(looks[place]) for place in places]


def _picture(look: Look) -> Picture:
    bgr = look.picture()
    height, width = bgr.shape[:2]
    scale = min(1.0, BOX_W / width, BOX_H / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(bgr, size, interpolation=cv2.INTER_AREA)
    data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
    return Picture("data:image/jpeg;base64," + base64.b64encode(data).decode("ascii"), *size)


def shorten(text: str, limit: int = MAX_TEXT) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
