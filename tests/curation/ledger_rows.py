"""Builders of ledger rows for tests: a source and a clip with everything measured, and a store with their looks."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from curation.gates.credits import NOTHING
from curation.gates.duplicates import Duplicates
from curation.gates.duration import Duration
from curation.gates.motion import Motion, MotionKind
from curation.gates.quality import LookQuality, Quality
from curation.gates.text_area import TextArea
from curation.ledger import Clip, Probe, Score, SourceRecord, Status, Verdict
from curation.survey import Survey
from pipeline.store import Store

FPS = 24
PROBE = Probe(container="matroska", codec="h264", pix_fmt="yuv420p", bit_depth=8, width=640, height=360, rotation_deg=0,
              sample_aspect=Fraction(4, 3), fps=float(FPS), duration_s=10.0, time_base=Fraction(1, 1000),
              color_range="tv", has_audio=True)


def digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def make_record(name: str = "film.mkv", *, num_frames: int = 240, num_shots: int = 2, **changes: object
                ) -> SourceRecord:
    record = SourceRecord(name, Status.OK, sha256=digest(name), num_bytes=1000, title=name, probe=PROBE,
                          num_frames=num_frames, num_shots=num_shots, survey_key=digest(name), cpu_s=1.0)
    return replace(record, **changes)  # type: ignore[arg-type]


def make_clip(source: str = "film.mkv", index: int = 0, *, num_frames: int = 48, dropped_by: str = "",
              split: str = "train", drawn_share: float = 0.5, **changes: object) -> Clip:
    """A clip on twos that every gate measured; `dropped_by`: the gate that drops it."""
    start = index * num_frames
    scores: dict[str, Score] = {
        "duration": Duration(num_frames, num_frames / FPS, num_frames // 2, 0),
        "quality": Quality(360, 1.78, 1.1, 0.6),
        "motion": Motion(MotionKind.DRAWN, 0.05, 0.04, 0.02, 0.1, drawn_share, 0.0, 0.0, 0.0, 0.0),
        "text_area": TextArea(0.0, 2, 2),
        "credits": NOTHING,
        "duplicates": Duplicates("self", None, ""),
    }
    verdict = Verdict.drop(dropped_by, "because of a test") if dropped_by else Verdict.kept("all")
    clip = Clip(source=source, sha256=digest(source), title=source, shot_index=index, clip_index=index,
                start_frame=start, end_frame=start + num_frames,
                start_pts=start * 1000 // FPS, end_pts=(start + num_frames) * 1000 // FPS,
                time_base=Fraction(1, 1000), fps=float(FPS), holds=(2,) * (num_frames // 2), cadence="twos",
                survey_key=digest(source), crop=(0, 0, 640, 360), scores=scores, verdict=verdict,
                caption="" if dropped_by else "A cartoon.", caption_model="" if dropped_by else "measured-facts/1",
                split="" if dropped_by else split)
    return replace(clip, **changes)  # type: ignore[arg-type]


def store_looks(store: Store, key: str, frames: list[int]) -> None:
    """Publishes a survey that holds nothing but looks, grey pictures of different brightness."""
    quality = LookQuality(1.0, 0.5, 0.0, 100.0, 50.0)
    with store.publish(Survey.name, key) as folder:
        looks, data = [], b""
        for place, frame in enumerate(frames):
            picture = np.full((288, 512, 3), 40 + 30 * place, np.uint8)
            jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
            looks.append({"frame_index": frame, "pts": frame, "quality": asdict(quality), "offset": len(data),
                          "size": len(jpeg)})
            data += jpeg
        (folder / "looks.bin").write_bytes(data)
        head = {"looks": looks, "content_box": [0, 0, 512, 288], "probe": {"width": 512, "height": 288, "rotation_deg": 0}}
        (folder / "survey.json").write_text(json.dumps(head))


def make_store(folder: Path, sources: list[str], frames: list[int]) -> Store:
    store = Store(folder)
    for source in sources:
        store_looks(store, digest(source), frames)
    return store
