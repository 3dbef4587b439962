"""`python -m curation RUN/config.yaml`: runs a frozen curation; `python -m pipeline curate` is how people start one."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from pipeline.errors import EXIT_OK, EXIT_STOPPED, EXIT_USER, UserError, disk_is_full


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        sys.stderr.write("toonforge: error: python -m curation takes the config.yaml of one run.\n")
        return EXIT_USER
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        from curation.cascade import curate
        from curation.progress import print_summary
        from pipeline.config import thaw

        job = thaw(Path(arguments[0]))
        print_summary(curate(job), Path(job.out))
    except UserError as error:
        sys.stderr.write(f"toonforge: error: {error}\n")
        return EXIT_USER
    except OSError as error:
        if not disk_is_full(error):
            raise
        sys.stderr.write("toonforge: error: the disk is full: nothing half-written remains. "
                         "Free some space and give the same command; it continues where it stopped.\n")
        return EXIT_USER
    except KeyboardInterrupt:
        sys.stderr.write("toonforge: stopped; the same command continues.\n")
        return EXIT_STOPPED
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
