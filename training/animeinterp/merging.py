"""Small pieces join the neighbour of the most similar colours, then lines are absorbed, then pieces are ordered by size.

The paper (arXiv 2104.02495) has none of this; rules, limits and their order are those of the release.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

MAX_MERGE_ROUNDS = 10
MAX_ABSORB_ROUNDS = 100
SMALL_PX = 500                      # larger pieces stay
SPECK_PX = 5                        # smaller ones without neighbour become line
NUM_BINS = 25
OUTLINE_TOLERANCE = 0.02            # of the outline's length
# Where a line pixel looks for a label, in this order: (row, column) steps.
NEIGHBOURS = ((0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1))


def merge_small(labels: NDArray[np.int32], bgr_u8: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Returns labels [h, w] in which pieces under 500 pixels have joined neighbours; 0 stays line.

    A piece that joins one keeps its pixels of the round's beginning; later pieces of the round see the new labels.
    """
    # A frame of zeros, which is line, spares the tests for the border.
    current = np.pad(labels.astype(np.int32), 1)
    counts = _value_counts(labels, bgr_u8)
    histograms = np.zeros((len(counts), 3 * NUM_BINS))
    changed = np.arange(len(counts))
    areas = counts[:, 0].sum(axis=1)
    for _ in range(MAX_MERGE_ROUNDS):
        histograms[changed] = _histograms(counts[changed])
        num_before = np.count_nonzero(areas)
        moves = _merge_round(current, areas, histograms, changed)
        leaving, joining = list(moves.keys()), list(moves.values())
        for amounts in (counts, areas):
            moved = amounts[leaving]
            amounts[leaving] = 0
            np.add.at(amounts, joining, moved)
        changed = np.unique(np.array(leaving + joining, np.int64))
        if np.count_nonzero(areas) == num_before:
            break
    return current[1:-1, 1:-1].copy()


def _merge_round(current: NDArray[np.int32], areas: NDArray[np.int64], histograms: NDArray[np.float64],
                 changed: NDArray[np.int64]) -> dict[int, int]:
    """Moves small pieces of the padded labels, in place; returns which label went where.

    Only pieces that changed in the round before, or next to which something did since they last stayed, can decide
    otherwise than they did: the others are passed over.
    """
    flat = current.ravel()
    is_small = areas < SMALL_PX
    is_small[0] = False
    before = flat.copy()
    small_px = np.flatnonzero(is_small[before])
    pixels = _Groups.of(before[small_px], small_px)
    rings = _rings(before, small_px, current.shape[1])
    touched = np.zeros(len(areas), np.bool_)
    touched[changed] = True
    is_due = touched.copy()
    is_due[rings.owners[touched[before[rings.members]]]] = True
    moves: dict[int, int] = {}
    for label in np.flatnonzero(is_small & (areas > 0)).tolist():
        if not is_due[label]:
            continue
        own, ring = pixels.members_of(label), rings.members_of(label)
        target = _target(label, own, Counter(flat[ring].tolist()), histograms, current.shape[1])
        if target != label:
            moves[label] = target
            flat[own] = target
            is_due[before[ring]] = True
    return moves


def _target(label: int, own: NDArray[np.int64], ring: Counter[int], histograms: NDArray[np.float64], stride: int) -> int:
    """Returns the label that a piece takes, its own where it stays; `ring` counts the labels around it.

    The similarity tested is that of the last neighbour, not of the best: the release's slip, kept.
    """
    area = len(own)
    ring.pop(0, None)
    near = sorted(ring)
    if not near:
        return 0 if area < SPECK_PX else label
    if len(near) == 1 and area < 300:
        return near[0]
    similarity = np.minimum(histograms[label], histograms[near]).sum(axis=1)
    target, last_similarity = near[int(similarity.argmax())], float(similarity[-1])
    best_px = ring[target]
    joins = (area < 50 or (len(near) == 1 and best_px > 2)
             or (last_similarity > 0.2 and area < 150 and best_px > 1)
             or (last_similarity > 0.25 and area < 250 and best_px > 8)
             or _is_point(own, stride))
    return target if joins else label


def _is_point(own: NDArray[np.int64], stride: int) -> bool:
    """True where the outline, as OpenCV finds and simplifies it, is one point: a piece in parts whose first is a pixel."""
    rows, columns = np.divmod(own, stride)
    piece = np.zeros((int(rows[-1] - rows[0]) + 1, int(columns.max() - columns.min()) + 1), np.uint8)
    piece[rows - rows[0], columns - columns.min()] = 1
    outline = cv2.findContours(piece, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0][0]
    return len(cv2.approxPolyDP(outline, OUTLINE_TOLERANCE * cv2.arcLength(outline, True), True)) == 1


@dataclass(frozen=True, slots=True)
class _Groups:
    """Places in a flat map, grouped by the label they belong to: members[starts[l]:starts[l + 1]] for label l."""

    owners: NDArray[np.int32]
    members: NDArray[np.int64]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, owners: NDArray[np.int32], members: NDArray[np.int64]) -> _Groups:
        """Takes members in increasing order, which is kept within each group."""
        order = np.argsort(owners, kind="stable")
        owners = owners[order]
        starts = np.concatenate([[0], np.cumsum(np.bincount(owners))])
        return cls(owners=owners, members=members[order], starts=starts)

    def members_of(self, label: int) -> NDArray[np.int64]:
        return self.members[self.starts[label]:self.starts[label + 1]] if label + 1 < len(self.starts) else self.members[:0]


