"""`accelerate launch scripts/predict.py RUN`: see `--help`."""

import sys

from accel_det.cli.predict import main

if __name__ == "__main__":
    sys.exit(main())
