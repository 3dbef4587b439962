"""`python -m training.evaluation OUT/config.yaml`: one rank of the evaluation whose frozen configuration that is.

`python -m pipeline evaluate` is how people start one. Several processes started by a launcher share the clips.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pipeline.errors import EXIT_STOPPED, EXIT_USER, UserError, disk_is_full


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        sys.stderr.write("toonforge: error: python -m training.evaluation takes the config.yaml of one run.\n")
        return EXIT_USER
    try:
        from pipeline.config import EVALUATE, thaw

        job = thaw(Path(arguments[0]), EVALUATE)
        from rich.console import Console

        from training.evaluation.run import run

        return run(job, Console())
    except UserError as error:
        sys.stderr.write(f"toonforge: error: {error}\n")
        return EXIT_USER
    except KeyboardInterrupt:
        return EXIT_STOPPED
    except OSError as error:
        if not disk_is_full(error):
            raise
        sys.stderr.write("toonforge: error: the disk is full: no file is half-written. "
                         "Free some space, or set keep_frames=false, and give the same command; it continues.\n")
        return EXIT_USER


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
