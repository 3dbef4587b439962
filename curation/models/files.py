"""Which weight files a configuration needs, where they lie, and what they are called in records and keys.

Every model is loaded through `pipeline.weights`, from safetensors or with weights_only, so that no file can run code. All of
them are looked for before the first film is opened: what is missing is one sentence.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from curation.models.config import AestheticName, CaptionName, FlowName, ModelsConfig, TextName
from pipeline.errors import UserError

FETCH = "make weights PROFILE=paper"
INSTEAD = {                 # by the option's group: what needs no file
    "flow": "models.flow.name=none", "text": "models.text.name=rapidocr", "caption": "models.caption.name=facts, with "
    "models.alignment.name=none gates.alignment.enabled=false", "sketch": "curation.encode.sketch=opencv"}


def references(models: ModelsConfig) -> dict[str, str]:
    """The reference of everything that is needed, by the option that names it."""
    found: dict[str, str] = {}
    if models.flow.name is not FlowName.NONE:
        found["models.flow.weights"] = models.flow.weights
    if models.text.name is not TextName.RAPIDOCR:
        found["models.text.weights"] = models.text.weights
    if models.has_clip:
        found["models.clip.weights"] = models.clip.weights
    if models.aesthetic.name is not AestheticName.NONE:
        found["models.aesthetic.weights"] = models.aesthetic.weights
    if models.caption.name is not CaptionName.FACTS:
        found["models.caption.weights"] = models.caption.weights
    for name in models.sketch.extractors:
        if name != "opencv":
            found[f"models.sketch.{name}"] = getattr(models.sketch, name)
    return found


def locate(option: str, reference: str) -> Path:
    """The file or folder of a reference, as pipeline.weights resolves it; UserError if absent."""
    from pipeline import weights

    group = option.split(".")[1]
    instead = f"{INSTEAD[group]}, or profile=embedded" if group in INSTEAD else "profile=embedded"
    fix = f"Run {FETCH}, or use {instead}, which needs no weights"
    if not reference or weights.is_embedded(reference):
        raise UserError(f"{option}={reference or '(empty)'} cannot be used", "this model needs a file of weights", fix)
    try:
        return weights.resolve(reference)
    except UserError as error:
        raise UserError(f"{option}={reference} cannot be used", f"{error.what} ({error.why})" if error.why else error.what,
                        fix) from error


def find_all(models: ModelsConfig) -> dict[str, str]:
    """What every configured model is, "name sha256:...", by its group; UserError for the first that is absent."""
    names = {"flow": models.flow.name.value, "text": models.text.name.value, "clip": models.clip.name,
             "aesthetic": models.aesthetic.name.value, "caption": models.caption.name.value}
    found: dict[str, str] = {}
    for option, reference in references(models).items():
        group, last = option.split(".")[1:3]
        key = group if group in names else last
        found[key] = f"{names.get(group, last)} sha256:{_digest(locate(option, reference))[:16]}"
    return found


def _digest(path: Path) -> str:
    """Of a file's bytes; of a folder the digest of its files' names and digests."""
    from pipeline import weights

    if path.is_file():
        return weights.digest(path)
    whole = hashlib.sha256()
    for file in sorted(item for item in path.iterdir() if item.is_file() and item.suffix != ".sha256"):
        whole.update(f"{file.name} {weights.digest(file)}\n".encode())
    return whole.hexdigest()
