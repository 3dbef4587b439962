"""The command line: composes a job once, freezes it into <out>/config.yaml and starts the process that reads only that.

    python -m pipeline curate archive=films out=out/films gates=strict
    python -m pipeline curate --cfg job              shows the job and does nothing
    python -m pipeline curate -m gates=strict,permissive
    python -m pipeline calibrate archive=films truth=labels out=out/films
    python -m pipeline train experiment=paper_rectify shards=out/films launch.ranks_per_node=8
    python -m pipeline weights profile=training
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from curation.config import CurateJob
from pipeline import config, sweep
from pipeline.arguments import FROZEN_FILE, changes_since_last, freeze, parse, shown
from pipeline.errors import EXIT_OK, EXIT_STOPPED, EXIT_USER, UserError, nearest
from pipeline.fetch import main_weights
from pipeline.launch.evaluate import evaluate
from pipeline.launch.export import export
from pipeline.launch.sample import sample
from pipeline.launch.study import study
from pipeline.launch.train import train
from pipeline.launch.triplets import triplets

CURATION_COMMAND = [sys.executable, "-m", "curation"]
CALIBRATION_COMMAND = [sys.executable, "-m", "curation.calibration"]

HELP = """\
toonforge COMMAND [name=value ...]

  curate    raw cartoon archives to WebDataset shards, a ledger and a report
  calibrate what curate decides, held against your labels: docs/calibrate.md
  triplets  a finished curation to triplets in the layout of ATD-12K: docs/triplets.md
  train     shards to weights: toon rectification, dual-reference decoder, sketch encoder
  sample    the frames between two drawings, with or without sketches: docs/sample.md
  evaluate  systems against held-out clips or triplets: the papers' tables, docs/evaluate.md
  export    one file in the upstream layout out of a base model and what was trained: docs/weights.md
  study     a web page on which people compare systems, and its analysis: docs/study.md
  weights   fetches the public weights that a profile needs: docs/weights.md

toonforge curate [name=value ...]

  archive=PATH out=FOLDER       what to read, and where shards, ledger and report go; without archive, one is drawn
  gates=strict                  a choice of a group: curation, gates, profile, ray, tracker
  gates.text_area.max=0.05      one option
  experiment=quick              a preset
  --cfg job                     show the whole configuration and do nothing
  --info defaults-tree          show which files it comes from
  -m gates=strict,permissive    one curation for each value

toonforge calibrate [name=value ...]

  truth=PATH                    folder of labels; without archive and truth, the sample archive and its own are used
  stock=true                    the usual tools on the same films beside it, at the price of three more decodes

toonforge train [name=value ...]

  experiment=paper_rectify      a preset: paper_*, table3_*, table4_*, sketch_zerogate, tiny_*, bench_rectify
  shards=FOLDER out=FOLDER      a finished curation, and where the run goes; the same command continues it
  task=decoder engine=zero2     a choice of a group: task, model, data, engine, launch, run, tracker
  launch.dry_run=true           show the command or job file that starts the ranks, and start nothing
"""


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code; what the user did wrong is one line on stderr and exit code 2."""
    try:
        return _dispatch(sys.argv[1:] if arguments is None else arguments)
    except UserError as error:
        print(f"toonforge: error: {error}", file=sys.stderr)
        return EXIT_USER
    except KeyboardInterrupt:  # before the curation was started
        return EXIT_STOPPED


def curate(arguments: list[str]) -> int:
    """Starts one curation, or several, or shows what would be started."""
    options = parse(arguments, "curate")
    if shown(options, config.CURATE):
        return EXIT_OK
    if options.multirun:
        jobs = sweep.jobs(options.overrides)
        frozen = [prepare(job) for job in jobs]
        return sweep.run([[*CURATION_COMMAND, str(path)] for path in frozen])
    else:
        path = prepare(config.load(options.overrides))
        sys.stdout.flush()
        # The process is replaced, not waited for: signals and the exit code need no passing on, and no orphan can stay.
        os.execv(CURATION_COMMAND[0], [*CURATION_COMMAND, str(path)])  # noqa: S606
    return EXIT_OK


def calibrate(arguments: list[str]) -> int:
    """Starts one calibration, or shows its job; `truth` and `stock` are no part of the job."""
    own = dict(text.split("=", 1) for text in arguments if text.startswith(("truth=", "stock=")))
    options = parse([text for text in arguments if not text.startswith(("truth=", "stock="))], "calibrate")
    if options.multirun:
        raise UserError("calibrate takes no -m", "it compares one configuration with the labels", "Give one value each")
    if options.cfg or options.info or options.resolve:
        raise UserError("calibrate shows no configuration", fix="Its job is that of curate: curate --cfg job")
    if own.get("stock", "false") not in ("true", "false"):
        raise UserError(f"stock={own['stock']} is no choice", fix="Write stock=true or leave it out")
    job = config.load(options.overrides)
    command = [*CALIBRATION_COMMAND, str(Path(job.out) / FROZEN_FILE)]
    if "truth" in own or job.archive is not None:
        command += ["--truth", _checked_truth(own.get("truth", ""))]
    if own.get("stock") == "true":
        command.append("--stock")
    prepare(job)
    sys.stdout.flush()
    os.execv(command[0], command)  # noqa: S606 - as in curate


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "curate": curate, "calibrate": calibrate, "train": train, "sample": sample,
    "evaluate": evaluate, "export": export, "triplets": triplets, "study": study, "weights": main_weights}


def prepare(job: CurateJob) -> Path:
    """Freezes the job into its output folder and returns the file; UserError if it cannot work."""
    _check_archive(job.archive, Path(job.out))
    changes = changes_since_last(job, config.CURATE)
    if changes:
        print(f"changed since the last run in {job.out}: {', '.join(changes)}")
    return freeze(job)


def _dispatch(arguments: list[str]) -> int:
    command, *rest = arguments or ["--help"]
    if command in ("-h", "--help", "help") or any(word in ("-h", "--help") for word in rest):
        print(HELP, end="")
        return EXIT_OK if arguments else EXIT_USER
    if command not in COMMANDS:
        near = nearest(command, COMMANDS)
        fix = f"Did you mean {near}?" if near else f"There are: {', '.join(COMMANDS)}"
        raise UserError(f"{command} is no command", fix=fix)
    return COMMANDS[command](rest)


def _check_archive(archive: str | None, out: Path) -> None:
    """Refuses an archive that is not there, and an output folder whose clips would be read as films next time."""
    if archive is None or "://" in archive:
        return
    path = Path(archive)
    if not path.exists():
        near = nearest(path.name, [found.name for found in path.parent.iterdir()]) if path.parent.is_dir() else None
        fix = f"Did you mean {path.parent / near}?" if near else "Give a folder, a film, an archive or an address"
        raise UserError(f"archive={archive} does not exist", fix=fix)
    if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
        why = "its clips would be taken for films the next time"
        raise UserError(f"out={out} lies inside archive={archive}", why, "Choose another folder with out=...")


def _checked_truth(truth: str) -> str:
    """Refuses labels that are not there before anything is decoded."""
    if not truth:
        raise UserError("truth is missing", "calibrate compares with labels", "Give truth=FOLDER; see docs/calibrate.md")
    path = Path(truth)
    if not path.exists():
        near = nearest(path.name, [found.name for found in path.parent.iterdir()]) if path.parent.is_dir() else None
        fix = f"Did you mean {path.parent / near}?" if near else "Give a folder of labels; see docs/calibrate.md"
        raise UserError(f"truth={truth} does not exist", fix=fix)
    return truth
