"""Fetches weight files: `python -m pipeline weights profile=paper|training|evaluation`.

Nothing is fetched before a table has shown what it is, how large and under which terms. An interrupted download goes on
where it stopped; a finished file has its sha256 beside it. Without network, one sentence says what to put where.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pipeline import download
from pipeline.errors import EXIT_OK, UserError, nearest
from pipeline.weight_files import WeightFile, WeightProfile, find, named, profile_files
from pipeline.weight_kinds import size_text
from pipeline.weights import parse_hub, record_digest, weights_folder

OPTIONS = ("profile", "files", "dry_run", "folder")
SOURCE = "source."
SPARE_MB = 500                 # left free on the disk; chosen here
LOG_WIDTH = 260

HELP = f"""\
toonforge weights profile=NAME [name=value ...]

  profile=paper                 what to fetch for: {', '.join(WeightProfile)}
  files=raft_small,vgg16        only these files, by their names or as hf:owner/name/file references
  dry_run=true                  show the table and fetch nothing
  folder=weights                where to put them; TOONFORGE_WEIGHTS is the default
  source.i3d=ADDRESS            where a file of this name lies: an http(s) address or a path
"""


def main_weights(arguments: list[str]) -> int:
    """Shows and fetches weight files; returns 0. UserError where something is misspelt, absent or unreachable."""
    if not arguments or any(word in ("-h", "--help", "help") for word in arguments):
        print(HELP, end="")
        return EXIT_OK
    options, sources = _parse(arguments)
    folder = weights_folder(Path(options["folder"]) if "folder" in options else None)
    files = _chosen(options)
    absent = [file for file in files if not is_here(file, folder)]
    wanted = [file for file in absent if not file.is_optional]
    show(files, folder)
    by_hand = [file for file in wanted if file.is_by_hand and file.name not in sources]
    to_fetch = [file for file in wanted if file not in by_hand]
    if options.get("dry_run") == "true":
        print(f"dry run: {len(to_fetch)} to fetch, {_total(to_fetch)}")
        return EXIT_OK
    for file in files:
        if file not in absent:
            _verify(file, folder / file.file)
    if to_fetch:
        _check_space(to_fetch, folder)
    for file in to_fetch:
        fetch(file, folder, sources.get(file.name))
    if by_hand:
        places = "; ".join(f"{file.origin} to {folder / file.file} ({size_text(file.size_mb)})" for file in by_hand)
        raise UserError(f"{len(by_hand)} files have no address here", "their publishers offer none that is stable",
                        f"Put by hand {places}, or give source.{by_hand[0].name}=ADDRESS")
    return EXIT_OK


def fetch(file: WeightFile, folder: Path, source: str | None = None) -> Path:
    """Returns the path of one file, fetched and checked; `source` replaces the address that is known for it."""
    path = folder / file.file
    try:
        fetch_from = download.from_address(source) if source else _fetcher(file)
        fetch_from(file, path, folder)
    except download.Unreachable as error:
        what = f"{file.name} ({size_text(file.size_mb)}) cannot be downloaded"
        raise UserError(what, str(error), f"Get it from {file.origin} elsewhere and put it at {path}") from error
    _verify(file, path, is_ours=True)
    return path


def is_here(file: WeightFile, folder: Path) -> bool:
    """True if the file is complete; of a hub folder: if it was recorded as such, or put there by hand."""
    path = folder / file.file
    return path.is_file() or (bool(file.patterns) and download.is_complete(path))


def show(files: list[WeightFile], folder: Path) -> None:
    """Prints what the files are for, their size, terms and place."""
    from rich.box import MARKDOWN
    from rich.console import Console
    from rich.table import Table

    table = Table(box=MARKDOWN)
    for title in ("name", "size", "state", "for", "licence", "file"):
        table.add_column(title, justify="right" if title == "size" else "left", overflow="fold")
    for file in files:
        state = "here" if is_here(file, folder) else "by hand" if file.is_by_hand else "absent"
        state += ", optional" if file.is_optional and state != "here" else ""
        table.add_row(file.name, size_text(file.size_mb), state, file.purpose, file.licence, file.file)
    console = Console(highlight=False)
    if not console.is_terminal:  # a log breaks no lines
        console = Console(highlight=False, width=LOG_WIDTH)
    print(f"weights in {folder}")
    console.print(table)


def _total(files: list[WeightFile]) -> str:
    return size_text(sum(file.size_mb for file in files)) if files else "0 MB"


def _fetcher(file: WeightFile) -> Callable[[WeightFile, Path, Path], None]:
    scheme = file.reference.partition(":")[0]
    return {"hf": download.from_hub, "torchvision": download.from_torchvision, "easyocr": download.from_easyocr}[scheme]


def _verify(file: WeightFile, path: Path, *, is_ours: bool = False) -> None:
    """Records the digest; UserError if it is known and another. What was just downloaded is then removed."""
    if path.is_dir():
        return
    found = record_digest(path)
    if file.sha256 and found != file.sha256:
        fix = "Fetch it again or from elsewhere"
        if is_ours:
            path.unlink()
            path.with_name(f"{path.name}.sha256").unlink(missing_ok=True)
        else:
            fix = "Remove it and run the same command"
        why = f"its sha256 begins with {found[:12]}, that of {file.name} with {file.sha256[:12]}"
        raise UserError(f"{path} is not the file it should be", why, fix)


def _check_space(files: list[WeightFile], folder: Path) -> None:
    """Refuses before the first byte what the disk cannot hold."""
    folder.mkdir(parents=True, exist_ok=True)
    free_mb, needed_mb = shutil.disk_usage(folder).free / 1e6, sum(file.size_mb for file in files)
    if free_mb < needed_mb + SPARE_MB:
        why = f"{size_text(needed_mb)} are to be fetched, {size_text(free_mb)} are free"
        raise UserError(f"the disk of {folder} is too small", why, "Choose another with folder=..., or fewer with files=...")


def _chosen(options: dict[str, str]) -> list[WeightFile]:
    if "files" in options:
        return [_asked_for(text) for text in options["files"].split(",") if text]
    if "profile" not in options:
        raise UserError("profile is missing", fix=f"Give profile=, one of {', '.join(WeightProfile)}, or files=")
    return profile_files(options["profile"])


def _asked_for(text: str) -> WeightFile:
    """Returns a catalogued file, or a hub reference as one of which nothing is known."""
    known = find(text)
    if known is not None:
        return replace(known, is_optional=False)
    if not text.startswith("hf:"):
        return named(text)
    hub = parse_hub(text)
    if not hub.file:
        raise UserError(f"{text} names no file", fix="Write hf:owner/name/file")
    return WeightFile(name=text, profiles=(), reference=text, file=f"{hub.folder}/{hub.file}", purpose="asked for",
                      licence="not known: see its page", size_mb=0, origin=hub.repository, sha256=hub.sha256 or None)


def _parse(arguments: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    options: dict[str, str] = {}
    sources: dict[str, str] = {}
    for text in arguments:
        name, equals, value = text.partition("=")
        if not equals or not value:
            raise UserError(f"{text} is no option", fix="Write name=value, as in profile=paper")
        if name.startswith(SOURCE):
            sources[named(name.removeprefix(SOURCE)).name] = value
        elif name in OPTIONS:
            options[name] = value
        else:
            near = nearest(name, OPTIONS)
            raise UserError(f"weights has no option {name}", fix=f"Did you mean {near}?" if near else f"There are: {OPTIONS}")
    if options.get("dry_run", "false") not in ("true", "false"):
        raise UserError(f"dry_run={options['dry_run']} is no choice", fix="Write dry_run=true or leave it out")
    return options, sources
