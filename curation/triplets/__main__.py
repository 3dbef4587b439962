"""`python -m curation.triplets OUT/config.yaml`: runs a frozen job; `python -m pipeline triplets` is how people start one."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from pipeline.errors import EXIT_OK, EXIT_STOPPED, EXIT_USER, UserError, disk_is_full


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        sys.stderr.write("toonforge: error: python -m curation.triplets takes the config.yaml of one job.\n")
        return EXIT_USER
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        from curation.triplets.funnel import print_funnel
        from curation.triplets.run import build_triplets
        from pipeline.config import TRIPLETS, thaw

        job = thaw(Path(arguments[0]), TRIPLETS)
        print_funnel(build_triplets(job), Path(job.out))
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
