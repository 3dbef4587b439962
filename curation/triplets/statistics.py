"""Motion statistics of triplets, and the paper's histograms of them.

AnimeInterp (arXiv 2104.02495) compares data sets by histograms of mean and standard deviation of the flow's length per pair.
Here the pair is what an interpolation is given, frames 1 and 3, and lengths are in pixels at 960x540.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.triplets.difficulty import occluded_share
from curation.triplets.movement import Movement
from pipeline.records import write_bytes

NUM_BINS = 20
PANEL_W, PANEL_H, MARGIN = 420, 260, 44
COLOURS = {"train": (176, 114, 76), "test": (82, 132, 221)}      # BGR


@dataclass(frozen=True, slots=True)
class MotionStatistics:
    """Lengths in pixels at 960x540, camera included; "21" is the flow from frame 2 to frame 1."""

    mean: float                        # of both directions between frames 1 and 3
    mean_13_px: float
    std_13_px: float
    mean_21_px: float
    std_21_px: float
    mean_23_px: float
    std_23_px: float
    occluded: float                    # share of frame 1 that does not return from frame 3
    moving_share: float                # of the middle frame in which something is drawn moving


def measure_statistics(movement: Movement) -> MotionStatistics:
    """Rounded to six decimals, as they are recorded."""
    lengths = {name: np.hypot(flow[..., 0], flow[..., 1]).astype(np.float64) for name, flow in (
        ("13", movement.flow_13), ("31", movement.flow_31), ("21", movement.flow_21), ("23", movement.flow_23))}
    means, spreads = ({name: round(float(reduce(length)), 6) for name, length in lengths.items()} for reduce in (np.mean, np.std))
    return MotionStatistics(
        mean=round((means["13"] + means["31"]) / 2, 6), mean_13_px=means["13"], std_13_px=spreads["13"], mean_21_px=means["21"],
        std_21_px=spreads["21"], mean_23_px=means["23"], std_23_px=spreads["23"],
        occluded=round(occluded_share(movement.flow_13, movement.flow_31), 6),
        moving_share=round(float(movement.moving.mean()), 6))


def write_histograms(path: Path, by_split: Mapping[str, Sequence[MotionStatistics]]) -> None:
    """Writes a PNG of two panels, mean and standard deviation, one line a split; heights are shares of the split's triplets."""
    panels = [_panel(title, {split: [getattr(one, name) for one in found] for split, found in by_split.items() if found})
              for title, name in (("mean of the flow, px", "mean_13_px"), ("standard deviation of the flow, px", "std_13_px"))]
    encoded = cv2.imencode(".png", np.hstack(panels))[1]
    write_bytes(path, encoded.tobytes())


def _panel(title: str, values: Mapping[str, Sequence[float]]) -> NDArray[np.uint8]:
    canvas = np.full((PANEL_H, PANEL_W, 3), 255, np.uint8)
    together = [value for found in values.values() for value in found]
    top = _nice(max(together, default=1.0))
    edges = np.linspace(0.0, top, NUM_BINS + 1)
    shares = {split: np.histogram(found, edges)[0] / len(found) for split, found in values.items()}
    highest = max((float(share.max()) for share in shares.values()), default=1.0)
    right, bottom = PANEL_W - 12, PANEL_H - MARGIN
    cv2.rectangle(canvas, (MARGIN, 30), (right, bottom), (200, 200, 200), 1)
    for split, share in shares.items():
        x = MARGIN + edges / top * (right - MARGIN)
        y = bottom - share / highest * (bottom - 34)
        outline = np.stack([np.repeat(x, 2)[1:-1], np.repeat(y, 2)], axis=1)
        cv2.polylines(canvas, [np.round(outline).astype(np.int32)], False, COLOURS[split], 2, cv2.LINE_AA)
    _write(canvas, title, (MARGIN, 20))
    for place, text in ((MARGIN - 4, "0"), (right - 24, f"{top:g}")):
        _write(canvas, text, (place, bottom + 16))
    _write(canvas, f"{highest:.0%}", (4, 44))
    for row, (split, found) in enumerate(values.items()):
        _write(canvas, f"{split} ({len(found)})", (right - 110, 50 + 18 * row), COLOURS[split])
    return canvas


def _write(canvas: NDArray[np.uint8], text: str, place: tuple[int, int], colour: tuple[int, int, int] = (60, 60, 60)) -> None:
    cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)


def _nice(value: float) -> float:
    """A round number at or above a value, by less than half."""
    power = 10.0 ** np.floor(np.log10(max(value, 1e-6)))
    return float(next(step * power for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * power >= value - 1e-9))
