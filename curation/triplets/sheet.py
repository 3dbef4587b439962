"""A contact sheet: triplets as rows of three, with the box of their motion, to be looked at before they are trained on."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curation.triplets.roi import Roi
from pipeline.records import write_bytes

COLUMNS, MAX_TRIPLETS = 2, 16
CELL_W, CELL_H, LABEL_H, GAP = 144, 81, 16, 6
COLOURS = 64                 # of the whole sheet: flat drawings need few, and the file stays small


@dataclass(frozen=True, slots=True)
class SheetRow:
    """One triplet: its PNG files, their size, the box in it, and what is written below."""

    pngs: Sequence[bytes]
    width: int
    height: int
    roi: Roi | None
    label: str


def write_sheet(path: Path, rows: Sequence[SheetRow]) -> None:
    """Writes a PNG of at most MAX_TRIPLETS, spread evenly over those given; the same rows give the same bytes."""
    step = max(1, len(rows) / MAX_TRIPLETS)
    chosen = [rows[int(index * step)] for index in range(min(len(rows), MAX_TRIPLETS))]
    tiles = [_tile(row) for row in chosen]
    blank = np.full((CELL_H + LABEL_H + GAP, 3 * CELL_W + 2 * GAP, 3), 255, np.uint8)
    tiles += [blank] * (-len(tiles) % COLUMNS)
    sheet = np.vstack([np.hstack(tiles[start : start + COLUMNS]) for start in range(0, len(tiles), COLUMNS)])
    buffer = io.BytesIO()
    Image.fromarray(sheet).quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
        buffer, "PNG", optimize=True)
    write_bytes(path, buffer.getvalue())


def _tile(row: SheetRow) -> NDArray[np.uint8]:
    """RGB uint8 of three pictures side by side and the label below."""
    tile = np.full((CELL_H + LABEL_H + GAP, 3 * CELL_W + 2 * GAP, 3), 255, np.uint8)
    scale = min(CELL_W / row.width, CELL_H / row.height)
    size = max(1, round(row.width * scale)), max(1, round(row.height * scale))
    for number, png in enumerate(row.pngs):
        bgr = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
        small = cv2.resize(cv2.cvtColor(np.asarray(bgr, np.uint8), cv2.COLOR_BGR2RGB), size, interpolation=cv2.INTER_AREA)
        if number == 1 and row.roi is not None:
            left, top = int(row.roi.x * scale), int(row.roi.y * scale)
            right, bottom = int((row.roi.x + row.roi.width) * scale) - 1, int((row.roi.y + row.roi.height) * scale) - 1
            cv2.rectangle(small, (left, top), (right, bottom), (255, 0, 255), 1)
        tile[: size[1], number * (CELL_W + 2) : number * (CELL_W + 2) + size[0]] = small
    cv2.putText(tile, row.label, (1, CELL_H + 11), cv2.FONT_HERSHEY_SIMPLEX, 0.33, (40, 40, 40), 1, cv2.LINE_AA)
    return tile
