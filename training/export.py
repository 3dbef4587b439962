"""`python -m pipeline export`: one file in the upstream whole-model layout, out of a base model and what was trained here.

The result has the names, shapes and order of the public checkpoint, so public programs read it; what each part was taken from, by
digest, stands in the file's metadata.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from pipeline.errors import EXIT_OK, EXIT_USER, UserError, nearest
from pipeline.weight_kinds import mismatch
from pipeline.weights import digest, is_embedded, read_tensors, resolve, write_tensors
from training.config import Preset
from training.diffusion.schedule import make_schedule
from training.embedded import seeded
from training.models import registry
from training.models.bundle import PREFIXES, SCHEDULE, join, split
from training.models.presets import preset_info

OPTIONS = ("weights", "parts", "out", "preset", "half")
USAGE = "Write: export weights=BASE parts=A.safetensors,B.safetensors out=model.safetensors"


def export(base: str, parts: list[str], out: Path, *, preset: Preset = Preset.TOONCRAFTER_512,
           half: bool = False) -> dict[str, str]:
    """Writes the whole model and returns what each network was taken from.

    `base` is a whole model by reference, each of `parts` a weights.safetensors of a training, whose tensors replace the base's.
    `half` stores floating point as float16. UserError where a tensor belongs nowhere or the result is no whole model.
    """
    networks, sources = _base(base, preset)
    for path in parts:
        for name, tensors in split(read_tensors(resolve(path))).items():
            if name == SCHEDULE:
                continue
            networks[name] = {**networks.get(name, {}), **tensors}
            sources[name] = f"{Path(path).name} sha256:{digest(resolve(path))}"
    for name in PREFIXES:
        _check(name, networks.get(name, {}), preset, out)
    settings = preset_info(preset.value).schedule
    schedule = make_schedule(zero_terminal_snr=settings.zero_terminal_snr, dynamic_rescale=settings.dynamic_rescale,
                             parameterization=settings.parameterization, base_scale=settings.base_scale)
    whole = join({name: networks[name] for name in PREFIXES}, schedule.buffers())
    if half:
        whole = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in whole.items()}
    write_tensors(out, whole, {name: source for name, source in sources.items()})
    return sources


def _base(reference: str, preset: Preset) -> tuple[dict[str, dict[str, Tensor]], dict[str, str]]:
    if is_embedded(reference):
        return ({name: dict(seeded(preset, name).state_dict()) for name in PREFIXES}, dict.fromkeys(PREFIXES, reference))
    path = resolve(reference)
    found = {name: tensors for name, tensors in split(read_tensors(path)).items() if name != SCHEDULE}
    return found, dict.fromkeys(found, f"{path.name} sha256:{digest(path)}")


def _check(name: str, tensors: Mapping[str, Tensor], preset: Preset, out: Path) -> None:
    """Names and shapes of one network, against the network itself."""
    network = registry.build(name, preset=preset.value, device="meta")
    expected = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    given = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    if expected != given:
        raise mismatch(name, expected, given, source=f"{out.name} with these parts", prefix=PREFIXES[name], whole=given)


def main(arguments: list[str]) -> int:
    """Parses name=value; UserErrors are one line and exit code 2."""
    try:
        given = {}
        for text in arguments:
            name, equals, value = text.partition("=")
            if not equals or name not in OPTIONS:
                meant = nearest(name, OPTIONS)
                raise UserError(f"{text} is no option of export", fix=f"Did you mean {meant}=...?" if meant else USAGE)
            given[name] = value
        absent = [name for name in ("weights", "out") if not given.get(name)]
        if absent:
            raise UserError(f"{absent[0]} has no value", fix=USAGE)
        choices = [preset.value for preset in Preset]
        if given.get("preset", choices[0]) not in choices:
            raise UserError(f"preset={given['preset']} is no preset", fix=f"There are: {', '.join(choices)}")
        if given.get("half", "false") not in ("true", "false"):
            raise UserError(f"half={given['half']} is neither true nor false")
        sources = export(given["weights"], [part for part in given.get("parts", "").split(",") if part], Path(given["out"]),
                         preset=Preset(given.get("preset", choices[0])), half=given.get("half") == "true")
    except UserError as error:
        sys.stderr.write(f"toonforge: error: {error}\n")
        return EXIT_USER
    for name, source in sources.items():
        sys.stdout.write(f"{name:<20} {source}\n")
    return EXIT_OK


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    sys.exit(main(sys.argv[1:]))
