"""`python -m curation.calibration OUT/config.yaml --truth LABELS`; `python -m pipeline calibrate` is how people start one."""

import sys

from curation.calibration.calibrate import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
