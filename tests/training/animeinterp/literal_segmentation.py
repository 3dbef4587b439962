"""Segmentation written down step by step over whole pictures, as slow as it is plain: what the fast one must equal."""

import cv2
import numpy as np

from training.animeinterp.trapped_ball import BALLS


def component_at(mask, row, column):
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    return labels == labels[row, column]


def ball_fills(free, radius, most=1000):
    """Masks of all fills of one radius, in order."""
    left, fills = free.copy(), []
    while len(fills) < most:
        room = cv2.erode(left, BALLS[radius])
        if not room.any():
            break
        row, column = np.argwhere(room)[0]
        component = component_at(left > 0, row, column)
        blocked = cv2.dilate((~component).astype(np.uint8), BALLS[radius])
        inside = component_at(blocked == 0, row, column)
        fill = cv2.dilate(inside.astype(np.uint8), BALLS[radius]) > 0
        fills.append(fill)
        left[fill] = 0
    return fills


def fill_map(free):
    labels, left, number = np.zeros(free.shape, np.int32), free.copy(), 0
    for radius in (3, 2, 1):
        fills = ball_fills(left, radius)
        if radius == 3 and fills:
            largest = max(fill.sum() for fill in fills)
            fills = [fill for fill in fills if fill.sum() == largest]
        for fill in fills:
            number += 1
            labels[fill] = number
            left[fill] = 0
    while left.any():
        row, column = np.argwhere(left)[0]
        number += 1
        component = component_at(left > 0, row, column)
        labels[component] = number
        left[component] = 0
    return labels


def histogram(values):
    """Three channels of values [n, 3], 25 bins each over their own range, divided by the total."""
    joined = np.concatenate([np.histogram(values[:, channel], bins=25)[0] for channel in range(3)])
    return joined / joined.sum()


def merge_small(labels, picture):
    labels = labels.copy()
    for _ in range(10):
        names = [int(name) for name in np.unique(labels)]
        masks = {name: labels == name for name in names}
        histograms = {name: histogram(picture[masks[name]]) for name in names}
        for name in names:
            mask, area = masks[name], int(masks[name].sum())
            if name == 0 or area >= 500:
                continue
            ring = labels[(cv2.dilate(mask.astype(np.uint8), BALLS[1]) > 0) & ~mask]
            near, counts = np.unique(ring[ring > 0], return_counts=True)
            if len(near) == 0:
                target, best_px, last = (0 if area < 5 else name), 0, -1.0
            else:
                alike = [np.minimum(histograms[name], histograms[int(other)]).sum() for other in near]
                best = int(np.argmax(alike))
                target, best_px, last = int(near[best]), int(counts[best]), alike[-1]
            outline = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0][0]
            corners = len(cv2.approxPolyDP(outline, 0.02 * cv2.arcLength(outline, True), True))
            if (corners == 1 or area == 1 or (area < 300 and len(near) == 1) or (len(near) == 1 and best_px > 2) or area < 50
                    or (last > 0.2 and area < 150 and best_px > 1) or (last > 0.25 and area < 250 and best_px > 8)):
                labels[mask] = target
        if len(np.unique(labels)) == len(names):
            break
    return labels


def absorb_lines(labels):
    labels = labels.copy()
    height, width = labels.shape
    for _ in range(100):
        if labels.all():
            break
        before = labels.copy()
        for row, column in np.argwhere((before == 0) & (cv2.dilate((before > 0).astype(np.uint8), BALLS[1]) > 0)):
            for down, across in ((0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1)):
                y, x = row + down, column + across
                is_read = (across >= 0 or x > 0) and (down >= 0 or y > 0) and y < height and x < width
                if is_read and before[y, x] > 0:
                    labels[row, column] = before[y, x]
                    break
    return labels
