"""Which stages a configuration's models make, in the order of their cost, with a judgement wherever one may spare the next.

Nothing of this exists under profile=embedded. The order: one pass of CLIP over three frames (milliseconds on a GPU) and its
aesthetic score, RAFT over every drawing, captions, and the caption's alignment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from curation.clip_frames import TakeFrames
from curation.config import GatesConfig, SourcesConfig
from curation.flow import MeasureFlow
from curation.gates.aesthetic import MeasureAesthetic
from curation.gates.alignment import MeasureAlignment
from curation.gates.text_area import MeasureTextArea
from curation.gates.text_detector import DetectText
from curation.label.captions import WriteCaptions
from curation.label.draw import DrawSketches
from curation.label.embed import Embed
from curation.ledger import Access, Clip
from curation.models.batches import choose_device
from curation.models.config import AestheticName, AlignmentName, CaptionName, DeviceName, FlowName, ModelsConfig, TextName
from curation.models.files import find_all, locate
from curation.stage import Resources, Stage
from curation.verdicts import judge


class Judge:
    """Stage: Clip -> Clip with the verdict of what is measured so far, so that a dropped clip costs nothing more."""

    name = "judge"
    version = 1
    takes = Clip
    batch_size = 64
    resources = Resources(cpus=1.0, memory_gb=0.1)

    def __init__(self, gates: GatesConfig) -> None:
        self.gates = gates

    def setup(self) -> None:
        """No models."""

    def __call__(self, rows: list[Clip]) -> list[list[Clip]]:
        return [[replace(clip, verdict=judge(clip, self.gates))] for clip in rows]

    def failed(self, row: Clip, error: str) -> Clip:
        raise AssertionError(f"a pure function failed: {error}")


@dataclass(frozen=True, slots=True)
class ModelStages:
    """The stages of one configuration; made before anything runs, so that what is missing is said in the first second."""

    models: ModelsConfig
    root: str                            # of the store
    known: Mapping[str, str]             # name and digest of every model, by its group

    @classmethod
    def find(cls, models: ModelsConfig, root: str) -> ModelStages:
        """UserError where a weight file or a GPU that is asked for is absent."""
        if models.device is DeviceName.CUDA:
            choose_device(models.device)
        return cls(models, root, find_all(models))

    def text(self, *, measure_all: bool) -> Stage:
        """What measures the text gate."""
        if self.models.text.name is TextName.RAPIDOCR:
            return MeasureTextArea(self.root, measure_all=measure_all)
        return DetectText(self.root, self.models, self._weights("text"), self.known["text"], measure_all=measure_all)

    def of_clips(self, accesses: Mapping[str, Access], sources: SourcesConfig, gates: GatesConfig, *, measure_all: bool
                 ) -> list[Stage]:
        """What looks closely at the clips that the cheap gates left; empty where there is no model for it."""
        models = self.models
        has_caption = models.caption.name is not CaptionName.FACTS
        judges: list[Stage] = [] if measure_all else [Judge(gates)]
        counts = [models.clip.frames] * models.has_clip + [models.caption.frames] * has_caption
        stages: list[Stage] = [TakeFrames(self.root, accesses, sources, counts)] if counts else []
        if models.has_clip:
            stages.append(Embed(self.root, models, self._weights("clip"), self.known["clip"]))
        if models.aesthetic.name is not AestheticName.NONE:
            stages += [MeasureAesthetic(self.root, models.aesthetic.name, self._weights("aesthetic")), *judges]
        if models.flow.name is not FlowName.NONE:
            stages += [MeasureFlow(self.root, models, self._weights("flow"), self.known["flow"], accesses, sources), *judges]
        if has_caption:
            stages.append(WriteCaptions(self.root, models, self._weights("caption"), self.known["caption"]))
        if models.alignment.name is not AlignmentName.NONE:
            stages.append(MeasureAlignment(self.root, models, self._weights("clip"), self.known["clip"]))
        return stages

    def of_encoded(self) -> list[Stage]:
        """What draws sketches of the encoded clips."""
        names = self.models.sketch.extractors
        if not names:
            return []
        weights = {name: locate(f"models.sketch.{name}", getattr(self.models.sketch, name)) for name in names if name != "opencv"}
        identity = ",".join(self.known.get(name, name) for name in names)
        return [DrawSketches(self.root, self.models, weights, identity)]

    def described(self) -> dict[str, str]:
        """What measured what, for the manifest: as under profile=embedded, with the models that took a place."""
        return {"caption": "measured-facts/1", "text_area": "RapidOCR (PP-OCR, in its wheel)", "flow": "OpenCV DIS",
                "cuts": "PySceneDetect signals", **dict.fromkeys(self.models.not_measured, "not measured"), **self._renamed()}

    def _renamed(self) -> dict[str, str]:
        found = {name: identity for name, identity in self.known.items() if name not in ("text", "flow")}
        if "text" in self.known:
            found["text_area"] = self.known["text"]
        if "flow" in self.known:
            found["flow"] = f"OpenCV DIS, then {self.known['flow']}"
        if self.models.alignment.name is not AlignmentName.NONE:
            found["alignment"] = self.known["clip"]
        return found

    def _weights(self, group: str) -> Path:
        return locate(f"models.{group}.weights", getattr(self.models, group).weights)


def versions_of(stages: Sequence[Stage]) -> dict[str, int]:
    return {stage.name: stage.version for stage in stages}
