"""`python -m benchmarks [name=value ...]`: how fast every stage is, against one bare decode of the same films.

    make bench
    make bench ARGS="archive=../films repeats=5 peers=true"
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import EXIT_OK, EXIT_STOPPED, EXIT_USER, UserError, nearest

HELP = """\
python -m benchmarks [name=value ...]

  archive=PATH              films to measure with; without it the sample archive is drawn and used
  repeats=3                 rounds, of which medians are shown
  peers=true                also PySceneDetect on the same films
  report=out/bench.json     where the numbers go
  gates.text_area.max=0.05  any option of a curation
"""
OURS = ("repeats", "peers", "report")
FIXED = ("out", "store", "curation.executor", "curation.workers")      # decided by the benchmark


@dataclass(frozen=True, slots=True)
class Options:
    repeats: int = 3
    peers: bool = False
    report: Path = Path("out/bench.json")
    overrides: tuple[str, ...] = ()            # of the curation


def parse(arguments: list[str]) -> Options:
    """Splits our options from those of a curation, which `pipeline.config` checks; a word alone is the archive."""
    given, overrides = {}, []
    for text in arguments:
        name, equals, value = text.partition("=")
        if name in OURS:
            given[name] = value
        elif name in FIXED:
            raise UserError(f"{text} has no effect here", "a benchmark runs in one process with empty folders of its own",
                            f"Leave {name} out")
        elif equals or text.startswith(("-", "~")):
            overrides.append(text)
        else:
            overrides.append(f"archive={text}")
    repeats, peers = given.get("repeats", "3"), given.get("peers", "false")
    if not repeats.isdecimal() or int(repeats) < 1:
        raise UserError(f"repeats={repeats} is no number of rounds", fix="Write repeats=3")
    if peers not in ("true", "false"):
        raise UserError(f"peers={peers} is neither true nor false")
    return Options(int(repeats), peers == "true", Path(given.get("report") or "out/bench.json"), tuple(overrides))


def run(options: Options) -> None:
    """Measures, prints the table and writes the report; UserError for what the user can mend."""
    # As Ray does for its workers; effective before numpy is loaded. Threads that wait for each other would count as CPU time.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

    import cv2

    from benchmarks import stages
    from benchmarks.peers import run_peers
    from benchmarks.results import Repeat, collect, preface, table
    from curation.sample_archive import draw_archive
    from pipeline import config
    from pipeline.records import write_json

    try:
        job = config.load(list(options.overrides))
    except UserError as error:
        near = next((ours for text in options.overrides if (ours := nearest(text.partition("=")[0], OURS))), None)
        raise UserError(error.what, error.why, f"Did you mean {near}?") if near else error from error
    cv2.setNumThreads(1)
    sample = job.curation.sample_archive
    archive = job.archive or str(draw_archive(Path(sample.path), seed=sample.seed, size=sample.size))
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        desk = Path(name)
        films = stages.find_films(job, archive, desk / "films")
        if not films:
            raise UserError(f"archive={archive} holds no film that can be decoded", fix="Give another archive")
        reader, reader_start = stages.start_reader()
        _say("warming up")
        files = [film for film in films if film.source.access.offset is None and not film.source.access.pictures]
        shortest = min(files, key=lambda film: film.source.num_bytes).source.access.path if files else archive
        stages.decode_bare(films[:1])
        stages.curate_whole(job, shortest, desk / "warm", reader)
        repeats = []
        for number in range(1, options.repeats + 1):
            _say(f"repeat {number} of {options.repeats}")
            with tempfile.TemporaryDirectory(dir=desk) as fresh:
                bare, by_film = stages.decode_bare(films)
                alone, _ = stages.survey_alone(job, films, Path(fresh, "alone"))
                whole = stages.curate_whole(job, archive, Path(fresh, "whole"), reader)
                peers = run_peers(films) if options.peers else {}
            repeats.append(Repeat(bare, by_film, alone, whole, peers))
        results = collect(archive, films, repeats, reader_start)
    print(preface(results), table(results), sep="\n\n")
    try:
        write_json(options.report, results.record(), indent=1)
    except OSError as error:
        why = error.strerror or str(error)
        raise UserError(f"report={options.report} cannot be written", why, "Give another file") from error
    print(f"numbers: {options.report}")


def main(arguments: list[str]) -> int:
    if any(word in ("-h", "--help") for word in arguments):
        print(HELP, end="")
        return EXIT_OK
    try:
        run(parse(arguments))
    except UserError as error:
        print(f"toonforge: error: {error}", file=sys.stderr)
        return EXIT_USER
    except KeyboardInterrupt:
        return EXIT_STOPPED
    return EXIT_OK


def _say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
