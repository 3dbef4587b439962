"""Builders of tiny films for tests: painted scenes, moving characters, cameras, joins; and their surveys."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np

from curation.config import CurateJob
from curation.ledger import Access, Source, SourceRecord
from curation.survey import Survey, SurveyData, load_survey
from pipeline.config import load
from pipeline.store import Store

WIDTH, HEIGHT = 192, 108
FPS = 24

Picture = np.ndarray


@cache
def defaults() -> CurateJob:
    return load([])


def painting(seed: int, width: int = WIDTH, height: int = HEIGHT) -> Picture:
    """RGB uint8 [height, width, 3]: a textured ground with outlined shapes of the seed's own colours and places."""
    rng = np.random.default_rng([seed, 77])
    coarse = rng.integers(40, 215, (3, 4, 3)).astype(np.uint8)
    picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    picture += cv2.resize(rng.integers(-14, 15, (height // 3, width // 3)).astype(np.int16), (width, height))[..., None]
    picture = np.clip(picture, 0, 255).astype(np.uint8)
    for _ in range(12 * width * height // (WIDTH * HEIGHT)):
        centre = int(rng.integers(0, width)), int(rng.integers(0, height))
        size = int(rng.integers(6, 26)), int(rng.integers(6, 26))
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        cv2.ellipse(picture, centre, size, float(rng.integers(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
        cv2.ellipse(picture, centre, size, 0.0, 0, 360, (10, 10, 10), 1, cv2.LINE_AA)
    return picture


def with_ball(ground: Picture, x: float, y: float, radius: int = 14, colour: tuple[int, int, int] = (235, 60, 40)) -> Picture:
    """The scene with an outlined ball at (x, y)."""
    picture = ground.copy()
    cv2.circle(picture, (round(x), round(y)), radius, colour, -1, cv2.LINE_AA)
    cv2.circle(picture, (round(x), round(y)), radius, (10, 10, 10), 2, cv2.LINE_AA)
    return picture


def acted(seed: int, num_frames: int, hold: int = 2) -> list[Picture]:
    """A ball bounces across a still scene; every drawing stays `hold` frames."""
    ground = painting(seed)
    drawings = [with_ball(ground, 20 + 5 * (n % 30), 60 + 30 * np.cos(n / 3)) for n in range(-(-num_frames // hold))]
    return [drawings[frame // hold] for frame in range(num_frames)]


def still(seed: int, num_frames: int) -> list[Picture]:
    return [painting(seed)] * num_frames


def panned(seed: int, num_frames: int, px_a_frame: float = 3.0) -> list[Picture]:
    """The camera moves to the right over a still painting: the picture moves left."""
    wide = painting(seed, WIDTH + int(px_a_frame * num_frames) + 8)
    return [view(wide, shift=(px_a_frame * n, 0.0)) for n in range(num_frames)]


def zoomed(seed: int, num_frames: int, growth: float = 0.01) -> list[Picture]:
    """The camera closes in on the middle of a still painting."""
    whole = painting(seed, 2 * WIDTH, 2 * HEIGHT)
    return [view(whole, shift=(WIDTH / 2, HEIGHT / 2), scale=0.6 * (1 + growth)**n) for n in range(num_frames)]


def view(whole: Picture, *, shift: tuple[float, float], scale: float = 1.0) -> Picture:
    """WIDTH x HEIGHT pixels of a larger painting: its point `shift` + half a picture in the middle, enlarged by `scale`."""
    centre = shift[0] + WIDTH / 2, shift[1] + HEIGHT / 2
    matrix = np.array([[scale, 0, WIDTH / 2 - scale * centre[0]], [0, scale, HEIGHT / 2 - scale * centre[1]]])
    return cv2.warpAffine(whole, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def blended(old: Sequence[Picture], new: Sequence[Picture], num_frames: int) -> list[Picture]:
    """`old`, `num_frames` in which its end becomes the start of `new`, the rest of `new`; both go on moving meanwhile."""
    shares = [(k + 1) / (num_frames + 1) for k in range(num_frames)]
    middle = [cv2.addWeighted(a, 1 - share, b, share, 0)
              for a, b, share in zip(old[-num_frames:], new[:num_frames], shares, strict=True)]
    return [*old[:-num_frames], *middle, *new[num_frames:]]


def wiped(old: Sequence[Picture], new: Sequence[Picture], num_frames: int) -> list[Picture]:
    """Like `blended`, with an edge that moves from left to right."""
    middle = []
    for k, (a, b) in enumerate(zip(old[-num_frames:], new[:num_frames], strict=True)):
        picture = a.copy()
        edge = round((k + 1) / (num_frames + 1) * WIDTH)
        picture[:, :edge] = b[:, :edge]
        middle.append(picture)
    return [*old[:-num_frames], *middle, *new[num_frames:]]


def faded_out(frames: Sequence[Picture], num_frames: int) -> list[Picture]:
    """The last `num_frames` grow dark; the very last is black."""
    dark = [cv2.convertScaleAbs(picture, alpha=1 - (k + 1) / num_frames) for k, picture in enumerate(frames[-num_frames:])]
    return [*frames[:-num_frames], *dark]


def faded_in(frames: Sequence[Picture], num_frames: int) -> list[Picture]:
    """The first is black and `num_frames` later all is there."""
    return [*(cv2.convertScaleAbs(picture, alpha=k / num_frames) for k, picture in enumerate(frames[:num_frames])),
            *frames[num_frames:]]


def write_film(path: Path, frames: Sequence[Picture], *, pts: Sequence[int] | None = None, time_base: Fraction = Fraction(1, FPS),
               codec: str = "libx264", pix_fmt: str = "yuv420p", rotation_deg: float | None = None) -> Path:
    """Writes RGB pictures, shown at `pts` ticks of `time_base` or one a tick; x264 at high quality, one thread.

    rotation_deg: counter-clockwise turn that players are to make.
    """
    options = {"crf": "12", "preset": "ultrafast", "threads": "1"} if codec == "libx264" else {}
    with av.open(str(path), "w") as film:
        stream = film.add_stream(codec, rate=FPS, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = time_base
        if rotation_deg is not None:
            stream.set_display_rotation(rotation_deg)
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = index if pts is None else pts[index], time_base
            film.mux(stream.encode(frame))
        film.mux(stream.encode(None))
    return path


def source_of(path: Path) -> Source:
    data = path.read_bytes()
    return Source(path.name, hashlib.sha256(data).hexdigest(), len(data), Access(str(path)))


def survey_stage(store: Path) -> Survey:
    job = defaults()
    stage = Survey(job.curation.survey, job.curation.sources, str(store))
    stage.setup()
    return stage


def survey_file(path: Path) -> tuple[SourceRecord, SurveyData]:
    """Surveys a film into a store beside it."""
    store = path.parent / "store"
    [[record]] = survey_stage(store)([source_of(path)])
    return record, load_survey(Store(store), record.survey_key)


def survey_frames(folder: Path, frames: Sequence[Picture]) -> SurveyData:
    """The survey of pictures as a film on its way through an encoder would have it."""
    return survey_file(write_film(folder / "film.mkv", frames))[1]
