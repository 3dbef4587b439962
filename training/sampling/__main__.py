"""`python -m training.sampling RUN/config.yaml`: one rank of the sampling whose frozen configuration that is.

`python -m pipeline sample` is how people start one. Several processes started by a launcher share the films of a list.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pipeline.errors import EXIT_STOPPED, EXIT_USER, UserError, disk_is_full


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        sys.stderr.write("toonforge: error: python -m training.sampling takes the config.yaml of one run.\n")
        return EXIT_USER
    try:
        from pipeline.config import SAMPLE, thaw
        from training.sampling.jobs import read_requests

        job = thaw(Path(arguments[0]), SAMPLE)
        requests = read_requests(job)           # mistakes are told before torch is imported
        from rich.console import Console

        from training.sampling.run import run

        return run(job, requests, Console())
    except UserError as error:
        sys.stderr.write(f"toonforge: error: {error}\n")
        return EXIT_USER
    except KeyboardInterrupt:
        return EXIT_STOPPED
    except OSError as error:
        if not disk_is_full(error):
            raise
        sys.stderr.write("toonforge: error: the disk is full: no file is half-written. "
                         "Free some space and give the same command; it continues.\n")
        return EXIT_USER


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
