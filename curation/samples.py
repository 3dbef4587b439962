"""What a sample of the shards holds: film, caption and record of one clip (design: output of a curation run)."""

from __future__ import annotations

from dataclasses import asdict

from curation.encode import EncodedClip
from curation.label import draw, embed
from curation.label.draw import DrawnSketch
from curation.ledger import Clip
from pipeline.records import canonical_json
from pipeline.shards import Sample
from pipeline.store import Store

SAMPLE_SCHEMA = 1


def build_sample(clip: Clip, encoded: EncodedClip, store: Store, *, not_measured: tuple[str, ...],
                 sketch: DrawnSketch | None = None) -> Sample:
    """Members mp4, txt and json, and clip.npy and sketch.npz where they were made.

    `not_measured`: what the profile has no model for; `sketch`: what models drew.
    """
    folder = store.path("clip", encoded.artifact_key)
    record = {
        "schema": SAMPLE_SCHEMA, "key": clip.key, "source": clip.source, "source_sha256": clip.sha256, "title": clip.title,
        "shot": clip.shot_index, "start_pts": clip.start_pts, "end_pts": clip.end_pts, "time_base": clip.time_base,
        "start_s": clip.start_s, "end_s": clip.end_s, "fps": clip.fps, "frames": clip.num_frames, "width": encoded.width,
        "height": encoded.height, "crop": clip.crop, "holds": clip.holds, "drawings": len(clip.holds), "cadence": clip.cadence,
        "repeat": asdict(clip.repeat) if clip.repeat else None,
        "overlays": asdict(clip.overlays) if clip.overlays else None,
        "scores": {gate: asdict(score) for gate, score in clip.scores.items()},
        "not_measured": list(not_measured), "captions": _captions(clip),
    }
    if sketch is not None:
        record["sketches"] = {"extractors": list(sketch.extractors), "error": sketch.error}
    files = {"mp4": (folder / "clip.mp4").read_bytes(), "txt": clip.caption.encode(),
             "json": canonical_json(record).encode()}
    if (folder / "sketch.npz").is_file():
        files["sketch.npz"] = (folder / "sketch.npz").read_bytes()
    if sketch is not None and not sketch.error:
        files["sketch.npz"] = (store.path(draw.KIND, sketch.artifact_key) / draw.FILE).read_bytes()
    if clip.embed_key:
        files["clip.npy"] = (store.path(embed.KIND, clip.embed_key) / embed.FILE).read_bytes()
    return Sample(clip.key, files)


def _captions(clip: Clip) -> list[dict[str, object]]:
    """The caption of the txt member first, then what a model said about each frame."""
    return [{"text": clip.caption, "model": clip.caption_model}, *(asdict(one) for one in clip.frame_captions)]
