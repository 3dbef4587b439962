"""Finds the parity cases under GOLDEN_DIR, so that cases nobody here has seen run through the same tests."""

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
GOLDEN_DIR = Path(os.environ.get("GOLDEN_DIR", ROOT.parent / "shared" / "golden"))


@dataclass(frozen=True)
class Case:
    """One stored computation: settings in a json, tensors and weights in safetensors beside it."""

    path: Path                              # of the json

    @cached_property
    def record(self):
        return json.loads(self.path.read_text(encoding="utf-8"))

    @cached_property
    def tensors(self):
        split, whole = self.path.with_suffix(".tensors.safetensors"), self.path.with_suffix(".safetensors")
        return load_file(split if split.exists() else whole)

    @cached_property
    def weights(self):
        return load_file(self.path.with_suffix(".weights.safetensors"))

    def check(self, found, expected, *, atol=None, rtol=None):
        """Compares with the named tensor of the case (or a given one) within the case's tolerance."""
        tolerance = self.record.get("tolerance", {})
        name = expected if isinstance(expected, str) else "tensor"
        expected = self.tensors[expected] if isinstance(expected, str) else expected
        torch.testing.assert_close(
            found.detach().cpu(), expected, atol=tolerance.get("atol", 1e-4) if atol is None else atol,
            rtol=tolerance.get("rtol", 1e-4) if rtol is None else rtol, check_dtype=False,
            msg=lambda text: f"{self.path.parent.name}/{self.path.stem}: {name}: {text}")


def cases(kind, pattern="case*.json"):
    """Parameters for pytest.mark.parametrize("case", ...): every case of a kind, or one skip that says what is missing."""
    found = sorted((GOLDEN_DIR / kind).glob(pattern))
    if not found:
        missing = pytest.mark.skip(reason=f"no parity cases of {kind}: set GOLDEN_DIR to their folder")
        return [pytest.param(None, marks=missing, id="absent")]
    return [pytest.param(Case(path), id=path.stem) for path in found]
