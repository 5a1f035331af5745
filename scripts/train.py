"""`accelerate launch scripts/train.py CONFIG`: train a network."""

import sys

from accel_det.cli.train import main

if __name__ == "__main__":
    sys.exit(main())
