"""Captions from measurements: true sentences about colours, light, camera and drawn motion, without any model.

They stand where no captioning model is at hand. A caption says only what was measured, names no character and no
thing, and is never empty.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

CAPTION_MODEL = "measured-facts/1"

# Colour names and a representative sRGB of each; names follow everyday English, chosen here.
_PALETTE: tuple[tuple[str, tuple[int, int, int]], ...] = (
    ("black", (14, 14, 14)), ("dark grey", (70, 70, 70)), ("grey", (128, 128, 128)),
    ("light grey", (196, 196, 196)), ("white", (248, 248, 248)),
    ("red", (205, 35, 35)), ("dark red", (110, 20, 25)), ("orange", (240, 140, 35)), ("brown", (120, 75, 40)),
    ("beige", (222, 200, 165)), ("yellow", (245, 220, 60)), ("olive", (120, 115, 45)),
    ("green", (70, 160, 60)), ("dark green", (30, 75, 35)), ("light green", (160, 215, 130)),
    ("turquoise", (60, 180, 175)), ("sky blue", (135, 195, 235)), ("blue", (45, 90, 200)), ("dark blue", (25, 35, 95)),
    ("purple", (125, 60, 155)), ("lavender", (175, 165, 220)), ("pink", (240, 160, 190)), ("magenta", (205, 50, 140)),
)
_SAMPLE_PX = 64           # pictures are looked at this small
_MIN_COLOUR_SHARE = 0.12  # of the picture, for a colour to be named
_MAX_COLOURS = 3
_MIN_CHROMA = 8.0         # distance from grey in LAB that the most coloured twentieth of the pixels must exceed
_GREY_NAMES = frozenset({"black", "dark grey", "grey", "light grey", "white"})

STILL = 0.01             # shares of the diagonal a second under which the camera or a drawing does not move
_SLOW, _FAST = 0.06, 0.25
_ZOOM_STILL, _ZOOM_FAST = 0.02, 0.15
_SMALL, _LARGE = 0.03, 0.15   # mean drawn motion, shares of the diagonal a second
_WHOLE = 0.5              # covered share from which drawn motion fills the picture
_CADENCES = {"ones": "on ones", "twos": "on twos", "threes": "on threes", "fours": "on fours"}


def facts(pictures: Sequence[NDArray[np.uint8]], *, pan_x: float | None = None, pan_y: float | None = None,
          zoom: float | None = None, drawn_mean: float | None = None, drawn_coverage: float | None = None,
          cadence: str = "") -> str:
    """One English sentence of what is known about a clip; never empty.

    pictures: BGR uint8 [h, w, 3] of the clip. pan_x, pan_y: where the camera looks moves right and down, shares of the
    diagonal a second; zoom: relative growth of the picture a second, positive when it closes in; drawn_mean: mean
    motion of what is drawn, shares of the diagonal a second; drawn_coverage: share of the picture it takes, [0, 1].
    None where unknown. cadence: "ones", "twos", "threes", "fours" or another word, which is left out.
    """
    parts = [_look(pictures), _camera(pan_x, pan_y, zoom), _drawn_motion(drawn_mean, drawn_coverage),
             f"drawn {_CADENCES[cadence]}" if cadence in _CADENCES else ""]
    return ", ".join(part for part in parts if part) + "."


def _look(pictures: Sequence[NDArray[np.uint8]]) -> str:
    """"A bright colour cartoon in sky blue, green and yellow", from all pictures together."""
    if not pictures:
        return "A cartoon"
    small = [cv2.resize(picture, (_SAMPLE_PX, _SAMPLE_PX), interpolation=cv2.INTER_AREA) for picture in pictures]
    lab = _to_lab(np.concatenate([picture.reshape(-1, 3) for picture in small]))
    light, chroma = lab[:, 0], np.hypot(lab[:, 1], lab[:, 2])
    tone = _tone(float(light.mean()), float(light.std()))
    if float(np.quantile(chroma, 0.95)) < _MIN_CHROMA:
        return f"A {tone}black and white cartoon"
    names = _colours(lab)
    return f"A {tone}colour cartoon in {_enumerate(names)}" if names else f"A {tone}colour cartoon in many colours"


def _tone(mean_light: float, spread: float) -> str:
    """Words for L* (0..100): dark under 30, bright over 68; flat light under a spread of 10, strong over 28."""
    words = []
    if mean_light < 30:
        words.append("dark")
    elif mean_light > 68:
        words.append("bright")
    if spread < 10:
        words.append("low-contrast")
    elif spread > 28:
        words.append("high-contrast")
    return ", ".join(words) + " " if words else ""


def _colours(lab: NDArray[np.float32]) -> list[str]:
    """Names of the largest colours, real colours before greys of the same picture, at most three."""
    palette = _to_lab(np.array([colour[::-1] for _, colour in _PALETTE], np.uint8))
    nearest = np.argmin((palette**2).sum(axis=1)[:, None] - 2.0 * (palette @ lab.T), axis=0)     # squared distance, less |lab|^2
    shares = np.bincount(nearest, minlength=len(_PALETTE)) / len(lab)
    ranked = sorted(range(len(_PALETTE)), key=lambda index: (-shares[index], index))
    names = [_PALETTE[index][0] for index in ranked if shares[index] >= _MIN_COLOUR_SHARE][:_MAX_COLOURS]
    return sorted(names, key=lambda name: name in _GREY_NAMES)


def _camera(pan_x: float | None, pan_y: float | None, zoom: float | None) -> str:
    """"the camera pans slowly to the left and zooms in"; "" when nothing is known."""
    if pan_x is None and pan_y is None and zoom is None:
        return ""
    across, down = pan_x or 0.0, pan_y or 0.0
    moves = []
    speed = float(np.hypot(across, down))
    if speed >= STILL:
        pace = "slowly " if speed < _SLOW else "fast " if speed >= _FAST else ""
        moves.append(f"pans {pace}{_direction(across, down)}")
    if zoom is not None and abs(zoom) >= _ZOOM_STILL:
        pace = "fast " if abs(zoom) >= _ZOOM_FAST else ""
        moves.append(f"zooms {pace}{'in' if zoom > 0 else 'out'}")
    return f"the camera {' and '.join(moves)}" if moves else "the camera is still"


def _direction(across: float, down: float) -> str:
    """The one or two directions that make up the move; a part under half of the other is left out."""
    words = []
    if abs(down) >= abs(across) / 2:
        words.append("down" if down > 0 else "up")
    if abs(across) >= abs(down) / 2:
        words.append("to the right" if across > 0 else "to the left")
    return " and ".join(words)


def _drawn_motion(mean: float | None, coverage: float | None) -> str:
    if mean is None:
        return ""
    if mean < STILL:
        return "nothing drawn moves"
    size = "small" if mean < _SMALL else "large" if mean >= _LARGE else "moderate"
    if coverage is None:
        return f"{size} drawn motion"
    return f"{size} drawn motion {'over most of the picture' if coverage >= _WHOLE else 'in a part of the picture'}"


def _enumerate(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _to_lab(bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
    """CIE LAB [n, 3] (L* 0..100) of BGR uint8 [n, 3]."""
    unit = bgr.reshape(1, -1, 3).astype(np.float32) / 255.0
    return np.asarray(cv2.cvtColor(unit, cv2.COLOR_BGR2LAB), np.float32)[0]
