"""`accelerate launch scripts/evaluate.py RUN`: see `--help`."""

import sys

from accel_det.cli.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
