"""What the preference study can be told: one schema to build the page, one to analyse the answers."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import MISSING

MAX_SYSTEMS = 9              # films of a comparison are chosen with the keys 1 to 9


@dataclass(kw_only=True, slots=True)
class BuildOptions:
    """`python -m training.study build`: from result folders to a page."""

    systems: str = MISSING   # a folder with one folder for each system, or those folders with commas between
    out: str = MISSING
    seed: int = 0
    clips: int = 9           # Table 2's shares are multiples of 1 / 216: 24 people and, it seems, 9 clips
    checks: int = 2          # chosen here: one of each kind
    fps: int = 8             # frames a second, for all systems; the sampler's default

    def __post_init__(self) -> None:
        for name, least in (("clips", 1), ("checks", 0), ("fps", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}")


@dataclass(kw_only=True, slots=True)
class AnalyseOptions:
    """`python -m training.study analyse`: from answers to a table."""

    answers: str = MISSING
    study: str = ""          # the folder the page was built into; otherwise the nearest one above the answers
    out: str = ""            # otherwise results/ in the study's folder
    seed: int = 0            # of the bootstrap
    resamples: int = 10_000  # chosen here: the ends of an interval then repeat to about 0.1 percentage points

    def __post_init__(self) -> None:
        for name, least in (("resamples", 100), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}")
