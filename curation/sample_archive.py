"""Draws the sample archive: a dozen short cartoons in every kind of file a raw archive holds, and the truth about each.

It stands in where nobody gives an archive, and tests and reports compare with it: every cut, hold, text and motion is
known because we drew it. Nothing is downloaded; the same seed, size and VERSION give the same bytes.

    python -m curation.sample_archive FOLDER --seed 0 --size 480x270
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from curation.cartoonist.film import Film, Script, describe, draw_film, thin, weave
from curation.cartoonist.ink import Picture
from curation.cartoonist.reels import (
    Coding,
    count_frames,
    cut_short,
    h264,
    h264_10bit,
    mpeg2_interlaced,
    pack_tar,
    pack_zip,
    vp9,
    write_pictures,
    write_video,
)
from curation.cartoonist.shots import Beat
from curation.config import parse_size
from pipeline.errors import UserError

VERSION = 1                                # raised by hand when the same seed gives other bytes
_MIN_SIDE_PX = 64                          # smaller, and letters and faces are blots
_DAMAGE = 0.55                             # share of the damaged file that is left
_JOIN_MARGIN = 16                          # frames at the end of an opening that a transition may cover
_NO_FILM = "This reel was lost in the move of 1987. If you find it, please ring the harbour office.\n"

ZIP, TAR = "saturday_matinee.zip", "attic_box.tar"
LOST = "lost_reel.mp4"


@dataclass(frozen=True, slots=True)
class Reel:
    """One film of the archive and the file it goes into."""

    file: str                              # as sources name it; members as "pack.zip!/folder/film.mp4"
    script: Script
    coding: Coding | None                  # None: a folder of pictures
    treatment: str = ""                    # "vfr", "interlaced" or "damaged"
    shrink: float = 1.0                    # of width and height, for a re-encoded copy
    copy_of: str = ""

    @property
    def pack(self) -> str:
        return self.file.partition("!/")[0] if "!/" in self.file else ""

    @property
    def member(self) -> str:
        return self.file.partition("!/")[2]


_HARBOUR_1 = Script("Harbour Tales", "harbour tales", (
    Beat("opening", 3.0), Beat("walk", 3.0, camera="pan"), Beat("talk", 3.2, has_subtitles=True),
    Beat("ball", 2.5, step="ones", join="dissolve", num_flashes=1), Beat("static", 3.1),
    Beat("sail", 2.4, step="threes"), Beat("credits_roll", 2.6, join="fade")))
_HARBOUR_2 = Script("Harbour Tales", "harbour tales", (
    Beat("opening", 3.0), Beat("sail", 2.6, step="threes", join="wipe"), Beat("talk", 3.0), Beat("dance", 2.4),
    Beat("static", 3.1), Beat("walk", 2.2, step="ones", camera="pan", join="dissolve")))
_BAKERY = Script("Moonlit Bakery", "moonlit bakery", (
    Beat("title", 2.2, join="fade"), Beat("walk", 2.6, camera="parallax", join="dissolve"),
    Beat("talk", 3.0, camera="zoom"), Beat("still_pan", 2.5, camera="pan", join="wipe"),
    Beat("dance", 2.2, step="mixed")))
_HAT = Script("The Tall Hat", "the tall hat", (
    Beat("title", 2.0), Beat("talk", 3.0), Beat("walk", 2.6, camera="pan", step="threes"),
    Beat("ball", 2.6, step="ones")), bars="letterbox")
_BISCUIT = Script("Biscuit and Ball", "biscuit and ball", (
    Beat("ball", 3.0, step="ones", num_flashes=2), Beat("dance", 2.4, step="threes"),
    Beat("static", 3.1, join="dissolve"), Beat("talk", 2.6, has_subtitles=True)))
_LANTERN = Script("Winter Lantern", "winter lantern", (
    Beat("walk", 3.0, join="fade"), Beat("still_pan", 2.6, camera="pan", join="dissolve"), Beat("talk", 3.0),
    Beat("credits_pages", 3.0)), bars="pillarbox")
_TEST = Script("Pencil Test", "pencil test", (Beat("walk", 1.5), Beat("dance", 1.1, step="ones")))
_FOREST = Script("Deep Forest", "deep forest", (
    Beat("talk", 3.0, camera="zoom", place="forest"), Beat("walk", 3.0, camera="parallax"),
    Beat("dance", 2.4, join="wipe"), Beat("talk", 2.6, step="threes")))
_BOATS = Script("Paper Boats", "paper boats", (
    Beat("sail", 3.0, step="threes"), Beat("talk", 3.0), Beat("static", 3.1), Beat("ball", 2.5, step="ones")))
_PARADE = Script("The Parade", "the parade", (
    Beat("walk", 3.0, camera="pan"), Beat("ball", 2.5, step="ones", num_flashes=1), Beat("talk", 2.6),
    Beat("dance", 2.0)), instants=2)
_ATTIC = Script("Attic Reel", "attic reel", (
    Beat("walk", 3.0), Beat("talk", 3.0), Beat("ball", 2.6, step="ones"), Beat("dance", 2.2)))

REELS = (
    Reel("harbour_tales_s01e01.mp4", _HARBOUR_1, h264(21)),
    Reel("harbour_tales_s01e02.mkv", _HARBOUR_2, h264(23)),
    Reel("moonlit_bakery.webm", _BAKERY, vp9(34)),
    Reel("moonlit_bakery_small.mp4", _BAKERY, h264(26), shrink=2 / 3, copy_of="moonlit_bakery.webm"),
    Reel(f"{ZIP}!/reels/the_tall_hat.mp4", _HAT, h264(22)),
    Reel(f"{ZIP}!/reels/biscuit_and_ball.mkv", _BISCUIT, h264(24)),
    Reel(f"{TAR}!/winter_lantern.mp4", _LANTERN, h264(22)),
    Reel("pencil_test", _TEST, None),
    Reel("deep_forest_10bit.mkv", _FOREST, h264_10bit(22)),
    Reel("paper_boats_vfr.mp4", _BOATS, h264(22), treatment="vfr"),
    Reel("the_parade_interlaced.mkv", _PARADE, mpeg2_interlaced(4), treatment="interlaced"),
    Reel("attic_reel_damaged.mp4", _ATTIC, h264(22), treatment="damaged"),
)


def draw_archive(folder: Path, *, seed: int, size: str = "480x270") -> Path:
    """Returns <folder>/films; draws it and <folder>/truth unless they are there for this seed, size and VERSION.

    The folder appears complete or not at all. UserError if `size` cannot be drawn or the folder holds something else.
    """
    picture = _picture_size(size)
    folder = folder.absolute()             # a name is needed for the sibling, also of "."
    stamp = {"schema": 1, "version": VERSION, "seed": seed, "size": size}
    if _holds(folder, stamp):
        return folder / "films"
    if folder.exists() and not (folder / "archive.json").is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"the sample archive cannot be drawn into {folder}", "it exists and is no sample archive",
                        "Give curation.sample_archive.path a folder that does not exist or is empty")
    folder.parent.mkdir(parents=True, exist_ok=True)
    desk = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _draw_all(desk / "new", seed, picture)
        (desk / "new" / "archive.json").write_text(json.dumps(stamp, indent=1) + "\n")
        if folder.exists():
            folder.rename(desk / "old")
        (desk / "new").rename(folder)
    except OSError:
        if not _holds(folder, stamp):      # otherwise another process was faster, and its archive is the same
            raise
    finally:
        shutil.rmtree(desk, ignore_errors=True)
    return folder / "films"


def truth_file(file: str) -> str:
    """Name of the truth of an archive's file: members and folders become one flat name."""
    return file.replace("!/", "/").replace("/", "__") + ".json"


