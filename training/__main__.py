"""`python -m training RUN`: one rank of the training whose frozen configuration lies in RUN/config.yaml.

`python -m pipeline train` is how people start one; launchers start this once for each rank.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pipeline.errors import EXIT_OK, EXIT_STOPPED, EXIT_USER, UserError, disk_is_full


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        sys.stderr.write("toonforge: error: python -m training takes the folder of one run.\n")
        return EXIT_USER
    run_dir = Path(arguments[0])
    try:
        from pipeline.config import TRAIN, thaw
        from training.job import run

        code = run(thaw(run_dir / "config.yaml", TRAIN), run_dir).exit_code
        # A launcher takes any code but 0 of one rank as a failure and kills the others, which may still be leaving.
        # That the run is paused stands in its status.json.
        return EXIT_OK if code == EXIT_STOPPED and int(os.environ.get("WORLD_SIZE", "1")) > 1 else code
    except UserError as error:
        sys.stderr.write(f"toonforge: error: {error}\n")
        return EXIT_USER
    except OSError as error:
        if not disk_is_full(error):
            raise
        sys.stderr.write("toonforge: error: the disk is full: no checkpoint is half-written. "
                         "Free some space and give the same command; it continues from the last one.\n")
        return EXIT_USER


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
