"""Drawn pairs for tests: outlined, plainly painted shapes that move between two frames, in BGR."""

import cv2
import numpy as np


def drawn_pair(height=540, width=960, *, num_shapes=40, seed=0, most_px=60):
    """Two frames [h, w, 3] uint8 of shapes in a grid, each with its own colour, turn and shift, on a painted background."""
    draws = np.random.RandomState(seed)
    columns = int(np.ceil(np.sqrt(num_shapes * width / height)))
    rows = -(-num_shapes // columns)
    frames = [np.full((height, width, 3), (205, 190, 170), np.uint8) for _ in range(2)]
    for frame in frames:
        cv2.rectangle(frame, (0, 7 * height // 8), (width, height), (90, 130, 100), -1)
        cv2.line(frame, (0, 7 * height // 8), (width, 7 * height // 8), (20, 20, 20), 2)
    pitch = (width / columns, height / rows)
    reach = 0.3 * min(pitch)
    for index in range(num_shapes):
        column, row = index % columns, index // columns
        middle = np.array([(column + 0.5) * pitch[0], (row + 0.5) * pitch[1]])
        angles = np.sort(draws.uniform(0, 2 * np.pi, 7)) + draws.uniform(0, 2 * np.pi)
        radii = reach * draws.uniform(0.6, 1.0, 7)
        color = tuple(int(value) for value in draws.randint(60, 255, 3))
        shift = draws.uniform(-1, 1, 2) * min(most_px, 0.15 * min(pitch))
        for frame, turn, moved in zip(frames, (0, draws.uniform(-0.15, 0.15)), (0, shift), strict=True):
            points = middle + moved + radii[:, None] * np.stack([np.cos(angles + turn), np.sin(angles + turn)], axis=1)
            points = np.rint(points).astype(np.int32)
            cv2.fillPoly(frame, [points], color)
            cv2.polylines(frame, [points], True, (20, 20, 20), 2, cv2.LINE_AA)
            eye = tuple(int(value) for value in np.rint(middle + moved))
            cv2.circle(frame, eye, max(3, int(reach / 5)), (250, 250, 250), -1)
            cv2.circle(frame, eye, max(3, int(reach / 5)), (20, 20, 20), 1, cv2.LINE_AA)
    return frames


def shifted_square(size=96, side=30, shift=(7, 4)):
    """Two frames of an outlined square with a stripe, moved by whole pixels (x, y), and its mask in the first."""
    frames = []
    for x, y in ((0, 0), shift):
        frame = np.full((size, size, 3), (200, 180, 160), np.uint8)
        corner = np.array([size // 4 + x, size // 4 + y])
        cv2.rectangle(frame, corner, corner + side, (60, 90, 220), -1)
        cv2.rectangle(frame, corner, corner + side, (10, 10, 10), 2)
        frames.append(frame)
    mask = np.zeros((size, size), bool)
    mask[size // 4 + 4:size // 4 + side - 3, size // 4 + 4:size // 4 + side - 3] = True
    return frames, mask
