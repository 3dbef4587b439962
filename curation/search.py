"""`python -m curation.search OUT "words"`: the clips of a finished curation whose pictures fit the words best.

Reads the vectors that the one pass of CLIP left in the samples (`clip.npy`): it needs the shards and the same CLIP's text half.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from curation.models.clip import TextTower
from curation.models.config import ModelsConfig
from curation.models.files import locate
from pipeline.errors import EXIT_OK, EXIT_USER, UserError
from pipeline.shards import ShardReader

COUNT = 12


@dataclass(frozen=True, slots=True)
class FoundClip:
    key: str
    cosine: float            # of the words and the frame that fits best
    source: str
    start_s: float
    caption: str


def find_clips(out: Path, words: str, models: ModelsConfig, *, count: int = COUNT) -> list[FoundClip]:
    """The best `count` clips of a curation's shards, best first; UserError where they hold no vectors."""
    weights = locate("models.clip.weights", models.clip.weights)
    tower = TextTower(models.clip.name, weights, batch=1, device=models.device, precision=models.precision)
    sentence = tower.embed([words])[0]
    reader = ShardReader(out)
    found: list[FoundClip] = []
    for key in reader.keys:
        sample = reader.sample(key, only=("clip.npy", "json", "txt"))
        if "clip.npy" not in sample.files:
            raise UserError(f"{out} cannot be searched", "its samples hold no vectors of CLIP", "Curate with profile=paper")
        vectors = np.load(BytesIO(sample.files["clip.npy"]), allow_pickle=False)
        if vectors.shape[1] != len(sentence):
            raise UserError(f"{out} cannot be searched", f"its vectors have {vectors.shape[1]} numbers, those of models.clip "
                            f"{len(sentence)}", "Search with the CLIP of that curation")
        record = json.loads(sample.files["json"])
        found.append(FoundClip(sample.key, round(float((vectors @ sentence).max()), 4), record["source"], record["start_s"],
                               sample.files["txt"].decode()))
    return sorted(found, key=lambda one: (-one.cosine, one.key))[:count]


def main(arguments: list[str]) -> int:
    """Prints one line a clip; the models are those of OUT/config.yaml."""
    from pipeline.config import thaw

    try:
        if len(arguments) != 2:
            raise UserError("two words are wanted", 'the folder of a curation and what to look for, e.g. out/films "a red boat"')
        out = Path(arguments[0])
        for one in find_clips(out, arguments[1], thaw(out / "config.yaml").models):
            print(f"{one.cosine:.3f}  {one.key}  {one.source}  {one.start_s:.1f} s  {one.caption}")
    except UserError as error:
        print(f"toonforge: error: {error}", file=sys.stderr)
        return EXIT_USER
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
