"""What happens in a shot: each act says, for any drawing, which figures, props and birds are to be drawn, and how."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from curation.cartoonist.characters import MOUTHS, STRIDE_KEYS, Design, Figure, Pose
from curation.cartoonist.ink import Colour, Pen, mix
from curation.cartoonist.palettes import Palette

STEP = 9.5                                 # units gained per drawing of a walk at scale 1: feet do not slide
GROUND = 246.0


class Drawable(Protocol):
    """A frozen, comparable thing that can be drawn: two equal drawings need to be drawn once."""

    def draw(self, pen: Pen) -> None: ...


Act = Callable[[int, float], tuple[Drawable, ...]]     # (drawing, seconds since the shot began) -> what is drawn


@dataclass(frozen=True, slots=True)
class Stage:
    """Where an act plays: the visible part of the world when the shot begins, and who is there."""

    left: float                            # units
    width: float
    cast: tuple[Design, ...]
    palette: Palette
    is_followed: bool = False              # the camera travels along


@dataclass(frozen=True, slots=True)
class Ball:
    x: float
    y: float
    radius: float
    squash: float
    spin: float
    colour: Colour

    def draw(self, pen: Pen) -> None:
        wide, high = self.radius * (1 + self.squash), self.radius * (1 - self.squash)
        pen.oval(self.x, self.y, wide, high, self.colour)
        for lean in (self.spin, self.spin + math.pi / 2):
            dx, dy = math.cos(lean), math.sin(lean)
            pen.stroke([(self.x - dx * wide * 0.9, self.y - dy * high * 0.9), (self.x + dy * 4, self.y - dx * 4),
                        (self.x + dx * wide * 0.9, self.y + dy * high * 0.9)], width=2.2)
        pen.oval(self.x - wide * 0.35, self.y - high * 0.4, wide * 0.2, high * 0.16, (255, 252, 244), line=0)


@dataclass(frozen=True, slots=True)
class Boat:
    x: float
    y: float
    rock: float                            # radians
    size: float
    palette: Palette

    def draw(self, pen: Pen) -> None:
        def turned(*points: tuple[float, float]) -> list[tuple[float, float]]:
            cosine, sine = math.cos(self.rock), math.sin(self.rock)
            return [(self.x + (u * cosine - v * sine) * self.size, self.y + (u * sine + v * cosine) * self.size)
                    for u, v in points]

        palette = self.palette
        pen.stroke(turned((4, -20), (4, -104)), palette.wood, width=5 * self.size)
        pen.shape(turned((9, -100), (62, -34), (9, -28)), mix(palette.light, (255, 255, 255), 0.6))
        pen.shape(turned((-1, -92), (-40, -34), (-1, -30)), palette.accent)
        pen.shape(turned((4, -104), (26, -112), (4, -120)), palette.roof, line=2.2)
        pen.blob(turned((-66, -22), (0, -16), (72, -26), (50, 4), (0, 8), (-46, 4)), palette.roof)
        pen.stroke(turned((-58, -12), (0, -7), (62, -15)), (250, 246, 236), width=4 * self.size)


@dataclass(frozen=True, slots=True)
class Bird:
    x: float
    y: float
    flap: float                            # -1 wings down, 1 wings up
    size: float
    facing: int

    def draw(self, pen: Pen) -> None:
        size, turn = self.size, self.facing
        body = [(-16, 0), (-2, -7), (12, -5), (15, 1), (2, 7)]
        wing = [(-6, -3), (2, -14 * self.flap - 4), (-10, -30 * self.flap - 4), (-12, -12 * self.flap)]
        pen.blob([(self.x + turn * u * size, self.y + v * size) for u, v in body], (248, 246, 240), line=2.4)
        pen.shape([(self.x + turn * u * size, self.y + v * size) for u, v in ((14, -3), (23, 0), (14, 3))],
                  (240, 160, 50), line=1.6)
        pen.oval(self.x + turn * 9 * size, self.y - 2 * size, 1.6 * size, 1.6 * size, pen.ink, line=0)
        pen.blob([(self.x + turn * u * size, self.y + v * size) for u, v in wing], (206, 210, 220), line=2.4)


def walk(stage: Stage, rng: np.random.Generator) -> Act:
    """One or two characters cross the picture from left to right."""
    pace, scale = rng.uniform(0.9, 1.1), float(rng.uniform(0.85, 1.15))
    start = stage.left + stage.width * float(rng.uniform(0.3, 0.42) if stage.is_followed else rng.uniform(0.02, 0.12))
    second = rng.uniform() < 0.5
    mood = rng.choice(["smile", "open", "small"])

    def act(drawing: int, seconds: float) -> tuple[Drawable, ...]:
        lead = Pose(start + drawing * STEP * scale * pace, GROUND, scale, stride=drawing % STRIDE_KEYS, mouth=str(mood),
                    is_blinking=drawing % 23 in (0, 1))
        figures = [Figure(stage.cast[0], lead)]
        if second:
            behind = replace(lead, x=lead.x - 92, ground=GROUND - 6, stride=(drawing + 3) % STRIDE_KEYS, mouth="smile",
                             is_blinking=drawing % 29 == 8)
            figures.insert(0, Figure(stage.cast[1], behind))
        return tuple(figures)

    return act


def talk(stage: Stage, rng: np.random.Generator) -> Act:
    """Two characters talk in turns, or one speaks to us from near by; whoever listens holds still and blinks."""
    near = rng.uniform() < 0.45
    mouths = [MOUTHS[k] for k in rng.integers(0, len(MOUTHS), 96)]
    arms = np.repeat(rng.uniform(-0.1, 1.9, 24), 4)
    brows = np.repeat(rng.uniform(-0.7, 1.0, 16), 6)
    pauses = np.repeat(rng.uniform(size=16) < 0.15, 6)

    def speak(base: Pose, drawing: int, is_speaking: bool) -> Pose:
        k = drawing % 96
        blinks = drawing % 31 in (5, 6)
        if not is_speaking or pauses[k]:
            return replace(base, is_blinking=blinks)
        return replace(base, mouth=mouths[k], near_arm=float(arms[k]), brow=float(brows[k]), is_blinking=blinks,
                       tilt=0.05 if k % 8 < 4 else -0.04)

    def act(drawing: int, seconds: float) -> tuple[Drawable, ...]:
        if near:
            base = Pose(stage.left + stage.width * 0.5, 318, 1.9, gaze=(0.1, 0.0))
            return (Figure(stage.cast[0], speak(base, drawing, True)),)
        turn = drawing // 22 % 2
        left = Pose(stage.left + stage.width * 0.33, GROUND, 1.2)
        right = Pose(stage.left + stage.width * 0.67, GROUND + 3, 1.15, facing=-1)
        return Figure(stage.cast[0], speak(left, drawing, turn == 0)), Figure(stage.cast[1],
                                                                              speak(right, drawing, turn == 1))

    return act


def ball(stage: Stage, rng: np.random.Generator) -> Act:
    """A ball bounces to and fro before a character who follows it with the eyes and hops."""
    radius, period = float(rng.uniform(17, 24)), float(rng.uniform(0.55, 0.75))
    height, paint = float(rng.uniform(90, 130)), stage.palette.accent

    def act(drawing: int, seconds: float) -> tuple[Drawable, ...]:
        swing = math.sin(seconds * math.tau / 5.3)
        x = stage.left + stage.width * (0.67 - 0.19 * swing)
        bounce = abs(math.sin(seconds * math.pi / period))
        squash = 0.32 if bounce < 0.12 else -0.12 if bounce < 0.6 else 0.0
        prop = Ball(x, GROUND + 6 - radius * (1 - squash) - height * bounce, radius, squash, seconds * 5.0, paint)
        watcher = stage.left + stage.width * 0.3
        gaze = (min(max((x - watcher) / 120, -1.0), 1.0), min(max((0.5 - bounce) * 1.6, -0.8), 0.8))
        hop = round(max(0.0, math.sin(seconds * math.tau / (2 * period))) * 4) * 3.5
        pose = Pose(watcher, GROUND, 1.1, lift=hop, gaze=(round(gaze[0], 1), round(gaze[1], 1)),
                    near_arm=0.5 + hop * 0.1,
                    far_arm=0.4 + hop * 0.1, mouth="open" if hop > 4 else "smile", brow=0.8 if hop > 4 else 0.0)
        return Figure(stage.cast[0], pose), prop

    return act


def dance(stage: Stage, rng: np.random.Generator) -> Act:
    """A character hops in place with squash and stretch and swings the arms."""
    beat = int(rng.integers(8, 11))
    scale = float(rng.uniform(0.95, 1.1))

    def act(drawing: int, seconds: float) -> tuple[Drawable, ...]:
        share = drawing % beat / beat
        lift = max(0.0, math.sin((share - 0.25) / 0.75 * math.pi)) * 38 if share > 0.25 else 0.0
        squash = 0.16 * math.sin(share / 0.25 * math.pi) if share <= 0.25 else -0.07 if 0.3 < share < 0.6 else 0.0
        way = 1 if drawing // beat % 2 == 0 else -1
        pose = Pose(stage.left + stage.width * 0.5 + way * 26 * (share - 0.5), GROUND + 2, scale, facing=way,
                    lift=lift, squash=squash,
                    near_arm=0.4 + lift * 0.05, far_arm=-0.4 - lift * 0.05, mouth="wide" if lift > 20 else "smile",
                    brow=lift / 38,
                    tilt=0.09 * way * (1 if lift > 10 else 0))
        return (Figure(stage.cast[0], pose),)

    return act


def sail(stage: Stage, rng: np.random.Generator) -> Act:
    """A boat crosses the bay while gulls circle above it."""
    speed, size = float(rng.uniform(26, 44)), float(rng.uniform(0.85, 1.15))
    gulls = [(float(rng.uniform(0, stage.width)), float(rng.uniform(36, 104)), float(rng.uniform(46, 90)),
              float(rng.uniform(0.7, 1.1)))
             for _ in range(3)]

    def act(drawing: int, seconds: float) -> tuple[Drawable, ...]:
        boat = Boat(stage.left + stage.width * 0.24 + speed * seconds, 192 + 3 * math.sin(seconds * 2.6),
                    0.06 * math.sin(seconds * 2.1),
                    size, stage.palette)
        flock = [Bird(stage.left - 30 + (x + pace * seconds) % (stage.width + 60), y + 5 * math.sin(seconds * 3 + x),
                      math.cos(drawing * math.tau / 6 + x), large, 1) for x, y, pace, large in gulls]
        return (*flock, boat)

    return act


def stand(stage: Stage, rng: np.random.Generator) -> Act:
    """Nobody moves: one drawing for the whole shot."""
    arms = rng.uniform(-0.3, 1.2, 2)
    left = Pose(stage.left + stage.width * 0.36, GROUND, 1.25, near_arm=float(arms[0]), mouth=str(rng.choice(MOUTHS)))
    right = Pose(stage.left + stage.width * 0.68, GROUND, 1.1, facing=-1, near_arm=float(arms[1]), brow=0.6)
    figures = (Figure(stage.cast[0], left), Figure(stage.cast[1], right))
    return lambda drawing, seconds: figures


def nothing(stage: Stage, rng: np.random.Generator) -> Act:
    """The painting alone."""
    return lambda drawing, seconds: ()


ACTS: dict[str, Callable[[Stage, np.random.Generator], Act]] = {
    "walk": walk, "talk": talk, "ball": ball, "dance": dance, "sail": sail, "static": stand, "still_pan": nothing,
}
