"""What a sample of the shards holds: film, caption and record of one clip (design: output of a curation run)."""

from __future__ import annotations

from dataclasses import asdict

from curation.encode import EncodedClip
from curation.ledger import Clip
from pipeline.records import canonical_json
from pipeline.shards import Sample
from pipeline.store import Store

SAMPLE_SCHEMA = 1


def build_sample(clip: Clip, encoded: EncodedClip, store: Store, *, not_measured: tuple[str, ...]) -> Sample:
    """Members mp4, txt and json, and sketch.npz where one was made. `not_measured`: what the profile has no model for."""
    folder = store.path("clip", encoded.artifact_key)
    record = {
        "schema": SAMPLE_SCHEMA, "key": clip.key, "source": clip.source, "source_sha256": clip.sha256, "title": clip.title,
        "shot": clip.shot_index, "start_pts": clip.start_pts, "end_pts": clip.end_pts, "time_base": clip.time_base,
        "start_s": clip.start_s, "end_s": clip.end_s, "fps": clip.fps, "frames": clip.num_frames, "width": encoded.width,
        "height": encoded.height, "crop": clip.crop, "holds": clip.holds, "drawings": len(clip.holds), "cadence": clip.cadence,
        "repeat": asdict(clip.repeat) if clip.repeat else None,
        "overlays": asdict(clip.overlays) if clip.overlays else None,
        "scores": {gate: asdict(score) for gate, score in clip.scores.items()},
        "not_measured": list(not_measured), "captions": [{"text": clip.caption, "model": clip.caption_model}],
    }
    files = {"mp4": (folder / "clip.mp4").read_bytes(), "txt": clip.caption.encode(),
             "json": canonical_json(record).encode()}
    if (folder / "sketch.npz").is_file():
        files["sketch.npz"] = (folder / "sketch.npz").read_bytes()
    return Sample(clip.key, files)