def _picture_size(size: str) -> tuple[int, int]:
    try:
        width, height = parse_size(size, "curation.sample_archive.size")
    except ValueError as error:
        raise UserError(str(error)) from error
    if width % 2 or height % 2 or min(width, height) < _MIN_SIDE_PX:
        raise UserError(f"curation.sample_archive.size={size} cannot be drawn",
                        f"width and height must be even and at least {_MIN_SIDE_PX}", "Use 480x270 or 256x144")
    return width, height


def _holds(folder: Path, stamp: dict[str, Any]) -> bool:
    try:
        return bool(json.loads((folder / "archive.json").read_text()) == stamp)
    except (OSError, ValueError):
        return False


def _draw_all(folder: Path, seed: int, size: tuple[int, int]) -> None:
    films, truth, loose = folder / "films", folder / "truth", folder / "loose"
    for path in (films, truth, loose):
        path.mkdir(parents=True)
    openings: dict[str, str] = {}
    film: Film | None = None
    for reel in REELS:
        if not reel.copy_of or film is None:
            # A copy follows its original in REELS, so the pictures need not be drawn again.
            film = draw_film(reel.script, seed=seed, size=size, name=reel.file)
        written, extra = _write(reel, film, loose / Path(reel.file).name if reel.pack else films / reel.file)
        row = {"file": reel.file, **describe(written), **_relations(reel, openings, written), **extra}
        _save(truth / truth_file(reel.file), row)
        if reel.script.beats[0].kind == "opening":
            openings.setdefault(reel.script.series, reel.file)
    members = {pack: [(reel.member, loose / Path(reel.file).name) for reel in REELS if reel.pack == pack]
               for pack in (ZIP, TAR)}
    # Every second member is deflated, so that both ways of reading a zip are needed.
    pack_zip(films / ZIP, [(name, path, index % 2 == 1) for index, (name, path) in enumerate(members[ZIP])])
    pack_tar(films / TAR, members[TAR])
    shutil.rmtree(loose)
    (films / LOST).write_text(_NO_FILM)
    _save(truth / truth_file(LOST), {"file": LOST, "expect": "reject", "frames": 0,
                                     "note": "a text, whatever its name says"})