def _rings(labels: NDArray[np.int32], small_px: NDArray[np.int64], stride: int) -> _Groups:
    """Returns, for the label of every given pixel, the pixels of other labels that share an edge with its own, each once."""
    owners, members = [], []
    for step in (-stride, -1, 1, stride):
        there = small_px + step
        is_other = (labels[there] != labels[small_px]) & (labels[there] > 0)      # line never gets a label in a round
        owners.append(labels[small_px[is_other]])
        members.append(there[is_other])
    pairs = np.unique(np.concatenate(owners).astype(np.int64) * len(labels) + np.concatenate(members))
    return _Groups.of((pairs // len(labels)).astype(np.int32), pairs % len(labels))


def _value_counts(labels: NDArray[np.int32], bgr_u8: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Returns how often each label has each value of each channel: [labels, 3, 256]."""
    num = int(labels.max()) + 1
    flat = labels.ravel().astype(np.int64) * 256
    counts = np.empty((num, 3, 256), np.int32)
    for channel in range(3):
        counts[:, channel] = np.bincount(flat + bgr_u8[..., channel].ravel(), minlength=num * 256).reshape(num, 256)
    return counts


def _histograms(counts: NDArray[np.int32]) -> NDArray[np.float64]:
    """Returns the shares [n, 75] of 25 bins a channel, of counts [n, 3, 256].

    Bins divide the piece's own range of values, so that any two plain pieces are alike, whatever their colours.
    """
    rows, channels, values = np.nonzero(counts)
    is_there = counts > 0
    lowest, highest = is_there.argmax(axis=2), 255 - is_there[..., ::-1].argmax(axis=2)
    bins = _bins(lowest[rows, channels], highest[rows, channels], values)
    place = (rows * 3 + channels) * NUM_BINS + bins
    found = np.bincount(place, weights=counts[rows, channels, values], minlength=len(counts) * 3 * NUM_BINS)
    found = found.reshape(len(counts), 3 * NUM_BINS)
    return found / np.maximum(found.sum(axis=1, keepdims=True), 1)


def _bins(low: NDArray[np.int64], high: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the bin of each value within low .. high, as numpy's histogram has it: half open, the last one closed."""
    is_plain = low == high
    first, last = np.where(is_plain, low - 0.5, low), np.where(is_plain, high + 0.5, high)
    guess = np.minimum(((values - first) / (last - first) * NUM_BINS).astype(np.int64), NUM_BINS - 1)
    # The guess may be one off where a value lies on an edge: edges are computed as linspace does.
    step = (last - first) / NUM_BINS
    guess -= values < guess * step + first
    upper = np.where(guess + 1 == NUM_BINS, last, (guess + 1) * step + first)
    return guess + ((values >= upper) & (guess < NUM_BINS - 1))


def absorb_lines(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Returns labels [h, w] whose line pixels (0) have taken those of neighbours, from outside inwards, in at most 100 rounds.

    The first column and the first row are never read from the right or from below: the release's slip, kept.
    """
    height, width = labels.shape
    # A frame of zeros spares the tests for the border; what must not be read is zero in `readable`.
    padded = np.zeros((height + 2, width + 2), np.int32)
    padded[1:-1, 1:-1] = labels
    stride = width + 2
    flat = padded.ravel()
    open_px = np.flatnonzero(flat == 0)
    row, column = np.divmod(open_px, stride)
    open_px = open_px[(row > 0) & (row <= height) & (column > 0) & (column <= width)]
    for _ in range(MAX_ABSORB_ROUNDS):
        if len(open_px) == 0:
            break
        touches = (flat[open_px - 1] > 0) | (flat[open_px + 1] > 0) | (flat[open_px - stride] > 0) | (flat[open_px + stride] > 0)
        edge = open_px[touches]
        row, column = np.divmod(edge, stride)
        found = np.zeros(len(edge), np.int32)
        for down, across in NEIGHBOURS:
            seen = flat[edge + down * stride + across]
            # Padded indices are one larger: index 0 is 1 here.
            is_read = np.ones(len(edge), np.bool_)
            if down < 0:
                is_read &= row + down > 1
            if across < 0:
                is_read &= column + across > 1
            found = np.where((found == 0) & is_read, seen, found)
        if not found.any():
            break
        flat[edge] = found
        open_px = open_px[flat[open_px] == 0]
    return flat.reshape(height + 2, stride)[1:-1, 1:-1].copy()


def order_by_area(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Renames labels to 0 .. K - 1, the smallest piece first; what is still line counts as a piece.

    Pieces of the same area keep the order of their labels (the release leaves it to chance). The largest piece is last,
    so that it survives every halving of the map.
    """
    areas = np.bincount(labels.ravel())
    present = np.flatnonzero(areas)
    names = np.zeros(len(areas), np.int32)
    names[present[np.argsort(areas[present], kind="stable")]] = np.arange(len(present), dtype=np.int32)
    return names[labels]
