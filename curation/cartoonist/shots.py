"""One shot: a place, an act, a camera and an exposure sheet become a list of pictures, each distinct one drawn once."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np

from curation.cartoonist.acts import ACTS, STEP, Act, Drawable, Stage
from curation.cartoonist.backgrounds import PLACES, Place, paint
from curation.cartoonist.characters import SPECIES, Design, invent
from curation.cartoonist.ink import WORLD_HEIGHT, Camera, Pen, Picture, mix
from curation.cartoonist.lettering import Line, subtitle, text_share
from curation.cartoonist.palettes import MOODS, Palette, mix_palette

FPS = 24
_SPOKEN = (
    "I am quite sure the kettle was here before the tide came in",
    "Nobody told me that the moon would be open on a Sunday",
    "If you hold the ladder I will ask the owl about your hat",
    "We shall need more string and a very much smaller elephant",
    "That is not a puddle, my dear, that is the Tuesday ferry",
    "Keep walking and pretend that you have not seen the cheese",
)
_JOBS = ("Written by", "Drawn by", "Backgrounds", "Ink and paint", "Music", "Camera", "Voices", "Assistant",
         "Directed by")
_FIRST = ("Odd", "Mira", "Tobias", "Lune", "Perry", "Ansel", "Wilma", "Joss", "Edda", "Corin")
_LAST = ("Fennimore", "Appleyard", "Quill", "Marsh", "Bellweather", "Tansy", "Overhill", "Pocket", "Winterbourne",
         "Dunes")


@dataclass(frozen=True, slots=True)
class Beat:
    """One shot as the script asks for it."""

    kind: str                              # one of ACTS, or opening, title, credits_roll, credits_pages
    seconds: float
    step: str = "twos"                     # how long a drawing stays: ones, twos, threes, mixed
    camera: str = "none"                   # none, pan, zoom, parallax
    join: str = "cut"                      # how it begins: cut, fade (through black), dissolve, wipe
    place: str = ""                        # one of PLACES; "": the seed chooses
    has_subtitles: bool = False
    num_flashes: int = 0                   # impacts: one to three white pictures each


@dataclass(slots=True)
class Shot:
    """A drawn shot. Indexes count from its first picture."""

    beat: Beat
    frames: list[Picture]
    text: str                              # none, some or heavy
    text_share: float                      # of the picture, while the text stands
    description: str
    place: tuple[str, str]                 # kind and mood
    flashes: list[tuple[int, int]] = field(default_factory=list)                   # first and last
    ambiguous: list[tuple[int, int, str]] = field(default_factory=list)


@dataclass
class Studio:
    """The people and places of one series under one seed; a place is painted when it is first needed."""

    series: str
    seed: int
    size: tuple[int, int]                  # width and height of the drawn picture in pixels
    places: dict[tuple[str, str], Place] = field(default_factory=dict)

    def rng(self, *names: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32("/".join((self.series, *names)).encode())])

    @property
    def width(self) -> float:
        return WORLD_HEIGHT * self.size[0] / self.size[1]

    @cached_property
    def cast(self) -> list[Design]:
        rng = self.rng("cast")
        return [invent(rng, str(species)) for species in rng.permutation(SPECIES)[:4]]

    @cached_property
    def moods(self) -> tuple[str, str]:
        first, second = self.rng("moods").permutation(MOODS)[:2]
        return str(first), str(second)

    def place(self, kind: str, mood: str) -> Place:
        if (kind, mood) not in self.places:
            palette = mix_palette(mood, self.rng("palette", mood))
            self.places[kind, mood] = paint(kind, palette, self.rng("place", kind, mood), self.size)
        return self.places[kind, mood]

    def favourite_places(self) -> list[str]:
        return [str(kind) for kind in self.rng("places").permutation(PLACES)[:3]]


def draw_shot(studio: Studio, beat: Beat, rng: np.random.Generator, *, title: str, instants: int = 1,
              avoid: tuple[str, str] = ("", "")) -> Shot:
    """Draws one shot with `instants` pictures per 1/24 s, elsewhere than at `avoid` or in another mood of it.

    The number of pictures is a multiple of 2 * instants.
    """
    count = max(1, round(beat.seconds * FPS / 2)) * 2 * instants
    rate = FPS * instants
    others = [kind for kind in studio.favourite_places() if kind != avoid[0]]
    kind = beat.place or ("harbour" if beat.kind in ("sail", "opening") else str(rng.choice(others)))
    mood = studio.moods[int(rng.uniform() < 0.35)]
    if (kind, mood) == avoid:
        mood = studio.moods[1 - studio.moods.index(mood)]
    place = studio.place(kind, mood)
    if beat.kind == "title" or beat.kind.startswith("credits"):
        return _card(studio, beat, rng, (kind, mood), count, rate, title)
    cast = tuple(studio.cast[k] for k in rng.permutation(len(studio.cast))[:2])
    cameras = _travel(beat, place, studio.width, count, rate, rng)
    stage = Stage(cameras[0].left, studio.width, cast, place.palette, cameras[-1].left > cameras[0].left)
    act = ACTS["sail" if beat.kind == "opening" else beat.kind](stage, rng)
    sheet = _exposures(beat.step, count, instants)
    lines: list[tuple[Line, ...]] = [()] * count
    if beat.kind == "opening":
        lines = [_heading(title, studio.width, place.palette)] * count
    elif beat.has_subtitles:
        spoken = [subtitle(_SPOKEN[int(k)], studio.width) for k in rng.permutation(len(_SPOKEN))]
        lines = [spoken[frame // (2 * rate) % len(spoken)] for frame in range(count)]
    frames = _expose(place, act, cameras, sheet, lines, rate, is_deep=beat.camera == "parallax")
    share = max((text_share(shown, frames[0]) for shown in set(lines)), default=0.0)
    shot = Shot(beat, frames, "heavy" if beat.kind == "opening" else "some" if share else "none", share,
                _describe(beat, kind, cast), (kind, mood))
    for k in range(beat.num_flashes):
        start = round(count * (0.35 + 0.3 * k)) // instants * instants
        end = start + int(rng.integers(1, 4)) * instants - 1
        shot.frames[start:end + 1] = [np.full_like(frames[0], 252)] * (end + 1 - start)
        shot.flashes.append((start, end))
    return shot


def _describe(beat: Beat, place: str, cast: Sequence[Design]) -> str:
    first, second = (design.species for design in cast)
    what = {
        "walk": f"A {first} walks by", "talk": f"A {first} and a {second} talk",
            "ball": f"A {first} and a bouncing ball",
        "dance": f"A {first} hops and dances", "sail": "A boat sails past under gulls",
            "still_pan": "The painting alone",
        "opening": "Opening: a boat under the title", "static": f"A {first} and a {second} stand still",
    }[beat.kind]
    camera = {"none": "", "pan": "; the camera pans", "zoom": "; the camera moves in",
              "parallax": "; the camera pans with depth"}[beat.camera]
    return f"{what}, {place}{camera}."


def _exposures(step: str, count: int, instants: int) -> list[int]:
    """The drawing shown at each picture. Where fields are drawn, twos stay three fields, so that fields differ."""
    if step == "mixed":
        sheet: list[int] = []
        for block in range(count):
            for _ in range(12 * instants // (hold := (3, 1, 2)[block % 3] * instants)):
                sheet += [sheet[-1] + 1 if sheet else 0] * hold
            if len(sheet) >= count:
                break
        return sheet[:count]
    stay = {"ones": 1, "twos": 2, "threes": 3}[step] * instants
    if instants == 2:
        stay = {2: 1, 4: 3, 6: 5}[stay]
    return [frame // stay for frame in range(count)]


def _travel(beat: Beat, place: Place, width: float, count: int, rate: int, rng: np.random.Generator) -> list[Camera]:
    room = place.width - width
    if beat.camera in ("pan", "parallax"):
        step = {"ones": 1, "twos": 2, "threes": 3, "mixed": 2}[beat.step]
        speed = STEP * FPS / step if beat.kind == "walk" else rng.uniform(40, 90)
        speed = min(speed, 0.96 * room * rate / count)
        left = rng.uniform(0, room - speed * count / rate)
        return [Camera(float(left + speed * frame / rate)) for frame in range(count)]
    left = float(rng.uniform(0, room))
    if beat.camera == "none":
        return [Camera(left)] * count
    cameras = []
    for frame in range(count):
        zoom = 1.0 + 0.32 * frame / count
        spare = 1.0 - 1.0 / zoom
        cameras.append(Camera(left + width / 2 * spare, 130.0 * spare, zoom))
    return cameras


def _expose(place: Place, act: Act, cameras: list[Camera], sheet: list[int], lines: list[tuple[Line, ...]], rate: int,
            *, is_deep: bool) -> list[Picture]:
    frames: list[Picture] = []
    seen: tuple[Camera, tuple[Drawable, ...]] | None = None
    backdrop, backdrop_camera = place.view(cameras[0], parallax=is_deep), cameras[0]
    began = 0
    for frame, (camera, drawing) in enumerate(zip(cameras, sheet, strict=True)):
        if frame and drawing != sheet[frame - 1]:
            began = frame
        drawables = (*act(drawing, began / rate), *lines[frame])
        if (camera, drawables) != seen:
            seen = (camera, drawables)
            if camera != backdrop_camera:
                backdrop, backdrop_camera = place.view(camera, parallax=is_deep), camera
            picture = backdrop.copy()
            pen = Pen(picture, place.palette.ink, camera=camera)
            for drawable in drawables:
                drawable.draw(pen)
            frames.append(picture)
        else:
            frames.append(frames[-1])
    return frames


def _heading(title: str, width: float, palette: Palette) -> tuple[Line, ...]:
    words = title.upper().split()
    half = (len(words) + 1) // 2
    rows = [" ".join(part) for part in (words[:half], words[half:]) if part]
    size = min(54.0, 1.45 * width / max(len(row) for row in rows))
    return tuple(Line(row, width / 2, 118.0 + k * size * 1.15, size, palette.light, palette.ink) for k,
                 row in enumerate(rows))


def _card(studio: Studio, beat: Beat, rng: np.random.Generator, where: tuple[str, str], count: int, rate: int,
          title: str) -> Shot:
    """Title or credits on a darkened, blurred painting."""
    place, width = studio.place(*where), studio.width
    palette = place.palette
    view = place.view(Camera(float(rng.uniform(0, place.width - width))))
    blurred = cv2.GaussianBlur(view, (0, 0), 6 * studio.size[1] / WORLD_HEIGHT)
    tint = np.array(mix(palette.ink, palette.accent, 0.18 if beat.kind == "title" else 0.06), np.float32)
    share = 0.45 if beat.kind == "title" else 0.86
    board: Picture = np.rint(blurred * (1 - share) + tint * share).astype(np.uint8)
    if beat.kind == "title":
        pen = Pen(board, palette.light)
        for inset in (12.0, 19.0):
            pen.stroke([(inset, inset), (width - inset, inset), (width - inset, 270 - inset), (inset, 270 - inset),
                        (inset, inset)],
                       palette.light, width=2.4)
        sheets = [(*_heading(title, width, palette), Line("a story in pictures", width / 2, 214, 20, palette.light))]
        starts = [0]
    else:
        names = [f"{rng.choice(_FIRST)} {rng.choice(_LAST)}" for _ in _JOBS]
        sheets, starts = _credits(beat, width, palette, names, count, rate)
    frames: list[Picture] = []
    shares = []
    for frame in range(count):
        if frame in starts:
            picture = board.copy()
            for line in sheets[starts.index(frame)]:
                line.draw(Pen(picture))
            shares.append(text_share(sheets[starts.index(frame)], board))
        frames.append(picture)
    what = {"title": f"Title card: {title}.", "credits_roll": "Rolling credits.",
            "credits_pages": "Pages of credits."}[beat.kind]
    shot = Shot(beat, frames, "heavy", float(np.median(shares)), what, where)
    if beat.kind == "credits_pages":
        shot.ambiguous = [(start, start, "another page of credits on the same board") for start in starts[1:]]
    return shot


def _credits(beat: Beat, width: float, palette: Palette, names: list[str], count: int,
             rate: int) -> tuple[list[tuple[Line, ...]], list[int]]:
    """Lines of each sheet of credits and the picture at which it appears."""
    def entry(k: int, base: float) -> tuple[Line, Line]:
        return (Line(_JOBS[k].upper(), width / 2, base, 13, palette.accent, None),
                Line(names[k], width / 2, base + 23, 21, palette.light, None))

    if beat.kind == "credits_pages":
        pages = [tuple(line for row in range(3) for line in entry(3 * page + row, 70 + row * 66)) for page in range(3)]
        return pages, [round(page * count / 3 / 2) * 2 for page in range(3)]
    speed = (len(_JOBS) * 54 - 60) / (count / rate)
    tops = [round(60 - speed * frame / rate) for frame in range(count)]
    starts = [frame for frame in range(count) if frame == 0 or tops[frame] != tops[frame - 1]]
    return [tuple(line for k in range(len(_JOBS)) for line in entry(k, tops[start] + 54 * k))
            for start in starts], starts


