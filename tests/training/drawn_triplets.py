"""Triplets of outlined discs and squares on flat paper that move along lines and arcs, and shards of them."""

import io
import json

import cv2
import numpy as np
from PIL import Image

from pipeline.shards import Manifest, Sample, write_manifest, write_shards

SUBPIXEL_BITS = 4


def draw_triplet(number, *, width=128, height=96, num_shapes=2, most_px=20):
    """Three RGB frames [3, h, w, 3] uint8; odd numbers move along arcs, and the true middle is then off the straight line."""
    chance = np.random.default_rng(1000 + number)
    paper = chance.integers(120, 256, 3)
    shapes = []
    for _ in range(num_shapes):
        radius = chance.uniform(0.1, 0.2) * height
        start = chance.uniform((radius, radius), (width - radius, height - radius))
        angle, length = chance.uniform(0, 2 * np.pi), chance.uniform(0.3, 1.0) * most_px
        step = length * np.array([np.cos(angle), np.sin(angle)])
        bend = 0.2 * (number % 2) * np.array([-step[1], step[0]])
        places = [start, start + step / 2 + bend, start + step]
        shapes.append((places, radius, chance.integers(0, 256, 3).tolist(), bool(chance.integers(2))))
    return np.stack([_frame(width, height, paper, shapes, index) for index in range(3)])


def _frame(width, height, paper, shapes, index):
    frame = np.full((height, width, 3), paper, np.uint8)
    scale = 1 << SUBPIXEL_BITS
    for places, radius, paint, is_disc in shapes:
        x, y = (places[index] * scale).round().astype(int).tolist()
        reach = int(radius * scale)
        if is_disc:
            for color, thickness in ((paint, -1), ((20, 20, 20), 2)):
                cv2.circle(frame, (x, y), reach, color, thickness, cv2.LINE_AA, SUBPIXEL_BITS)
        else:
            corners = np.array([[x - reach, y - reach], [x + reach, y - reach], [x + reach, y + reach], [x - reach, y + reach]])
            cv2.fillPoly(frame, [corners], paint, cv2.LINE_AA, SUBPIXEL_BITS)
            cv2.polylines(frame, [corners], True, (20, 20, 20), 2, cv2.LINE_AA, SUBPIXEL_BITS)
    return frame


def png(picture):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def triplet_sample(key, frames, **extra):
    """A sample as the triplet maker writes it, with further members `extra`; dots in their names are written as __."""
    record = {"schema": 1, "title": key, "spacing": 1}
    files = {f"{index}.png": png(frame) for index, frame in enumerate(frames)} | {"json": json.dumps(record).encode()}
    return Sample(key, files | {name.replace("__", "."): data for name, data in extra.items()})


def write_triplets(folder, train, held_out=()):
    """Shards of samples; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = write_shards(train, folder, "train", max_bytes=10**9, max_samples=40)
    shards += write_shards(held_out, folder, "eval", max_bytes=10**9, max_samples=40)
    write_manifest(folder, Manifest("triplets", shards))
    return folder


def write_drawn(folder, *, num_train=8, num_heldout=4, **drawing):
    """Shards of drawn triplets, none of them in both splits."""
    def drawn(first, number):
        return [triplet_sample(f"triplet-{index:04d}", draw_triplet(index, **drawing)) for index in range(first, first + number)]

    return write_triplets(folder, drawn(0, num_train), drawn(5000, num_heldout))
