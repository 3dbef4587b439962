"""What is to be drawn: one film as the options say, or a list of them as JSON lines; all files are looked at beforehand.

A line is an object with first and last, or keys (a list of pictures or a folder), and as it likes name, prompt, fps, seed,
sketches (a folder), sheet and sheet_frames; what it lacks is that of the command. Paths are meant from the list's own folder.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UserError, nearest
from training.sampling.config import SampleJob
from training.sampling.inputs import check_picture, list_pictures
from training.sampling.long import film_length
from training.sampling.sketches import numbered_files, sheet_frames

KINDS: dict[str, type] = {"name": str, "first": str, "last": str, "keys": object, "prompt": str, "fps": int, "seed": int,
                          "sketches": str, "sheet": str, "sheet_frames": list}


@dataclass(frozen=True, slots=True)
class Request:
    """One film to draw. One key frame alone is both ends: colouring by one reference, with a sketch of every frame."""

    name: str                          # its folder below `out`; "" for the only one
    keys: tuple[Path, ...]
    prompt: str
    fps: int
    seed: int
    num_frames: int                    # from one key frame to the next, both counted
    sketches: Path | None = None
    sheet: Path | None = None
    sheet_frames: tuple[int, ...] = ()

    @property
    def film_length(self) -> int:
        return film_length(len(self.keys), self.num_frames)

    @property
    def has_sketches(self) -> bool:
        return self.sketches is not None or self.sheet is not None


def read_requests(job: SampleJob) -> list[Request]:
    """The films of a job, in order, each checked as far as the heads of its files tell; UserError for the first mistake."""
    given = [name for name in ("first", "keys", "jobs") if getattr(job, name) is not None]
    if len(given) != 1:
        what = f"{' and '.join(given)} are both given" if given else "there is no key frame"
        raise UserError(what, "a film lies between two pictures", "Give first=a.png last=b.png, or keys=FOLDER, or jobs=FILE")
    if job.last is not None and job.first is None:
        raise UserError(f"last={job.last} needs first", f"{given[0]} brings its own key frames", "Leave last out")
    if job.jobs is None:
        values = {"first": job.first, "last": job.last, "keys": job.keys, "sketches": job.sketch.folder,
                  "sheet": job.sketch.sheet, "sheet_frames": list(job.sketch.sheet_frames)}
        return [_request({name: value for name, value in values.items() if value}, job, "", Path(), "")]
    if job.sketch.folder is not None or job.sketch.sheet is not None:
        raise UserError("sketch.folder and sketch.sheet have no place beside jobs", "each film has sketches of its own",
                        'Write "sketches" or "sheet" into its line')
    return _lines(Path(job.jobs), job)


def share(requests: Sequence[Request], rank: int, world: int) -> list[Request]:
    """The films that one of several processes draws: every world-th."""
    return list(requests[rank::world])


def _lines(path: Path, job: SampleJob) -> list[Request]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UserError(f"jobs={path} cannot be read", why, "Give a file of JSON lines") from error
    found: dict[str, Request] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path.name} line {number}: "
        try:
            values = json.loads(line)
        except ValueError as error:
            raise UserError(f"{where}no JSON", str(error), 'Write {"first": "a.png", "last": "b.png"} on one line') from error
        _check_values(values, where)
        request = _request(values, job, values.get("name") or f"{number:05d}", path.parent, where)
        if request.name in found:
            raise UserError(f"{where}the name {request.name} is taken", "each film has a folder of its own", "Give another name")
        found[request.name] = request
    if not found:
        raise UserError(f"jobs={path} is empty", fix="Write one film on each line")
    return list(found.values())


def _check_values(values: object, where: str) -> None:
    if not isinstance(values, dict):
        raise UserError(f"{where}no object", fix='Write {"first": "a.png", "last": "b.png"}')
    for name, value in values.items():
        if name not in KINDS:
            near = nearest(name, KINDS)
            fix = f"Did you mean {near}?" if near else f"There are: {', '.join(KINDS)}"
            raise UserError(f"{where}{name} is no option", fix=fix)
        if not isinstance(value, KINDS[name]) or isinstance(value, bool):
            raise UserError(f"{where}{name}={value} must be {_article(KINDS[name])}")
    name = values.get("name", "")
    if name and (Path(name).name != name or name.startswith(".")):
        raise UserError(f"{where}name={name} is no name of a folder", fix="Leave out slashes and leading dots")
    keys = values.get("keys", "")
    if not isinstance(keys, str) and not (isinstance(keys, list) and keys and all(isinstance(key, str) for key in keys)):
        raise UserError(f"{where}keys={keys} must be a folder or a list of pictures")
    if not all(isinstance(frame, int) for frame in values.get("sheet_frames", [])):
        raise UserError(f"{where}sheet_frames must be a list of whole numbers")
    for name, least in (("fps", 1), ("seed", 0)):
        if values.get(name, least) < least:
            raise UserError(f"{where}{name}={values[name]} must be at least {least}")
    if "sketches" in values and "sheet" in values:
        raise UserError(f"{where}sketches and sheet are both given", fix="Give one of them")


def _article(kind: type) -> str:
    return {str: "text", int: "a whole number", list: "a list"}.get(kind, "something else")


def _request(values: dict[str, object], job: SampleJob, name: str, folder: Path, where: str) -> Request:
    """A film out of its values, files checked."""
    def path(option: str) -> Path | None:
        return folder / str(values[option]) if option in values else None

    request = Request(name, _keys(values, folder, where), str(values.get("prompt", job.prompt)),
                      int(str(values.get("fps", job.fps))), int(str(values.get("seed", job.seed))), job.num_frames,
                      path("sketches"), path("sheet"), tuple(values.get("sheet_frames", ())))     # type: ignore[arg-type]
    guided: set[int] = set()
    if request.sketches is not None:
        guided = set(numbered_files(request.sketches, request.film_length))
    if request.sheet is not None:
        guided = set(sheet_frames(request.sheet, request.sheet_frames, request.film_length))
    absent = sorted(set(range(2, request.film_length + 1)) - guided)
    if len(request.keys) == 1 and absent:
        what = f"{where}there is one key frame and no sketch of frame {absent[0]}"
        raise UserError(what, "one colour picture is enough only with a sketch of every frame",
                        "Give last=b.png too, or the other sketches")
    return request


def _keys(values: dict[str, object], folder: Path, where: str) -> tuple[Path, ...]:
    keys = values.get("keys")
    if keys is None:
        if "first" not in values:
            raise UserError(f"{where}there is no key frame", fix="Give first and last, or keys")
        ends: tuple[str, ...] = ("first", "last")
        found = {name: folder / str(values[name]) for name in ends if name in values}
    elif "first" in values or "last" in values:
        raise UserError(f"{where}keys and first or last are both given", fix="Give one or the other")
    elif isinstance(keys, str):
        found = {f"keys {path.name}": path for path in list_pictures(folder / keys, f"{where}keys")}
    else:
        assert isinstance(keys, list)
        found = {f"keys {index}": folder / key for index, key in enumerate(keys, 1)}
    for option, path in found.items():
        check_picture(path, f"{where}{option}")
    return tuple(found.values())
