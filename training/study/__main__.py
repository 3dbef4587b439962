"""`python -m training.study build systems=FOLDER out=FOLDER` and `python -m training.study analyse answers=FOLDER`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import TypeVar

from omegaconf import MISSING

from pipeline.errors import EXIT_OK, EXIT_STOPPED, EXIT_USER, UserError, nearest
from training.study.config import AnalyseOptions, BuildOptions

HELP = """\
toonforge study build systems=FOLDER out=FOLDER [name=value ...]

  systems=FOLDER                one folder for each system in it, with a film (CLIP.mp4, CLIP/0001.png ...) for each clip;
                                or those folders, with commas between
  out=FOLDER                    page/ is handed out, key.json is kept
  clips=9 checks=2              how many clips everybody sees, and how many attention checks
  fps=8 seed=0                  frames a second of all films; of names, chosen clips and orders

toonforge study analyse answers=FOLDER [name=value ...]

  answers=FOLDER                the files that participants handed in
  study=FOLDER out=FOLDER       the study's folder, unless it lies above; where the table goes, otherwise results/ there
  seed=0 resamples=10000        of the bootstrap
"""

Options = TypeVar("Options", BuildOptions, AnalyseOptions)


def main(arguments: list[str]) -> int:
    """Returns the exit code; what the user did wrong is one line on stderr and exit code 2."""
    try:
        return _dispatch(arguments)
    except UserError as error:
        print(f"toonforge: error: {error}", file=sys.stderr)
        return EXIT_USER
    except OSError as error:
        print(f"toonforge: error: {error.filename or 'a file'}: {error.strerror or error}.", file=sys.stderr)
        return EXIT_USER
    except KeyboardInterrupt:
        return EXIT_STOPPED


def read_options(schema: type[Options], arguments: list[str]) -> Options:
    """The options out of name=value; UserError names what is wrong."""
    types = {spec.name: int if spec.type in (int, "int") else str for spec in fields(schema)}
    given: dict[str, int | str] = {}
    for text in arguments:
        name, equals, value = text.partition("=")
        if not equals or name not in types:
            near = nearest(name, types)
            raise UserError(f"{name} is no option", "" if equals else "options are written name=value",
                            f"Did you mean {near}=...?" if near else f"There are: {', '.join(types)}")
        if types[name] is int and not value.removeprefix("-").isdecimal():
            raise UserError(f"{text} is no whole number", fix=f"Write for example {name}={getattr(schema(), name)}")
        given[name] = types[name](value)
    try:
        options = schema(**given)  # type: ignore[arg-type]  # mypy: the types are those of the fields
    except ValueError as error:
        raise UserError(str(error), fix="See python -m training.study --help") from error
    missing = [name for name in types if getattr(options, name) in (MISSING, "") and getattr(schema(), name) == MISSING]
    if missing:
        raise UserError(f"{missing[0]} has no value", fix=f"Give one: {missing[0]}=FOLDER")
    return options


def _build(arguments: list[str]) -> int:
    options = read_options(BuildOptions, arguments)
    from training.study.page import build

    built = build(options)
    for clip, systems in built.left_out.items():
        print(f"left out clip {clip}: absent in {', '.join(systems)}")
    clips = len(built.key.trials) - options.checks
    print(f"study {built.key.study}: {len(built.key.systems)} systems, {clips} clips, {options.checks} attention checks")
    print(f"hand out the folder {built.page.parent} (its index.html opens without a network); keep {options.out}/key.json")
    return EXIT_OK


def _analyse(arguments: list[str]) -> int:
    options = read_options(AnalyseOptions, arguments)
    from training.study.analysis import analyse, markdown

    print(markdown(analyse(options)), end="")
    return EXIT_OK


COMMANDS: Mapping[str, Callable[[list[str]], int]] = {"build": _build, "analyse": _analyse}


def _dispatch(arguments: list[str]) -> int:
    command, *rest = arguments or ["--help"]
    if any(word in ("-h", "--help", "help") for word in (command, *rest)):
        print(HELP, end="")
        return EXIT_OK if arguments else EXIT_USER
    if command not in COMMANDS:
        near = nearest(command, COMMANDS)
        raise UserError(f"study {command} is no command", fix=f"Did you mean {near}?" if near else "There are: build, analyse")
    return COMMANDS[command](rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
