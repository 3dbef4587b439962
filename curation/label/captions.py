"""Stage that lets a captioning model describe clips, from one frame or several, and says who said what.

ToonCrafter (arXiv 2405.17933, section 3.2) captions with BLIP-2 and does not say which frame; the middle one is asked here unless
more are configured. Sentences of several frames are put after one another without repeating what another one says already. A
clip about which the model says nothing keeps its caption of measured facts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from curation.clip_frames import load_frames, spread_frames
from curation.ledger import Clip, FrameCaption
from curation.models.batches import NotFinite
from curation.models.captioner import Captioner
from curation.models.clip_stage import ClipStage, model_resources
from curation.models.config import ModelsConfig, Precision
from pipeline.records import read_json, write_json
from pipeline.store import Store

SCHEMA, FILE = 1, "captions.json"
MEMORY_GB = 16.0             # BLIP-2 with OPT 2.7b in float32: 3.7e9 weights of 4 bytes and what a batch needs


class WriteCaptions(ClipStage[list[str]]):
    """Stage: Clip -> Clip with `caption`, `caption_model` and `frame_captions`."""

    name, version, kind, gate = "captions", 1, "captions", "caption"

    def __init__(self, store_root: str, models: ModelsConfig, weights: Path, identity: str) -> None:
        caption = models.caption
        precision = models.precision if caption.precision is Precision.AUTO else caption.precision
        super().__init__(store_root, identity, count=caption.frames, prompt=caption.prompt, max_tokens=caption.max_tokens,
                         precision=precision)
        self.models, self.weights = models, weights
        self.batch_size = max(1, caption.batch // caption.frames)
        self.resources = model_resources(models, MEMORY_GB)
        self._captioner: Captioner | None = None

    def measure(self, clips: Sequence[Clip]) -> list[list[str] | NotFinite]:
        if self._captioner is None:
            self._captioner = Captioner(self.models.caption, self.weights, device=self.models.device,
                                        precision=self.models.precision)
        count, store = self.models.caption.frames, Store(Path(self.store_root))
        spoken = self._captioner.caption([picture for clip in clips for picture in load_frames(store, clip, count)])
        found: list[list[str] | NotFinite] = []
        for place in range(len(clips)):
            part = spoken[place * count : (place + 1) * count]
            broken = next((one for one in part if isinstance(one, NotFinite)), None)
            found.append(broken or [one for one in part if isinstance(one, str)])
        return found

    def write(self, found: list[str], folder: Path) -> None:
        write_json(folder / FILE, {"schema": SCHEMA, "texts": found})

    def read(self, clip: Clip, folder: Path, key: str) -> Clip:
        texts = read_json(folder / FILE, SCHEMA)["texts"]
        assert isinstance(texts, list)
        places = spread_frames(clip.num_frames, self.models.caption.frames)
        said = tuple(FrameCaption(str(text), self.identity, frame, self.models.caption.prompt)
                     for text, frame in zip(texts, places, strict=True) if text)
        if not said:
            return clip
        return replace(clip, caption=join_captions([one.text for one in said]), caption_model=self.identity, frame_captions=said)


def join_captions(texts: Sequence[str]) -> str:
    """One text of several: sentences that another one contains, whatever their case and marks, are left out."""
    kept: list[str] = []
    for text in texts:
        words = _words(text)
        if words and not any(words in _words(other) for other in kept):
            kept = [other for other in kept if _words(other) not in words] + [text.strip().rstrip(".")]
    return " ".join(f"{text}." for text in kept)


def _words(text: str) -> str:
    """The words alone, with a space at both ends, so that one text contains another by whole words."""
    found = re.findall(r"[^\W_]+", text.lower())
    return f" {' '.join(found)} " if found else ""
