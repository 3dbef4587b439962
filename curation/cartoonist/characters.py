"""The cast: round-headed people and animals, each built from one design and drawn in any pose."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from curation.cartoonist.ink import Colour, Pen, Point, mix
from curation.cartoonist.palettes import colour

SPECIES = ("child", "bear", "cat", "rabbit", "dog", "duck")
MOUTHS = ("smile", "flat", "small", "open", "wide", "teeth")
STRIDE_KEYS = 8                            # drawings of one walk cycle
_HAIR = ("bob", "spikes", "bun", "curls")
_HATS = ("", "", "cap", "beanie", "top hat")
_WHITE = (250, 247, 240)


@dataclass(frozen=True, slots=True)
class Design:
    """What stays the same in every drawing of a character. Lengths in units at scale 1."""

    species: str
    hair: str                              # of children
    hat: str
    skin: Colour
    pale: Colour                           # muzzle and inner ears
    hair_colour: Colour
    shirt: Colour
    trousers: Colour
    shoes: Colour
    has_stripes: bool
    head: tuple[float, float]              # half width, half height
    belly: float                           # half width of the body
    leg: float


@dataclass(frozen=True, slots=True)
class Pose:
    """One drawing: where, how big, what every limb and the face do."""

    x: float
    ground: float
    scale: float = 1.0
    facing: int = 1                        # 1 looks right, -1 left
    stride: int = -1                       # key of the walk cycle, 0..7; -1 stands
    lift: float = 0.0                      # height of a jump
    near_arm: float = 0.25                 # radians forward from hanging down
    far_arm: float = -0.25
    mouth: str = "smile"
    is_blinking: bool = False
    gaze: Point = (0.4, 0.0)               # of the pupils, -1..1 each way
    brow: float = 0.0                      # 1 surprised, -1 cross
    tilt: float = 0.0                      # of the head, radians
    squash: float = 0.0                    # 0.2: a fifth flatter and wider


def invent(rng: np.random.Generator, species: str) -> Design:
    """A new character of the given species."""
    coats = {"child": [(0.06, 0.26, 0.98), (0.06, 0.40, 0.86), (0.06, 0.52, 0.62), (0.05, 0.56, 0.44)],
             "bear": [(0.07, 0.52, 0.60), (0.08, 0.30, 0.86), (0.62, 0.12, 0.88)],
             "cat": [(0.08, 0.58, 0.94), (0.66, 0.16, 0.52), (0.10, 0.16, 0.94)],
             "rabbit": [(0.90, 0.14, 0.96), (0.08, 0.22, 0.78), (0.58, 0.16, 0.80)],
             "dog": [(0.09, 0.40, 0.86), (0.07, 0.46, 0.52), (0.11, 0.10, 0.96)],
             "duck": [(0.14, 0.60, 0.98), (0.56, 0.08, 0.98), (0.40, 0.36, 0.66)]}[species]
    hue, saturation, value = coats[rng.integers(len(coats))]
    skin = colour(hue + rng.uniform(-0.01, 0.01), saturation * rng.uniform(0.9, 1.1), value)
    dress = rng.uniform()
    return Design(
        species=species, hair=str(rng.choice(_HAIR)), hat=str(rng.choice(_HATS)) if species != "rabbit" else "",
        skin=skin, pale=mix(skin, _WHITE, 0.6),
        hair_colour=colour(*[(0.08, 0.62, 0.34), (0.12, 0.58, 0.88), (0.03, 0.70, 0.70),
                             (0.7, 0.2, 0.2)][rng.integers(4)]),
        shirt=colour(dress, rng.uniform(0.42, 0.64), rng.uniform(0.72, 0.92)),
        trousers=colour(dress + rng.uniform(0.3, 0.6), rng.uniform(0.35, 0.6), rng.uniform(0.42, 0.66)),
        shoes=colour(rng.uniform(), 0.5, rng.uniform(0.35, 0.6)),
        has_stripes=bool(rng.uniform() < 0.5),
        head=(rng.uniform(32.0, 38.0), rng.uniform(29.0, 33.0)), belly=rng.uniform(17.0, 24.0),
                  leg=rng.uniform(28.0, 38.0))


@dataclass(frozen=True, slots=True)
class Figure:
    """A character in a pose, ready to be drawn."""

    design: Design
    pose: Pose

    def draw(self, pen: Pen) -> None:
        _Body(self.design, self.pose, pen).draw()


class _Body:
    """One drawing under way: maps the character's own units (feet at 0, 0, looking right) into the world."""

    def __init__(self, design: Design, pose: Pose, pen: Pen) -> None:
        self.design, self.pose = design, pose
        self.pen = Pen(pen.canvas, pen.ink, pen.line * pose.scale**0.55, pen.camera, pen.pixels_per_unit)
        self.turn, self.pivot = 0.0, (0.0, 0.0)

    def at(self, x: float, y: float) -> Point:
        pose = self.pose
        if self.turn:
            u, v = x - self.pivot[0], y - self.pivot[1]
            cosine, sine = math.cos(self.turn), math.sin(self.turn)
            x, y = self.pivot[0] + u * cosine - v * sine, self.pivot[1] + u * sine + v * cosine
        wide, high = pose.scale * (1 + pose.squash * 0.8), pose.scale * (1 - pose.squash)
        return pose.x + pose.facing * x * wide, pose.ground + (y - pose.lift) * high

    def blob(self, points: list[Point], fill: Colour, *, line: float | None = None) -> None:
        self.pen.blob([self.at(*point) for point in points], fill, line=line)

    def oval(self, x: float, y: float, rx: float, ry: float, fill: Colour, *, line: float | None = None) -> None:
        ring = [(x + rx * math.cos(k * math.tau / 12), y + ry * math.sin(k * math.tau / 12)) for k in range(12)]
        self.blob(ring, fill, line=line)

    def stroke(self, points: list[Point], ink: Colour | None = None, *, width: float | None = None) -> None:
        self.pen.stroke([self.at(*point) for point in points], ink,
                        width=None if width is None else width * self.pose.scale)

    def limb(self, start: Point, bend: Point, end: Point, fill: Colour, width: float) -> None:
        self.pen.limb(self.at(*start), self.at(*bend), self.at(*end), fill, width * self.pose.scale)

    def draw(self) -> None:
        design, pose = self.design, self.pose
        phase = pose.stride / STRIDE_KEYS * math.tau
        walks = pose.stride >= 0
        bob = 2.5 * math.cos(2 * phase) if walks else 0.0
        hip = -design.leg - 4 + bob
        shoulder = hip - 36
        swing = 0.75 * math.cos(phase) if walks else 0.0
        arms = (pose.far_arm + swing, pose.near_arm - swing)
        if design.species in ("cat", "dog"):
            self.limb((-design.belly * 0.7, hip - 6), (-design.belly - 26, hip + 4),
                      (-design.belly - 22, hip - 30 + 3 * math.sin(2 * phase)), design.skin, 7)
        self._arm(shoulder + 6, arms[0], -3, is_near=False)
        self._leg(hip, phase + math.pi, walks, -6)
        self._leg(hip, phase, walks, 6)
        self._torso(hip, shoulder)
        self.turn, self.pivot = pose.tilt + (0.04 * math.sin(2 * phase) if walks else 0.0), (0.0, shoulder)
        self._head(shoulder - design.head[1] + 5)
        self.turn = 0.0
        self._arm(shoulder + 8, arms[1], 4, is_near=True)

    def _leg(self, hip: float, phase: float, walks: bool, side: float) -> None:
        reach = 19 * math.cos(phase) if walks else side
        lift = max(0.0, -math.sin(phase)) * 12 if walks else 0.0
        if self.pose.lift > 2 and not walks:
            reach, lift = side * 1.6, 7.0
        foot = (reach, -4 - lift)
        self.limb((side * 0.8, hip), ((side + reach) / 2 + 5 + lift * 0.7, (hip + foot[1]) / 2), foot,
                  self.design.trousers, 10)
        toe = -3 if lift > 4 and reach < 0 else 0
        self.blob([(reach - 7, -lift), (reach - 6, -9 - lift), (reach + 4, -10 - lift), (reach + 14, -5 - lift - toe),
                   (reach + 14, -lift - toe)], self.design.shoes)

    def _arm(self, y: float, angle: float, x: float, *, is_near: bool) -> None:
        base = self.design.belly * 0.55 * (-1 if is_near else 1) + x
        length = 33.0
        hand = (base + length * math.sin(angle), y + length * math.cos(angle))
        elbow = ((base + hand[0]) / 2 - 9 * math.cos(angle), (y + hand[1]) / 2 + 7 * abs(math.sin(angle)))
        sleeve = self.design.shirt if is_near else mix(self.design.shirt, self.pen.ink, 0.18)
        self.limb((base, y), elbow, hand, sleeve, 9)
        glove = _WHITE if self.design.species != "child" else self.design.skin
        self.oval(hand[0], hand[1], 7, 7, glove)
        thumb = angle + 0.9
        self.stroke([(hand[0], hand[1]), (hand[0] + 5 * math.sin(thumb), hand[1] - 3)], width=1.6)

    def _torso(self, hip: float, shoulder: float) -> None:
        belly, shirt = self.design.belly, self.design.shirt
        outline = [(-belly * 0.6, shoulder), (belly * 0.6, shoulder), (belly * 0.95, (hip + shoulder) / 2 + 4),
                   (belly * 0.8, hip + 6),
                   (-belly * 0.8, hip + 6), (-belly * 0.95, (hip + shoulder) / 2 + 4)]
        self.blob(outline, shirt)
        if self.design.has_stripes:
            for share in (0.30, 0.56, 0.82):
                y, half = shoulder + (hip + 6 - shoulder) * share, belly * (0.54 + 0.16 * math.sin(share * math.pi))
                self.stroke([(-half, y), (0, y + 3), (half, y)], mix(shirt, _WHITE, 0.65), width=4.0)
        else:
            for share in (0.4, 0.7):
                self.oval(belly * 0.25, shoulder + (hip - shoulder) * share, 2.6, 2.6, _WHITE, line=1.4)
        self.stroke([(-belly * 0.8, hip + 2), (0, hip + 5), (belly * 0.8, hip + 2)], width=2.0)

    def _head(self, y: float) -> None:
        design, (rx, ry) = self.design, self.design.head
        self._behind_head(y)
        self.blob([(-rx * 0.72, y - ry * 0.72), (0, y - ry), (rx * 0.76, y - ry * 0.70), (rx, y + ry * 0.10),
                   (rx * 0.74, y + ry * 0.80),
                   (0, y + ry), (-rx * 0.74, y + ry * 0.78), (-rx, y + ry * 0.08)], design.skin)
        if design.species in ("bear", "dog", "cat", "rabbit"):
            self.oval(rx * 0.26, y + ry * 0.46, rx * 0.52, ry * 0.42, design.pale, line=0)
        else:
            for side in (-0.52, 0.80):
                self.oval(rx * side, y + ry * 0.38, rx * 0.15, ry * 0.12, mix(design.skin, (240, 90, 90), 0.38), line=0)
        for side in (-0.18, 0.52):
            self._eye(rx * side, y - ry * 0.14, rx * 0.25, ry * 0.36)
        self._mouth(rx * 0.24, y + ry * 0.56)
        self._nose(rx * 0.26, y + ry * 0.24)
        self._on_head(y)

    def _eye(self, x: float, y: float, rx: float, ry: float) -> None:
        pose, ink = self.pose, self.pen.ink
        if pose.is_blinking:
            self.stroke([(x - rx, y + 1), (x, y + ry * 0.42), (x + rx, y + 1)], width=2.8)
        else:
            self.oval(x, y, rx, ry, _WHITE, line=2.4)
            pupil = (x + pose.gaze[0] * rx * 0.42, y + pose.gaze[1] * ry * 0.4)
            self.oval(*pupil, rx * 0.5, ry * 0.52, ink, line=0)
            self.oval(pupil[0] + rx * 0.16, pupil[1] - ry * 0.2, rx * 0.17, ry * 0.17, _WHITE, line=0)
        rise = ry + 4 + 5 * max(pose.brow, 0.0)
        slant = 3.5 * min(pose.brow, 0.0) * (1 if x < self.design.head[0] * 0.17 else -1)
        self.stroke([(x - rx * 0.9, y - rise + slant), (x, y - rise - 2), (x + rx * 0.9, y - rise - slant)], width=2.8)

    def _nose(self, x: float, y: float) -> None:
        species, ink = self.design.species, self.pen.ink
        if species == "duck":
            bill, gap = (240, 160, 50), 4 if self.pose.mouth in ("open", "wide") else 0
            if gap:
                self.blob([(x - 10, y + 8), (x + 16, y + 14 + gap), (x + 2, y + 22 + gap), (x - 12, y + 14)],
                          mix(bill, ink, 0.3))
            self.blob([(x - 13, y + 2), (x - 1, y - 5), (x + 24, y + 5), (x + 25, y + 11), (x - 2, y + 12 - gap),
                       (x - 13, y + 10)], bill)
        elif species == "child":
            self.blob([(x - 3, y - 3), (x + 5, y), (x + 1, y + 6), (x - 4, y + 4)],
                      mix(self.design.skin, (220, 90, 70), 0.35), line=1.6)
        else:
            self.blob([(x - 6, y - 4), (x + 6, y - 4), (x + 4, y + 3), (x, y + 5), (x - 4, y + 3)], ink, line=0)
            self.oval(x - 2, y - 2, 1.6, 1.2, _WHITE, line=0)

    def _mouth(self, x: float, y: float) -> None:
        shape, ink = self.pose.mouth, self.pen.ink
        if self.design.species == "duck":
            return
        throat, tongue = mix((130, 30, 40), ink, 0.3), (226, 110, 110)
        if shape == "smile":
            self.stroke([(x - 12, y - 1), (x - 6, y + 5), (x, y + 6.5), (x + 6, y + 5), (x + 12, y - 1)], width=2.4)
        elif shape == "flat":
            self.stroke([(x - 8, y + 3), (x + 8, y + 2)], width=2.4)
        elif shape == "small":
            self.oval(x, y + 3, 4.5, 5, throat, line=2.0)
        elif shape == "teeth":
            self.blob([(x - 13, y - 1), (x + 13, y - 2), (x + 9, y + 7), (x - 9, y + 7)], _WHITE, line=2.2)
            self.stroke([(x - 11, y + 3), (x + 11, y + 3)], width=1.4)
        else:
            wide, deep = (11, 9) if shape == "open" else (13, 13)
            self.blob([(x - wide, y - 1), (x, y - 2), (x + wide, y - 1), (x + wide * 0.7, y + deep * 0.8),
                       (x, y + deep),
                       (x - wide * 0.7, y + deep * 0.8)], throat, line=2.2)
            self.oval(x, y + deep * 0.68, wide * 0.5, deep * 0.24, tongue, line=0)

    def _behind_head(self, y: float) -> None:
        design, (rx, ry) = self.design, self.design.head
        if design.species == "rabbit":
            for side, lean in ((-0.45, -0.25), (0.30, 0.12)):
                x = rx * side
                self.blob([(x - 8, y - ry * 0.7), (x - 10 + lean * 40, y - ry - 34), (x + lean * 55, y - ry - 44),
                           (x + 10 + lean * 40, y - ry - 34),
                           (x + 8, y - ry * 0.7)], design.skin)
                self.stroke([(x, y - ry * 0.9), (x + lean * 48, y - ry - 32)], design.pale, width=6)
        elif design.species == "bear":
            for side in (-0.74, 0.70):
                self.oval(rx * side, y - ry * 0.82, 11, 11, design.skin)
                self.oval(rx * side, y - ry * 0.80, 5.5, 5.5, design.pale, line=0)
        elif design.species == "cat":
            for side in (-1, 1):
                tip = (rx * 0.78 * side, y - ry * 1.48)
                ear = [(rx * 0.92 * side, y - ry * 0.30), tip, (rx * 0.18 * side, y - ry * 0.86)]
                self.pen.shape([self.at(*corner) for corner in ear], design.skin)
        elif design.species == "child" and design.hair in ("bob", "bun"):
            self.oval(-rx * 0.18, y - 2, rx * 1.06, ry * 1.14, design.hair_colour)
            if design.hair == "bun":
                self.oval(-rx * 0.5, y - ry * 1.35, 14, 12, design.hair_colour)

    def _on_head(self, y: float) -> None:
        design, (rx, ry) = self.design, self.design.head
        if design.species == "dog":
            for side in (-1, 1):
                x = rx * 0.84 * side
                self.blob([(x - 7 * side, y - ry * 0.78), (x + 7 * side, y - ry * 0.6), (x + 13 * side, y + ry * 0.3),
                           (x + 4 * side, y + ry * 0.62),
                           (x - 5 * side, y + ry * 0.2)], mix(design.skin, self.pen.ink, 0.35))
        if design.species == "duck" and not design.hat:
            self.stroke([(-4, y - ry), (-9, y - ry - 12)], width=3.2)
            self.stroke([(0, y - ry), (2, y - ry - 14)], width=3.2)
        if design.species == "child":
            self._fringe(y)
        if design.hat:
            self._hat(y)

    def _fringe(self, y: float) -> None:
        rx, ry = self.design.head
        hair = self.design.hair_colour
        if self.design.hair == "curls":
            for k in range(7):
                angle = math.pi * (1.02 + k / 6.4)
                self.oval(rx * 0.95 * math.cos(angle), y + ry * 0.95 * math.sin(angle), 10, 10, hair)
            self.oval(0, y - ry * 0.78, rx * 0.72, ry * 0.26, hair, line=0)
        elif self.design.hair == "spikes":
            points = [(-rx * 1.02, y + ry * 0.1)]
            for k in range(6):
                points += [(-rx + k * rx * 0.36, y - ry * (1.22 + 0.12 * (k % 2))),
                           (-rx * 0.80 + k * rx * 0.36, y - ry * 0.82)]
            points += [(rx * 0.92, y - ry * 0.30), (rx * 0.3, y - ry * 0.62), (-rx * 0.5, y - ry * 0.48),
                       (-rx * 0.8, y + ry * 0.05)]
            self.pen.shape([self.at(*point) for point in points], hair)
        else:
            self.blob([(-rx * 1.04, y + ry * 0.22), (-rx * 0.98, y - ry * 0.62), (-rx * 0.2, y - ry * 1.16),
                       (rx * 0.74, y - ry * 0.88),
                       (rx * 1.0, y - ry * 0.22), (rx * 0.62, y - ry * 0.58), (rx * 0.1, y - ry * 0.50),
                       (-rx * 0.55, y - ry * 0.38)], hair)

    def _hat(self, y: float) -> None:
        rx, ry = self.design.head
        cloth = self.design.trousers
        brim = y - ry * 0.66
        if self.design.hat == "top hat":
            self.pen.shape([self.at(*p) for p in ((-18, brim), (-21, brim - 36), (21, brim - 36), (18, brim))], cloth)
            self.stroke([(-18, brim - 7), (18, brim - 7)], self.design.shirt, width=7)
            self.oval(0, brim, 31, 6, cloth)
        elif self.design.hat == "cap":
            self.blob([(-rx * 0.86, brim + 3), (-rx * 0.66, y - ry * 1.16), (rx * 0.1, y - ry * 1.34),
                       (rx * 0.78, y - ry * 1.0), (rx * 0.88, brim)],
                      self.design.shirt)
            self.blob([(rx * 0.3, brim - 3), (rx * 1.25, brim - 3), (rx * 1.45, brim + 4), (rx * 0.3, brim + 5)], cloth)
        else:
            self.blob([(-rx * 0.90, brim + 4), (-rx * 0.72, y - ry * 1.14), (0, y - ry * 1.46),
                       (rx * 0.76, y - ry * 1.10), (rx * 0.90, brim + 4)], cloth)
            self.blob([(-rx * 0.94, brim + 8), (-rx * 0.94, brim - 3), (rx * 0.94, brim - 3), (rx * 0.94, brim + 8)],
                      _WHITE)
            self.oval(0, y - ry * 1.5, 8, 8, _WHITE)
