"""`accelerate launch scripts/track.py --detector RUN --reid RUN --source X`: see `--help`."""

import sys

from accel_det.cli.track import main

if __name__ == "__main__":
    sys.exit(main())
