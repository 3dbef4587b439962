"""What a triplet is called and what its sample in the shards holds: three PNG files and a record of where they come from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict

from curation.triplets.candidates import Candidate
from curation.triplets.clips import TripletClip
from curation.triplets.config import NamesConfig, Unit
from curation.triplets.difficulty import GRADED_BY
from curation.triplets.gates import ClipPairs
from curation.triplets.layout import Annotation
from curation.triplets.make import PICTURES, MadeTriplet
from curation.triplets.midtime import shown_midtime
from curation.triplets.roi import Roi
from curation.triplets.votes import Ballot
from pipeline.records import canonical_json
from pipeline.shards import Sample

TRIPLET_SCHEMA = 1
JAPAN = "Japan"              # loaders of ATD-12K choose SGM's constants by this beginning of a name
FILM_DIGITS = 10             # hexadecimal, of a film's sha256


def name_of(clip: TripletClip, candidate: Candidate, names: NamesConfig) -> str:
    """ORIGIN_v<film>_<shot>_<frame of the film, six digits>_s<spacing>, as ATD-12K's names are understood.

    The film is a number made of its digest: numbering films in a row would rename all when one is added.
    """
    origin = JAPAN if names.japan and re.search(names.japan, clip.title) else names.origin
    film = int(clip.source_sha256[:FILM_DIGITS], 16)
    return f"{origin}_v{film}_{clip.shot}_{clip.start_frame + candidate.frames[0]:06d}_s{candidate.spacing}"


def annotate(made: MadeTriplet, level: int, ballot: Ballot | None) -> Annotation:
    """ATD-12K's annotation; the whole picture where nothing is drawn moving, no tags where no reviewer gave any."""
    roi = made.roi or Roi(0, 0, made.width, made.height)
    return Annotation((made.width, made.height), roi, level, tuple(sorted(ballot.motion)) if ballot else (),
                      tuple(sorted(ballot.behavior)) if ballot else ())


def build_sample(name: str, made: MadeTriplet, pairs: ClipPairs, annotation: Annotation, unit: Unit, ballot: Ballot | None,
                 pngs: Sequence[bytes]) -> Sample:
    """Members 0.png, 1.png, 2.png and json; docs/triplets.md describes the record."""
    clip, frames = made.clip, made.candidate.frames
    one, two, three = (round(clip.start_s + pairs.times_s[frame], 6) for frame in frames)
    shown = round(shown_midtime((one, two, three)), 4)
    similarities = dict(zip(("12", "23", "13"), pairs.of(made.candidate), strict=True))
    box = annotation.roi
    record = {
        "schema": TRIPLET_SCHEMA, "key": name, "title": clip.title, "source": clip.source, "source_sha256": clip.source_sha256,
        "clip": clip.key, "shot": clip.shot, "split": clip.split, "caption": clip.caption, "fps": clip.fps, "width": made.width,
        "height": made.height, "unit": unit, "spacing": made.candidate.spacing,
        "frames": [clip.start_frame + frame for frame in frames], "times_s": [one, two, three], "ssim": similarities,
        "difficulty": annotation.level, "difficulty_by": GRADED_BY, "motion": asdict(made.motion),
        "roi": [box.x, box.y, box.width, box.height], "roi_from": "motion" if made.roi else "whole picture",
        "midtime": shown if made.midtime is None else made.midtime.share,
        "midtime_from": "times" if made.midtime is None else "motion", "midtime_shown": shown,
        "midtime_spread": None if made.midtime is None else made.midtime.spread,
        "votes": {"eligible": len(ballot.eligible), "against": len(ballot.against)} if ballot else None,
        "annotation": annotation.as_json(),
    }
    return Sample(name, {**dict(zip(PICTURES, pngs, strict=True)), "json": canonical_json(record).encode()})
