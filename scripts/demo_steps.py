"""What the demos share: each command is printed before it runs, so that a reader can repeat any of them."""

import shlex
import subprocess
import sys
from pathlib import Path

BIN = Path(sys.executable).parent
LAUNCH = [str(BIN / "accelerate"), "launch", "--config_file", "accelerate_configs/cpu.yaml"]
ACCEL_DET = str(BIN / "accel-det")


def call(command: list[str], *, capture: bool = False) -> str:
    """Run a command; its output where it is asked for. A command that fails ends the demo."""
    shown = [Path(command[0]).name, *command[1:]]
    say(f"\n$ {shlex.join(shown)}")
    done = subprocess.run(command, check=False, text=True, stdout=subprocess.PIPE if capture else None)
    if done.returncode:
        sys.exit(f"demo: the command above ended with code {done.returncode}")
    return done.stdout or ""


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
