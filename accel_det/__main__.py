"""`python -m accel_det COMMAND`, and what `accelerate launch -m accel_det train CONFIG` runs on every process."""

from accel_det.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
