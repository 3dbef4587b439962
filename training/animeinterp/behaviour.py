"""Which AnimeInterp, and how exactly: the method as described (arXiv 2104.02495), or what the released programs do."""

from dataclasses import dataclass
from enum import StrEnum


class Behaviour(StrEnum):
    """PAPER follows the text; RELEASED follows the programs that made the published weights."""

    PAPER = "paper"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Effort:
    """What of segment-guided matching may be less exact for the sake of time.

    `halvings` shrink the picture before the feature network: one takes a quarter of the time, and pieces of a few pixels
    lose their finest features. `is_bfloat16` halves the network's time on processors that multiply bfloat16.
    `variational_iterations` polish the deformation of a piece, and pieces of at least `half_from_px` deform at half size;
    10 and 64 changed flows by 0.3 pixels on average in a drawn film, and took a third of the time.
    """

    halvings: int = 0
    is_bfloat16: bool = False
    variational_iterations: int = 25
    half_from_px: int | None = None             # shorter side of the canvas; None: never


EXACT = Effort()                                # as the release does it
# Chosen here, so that a pair of 960x540 frames takes less than 2 s on one core; the network alone takes 5 s otherwise.
FAST = Effort(halvings=1, is_bfloat16=True, variational_iterations=10, half_from_px=64)
