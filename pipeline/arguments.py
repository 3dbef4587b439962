"""What all commands share: their flags, showing a job instead of doing it, and the frozen job in its folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NoReturn

from pipeline import config
from pipeline.errors import UserError
from pipeline.records import to_plain

FROZEN_FILE = "config.yaml"


def parse(arguments: list[str], command: str) -> argparse.Namespace:
    """Returns flags and overrides of a command; UserError for a flag that does not exist."""
    parser = _Parser(prog=f"toonforge {command}", add_help=False, allow_abbrev=False)
    parser.add_argument("--cfg", "-c", choices=["job", "hydra", "all"])
    parser.add_argument("--info", "-i", nargs="?", const="all",
                        choices=["all", "config", "defaults", "defaults-tree", "plugins", "searchpath"])
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("--multirun", "-m", action="store_true")
    parser.add_argument("overrides", nargs="*")
    return parser.parse_intermixed_args(arguments)


def shown(options: argparse.Namespace, kind: config.Kind[Any]) -> bool:
    """Shows the configuration where that was asked for, and says whether it was."""
    if options.resolve and not options.cfg:
        raise UserError("--resolve shows nothing by itself", fix="Write --cfg job --resolve")
    if options.cfg == "job":
        print(config.to_yaml(config.load(options.overrides, kind)), end="")
    elif options.cfg or options.info:
        config.load(options.overrides, kind)  # a mistake is told in our words
        shown = ["--cfg", options.cfg] if options.cfg else ["--info", options.info]
        config.show(shown + (["--resolve"] if options.resolve else []), options.overrides, kind)
    return bool(options.cfg or options.info)


def freeze(job: config.AnyJob) -> Path:
    """Writes the job into its output folder and returns the file; UserError where it cannot be written."""
    path = Path(job.out) / FROZEN_FILE
    try:
        config.freeze(job, path)
    except OSError as error:
        why = error.strerror or str(error)
        raise UserError(f"out={job.out} cannot be written", why, "Choose another folder with out=...") from error
    return path


def changes_since_last(job: config.AnyJob, kind: config.Kind[Any]) -> list[str]:
    """What differs from the job frozen in the same folder; nothing where there is none that can be read."""
    path = Path(job.out) / FROZEN_FILE
    try:
        return _changes(config.thaw(path, kind), job) if path.is_file() else []
    except UserError:
        return []


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message, fix="See python -m pipeline --help")


def _changes(old: object, new: object) -> list[str]:
    before, after = _flat(to_plain(old)), _flat(to_plain(new))
    return [f"{name} {before.get(name)} -> {value}" for name, value in after.items() if before.get(name) != value]


def _flat(record: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(record, dict):
        return {prefix: record}
    flat: dict[str, object] = {}
    for name, value in record.items():
        flat.update(_flat(value, f"{prefix}.{name}" if prefix else name))
    return flat