def _write(reel: Reel, film: Film, path: Path) -> tuple[Film, dict[str, Any]]:
    """Writes a film; returns it as it is in the file, and what only the file knows."""
    extra: dict[str, Any] = {"expect": "decode", "interlaced": False, "vfr": False, "codec": "png", "pix_fmt": "rgb24"}
    if reel.coding is None:
        write_pictures(path, film.frames)
        return film, extra
    extra |= {"codec": reel.coding.encoder, "pix_fmt": reel.coding.pix_fmt}
    ticks: list[int] | None = None
    if reel.shrink != 1.0:
        film = _shrunk(film, reel.shrink)
    if reel.treatment == "vfr":
        film, ticks = thin(film)
        extra |= {"vfr": True, "ticks": ticks,
                  "note": "ticks: time of each frame in 1/fps s; indexes count the frames in the file"}
    elif reel.treatment == "interlaced":
        film = weave(film)
        extra |= {"interlaced": True, "note": "every frame holds two instants, 1/48 s apart, top field first"}
    write_video(path, film.frames, film.fps, reel.coding, ticks)
    if reel.treatment == "damaged":
        cut_short(path, _DAMAGE)
        extra |= {"expect": "partial", "decodable_frames": count_frames(path),
                  "note": "cut short; the rest of this truth speaks of the whole film"}
    return film, extra


def _relations(reel: Reel, openings: dict[str, str], film: Film) -> dict[str, Any]:
    original = reel.copy_of or reel.file
    copies = [other.file for other in REELS if other is not reel and (other.copy_of or other.file) == original]
    repeats = []
    if reel.script.series in openings and reel.script.beats[0].kind == "opening":
        shared = 3 * film.fps - _JOIN_MARGIN
        repeats.append({"start": 0, "end": shared - 1, "of": openings[reel.script.series], "of_start": 0})
    return {"near_duplicates": copies, "repeats": repeats}


def _shrunk(film: Film, share: float) -> Film:
    height, width = film.frames[0].shape[:2]
    size = (round(width * share / 2) * 2, round(height * share / 2) * 2)
    frames: list[Picture] = []
    for index, frame in enumerate(film.frames):
        if index and frame is film.frames[index - 1]:
            frames.append(frames[-1])
        else:
            frames.append(np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8))
    across, down = size[0] / width, size[1] / height
    x, y, wide, high = film.bars
    return replace(film, frames=frames, bars=(round(x * across), round(y * down), round(wide * across),
                                              round(high * down)))


def _save(path: Path, row: dict[str, Any]) -> None:
    path.write_text(json.dumps(row, indent=1) + "\n")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m curation.sample_archive", description="Draws the sample archive.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", default="480x270")
    options = parser.parse_args(argv)
    try:
        print(draw_archive(options.folder, seed=options.seed, size=options.size))
    except UserError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
