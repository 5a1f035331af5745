"""`make demo`: train on the synthetic street, evaluate, predict on new scenes, and say where to look.

Prints each command before it runs it, so that a reader can repeat any of them.
"""

import json
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

RUN = Path("runs/street")
BIN = Path(sys.executable).parent


def main() -> int:
    started = time.perf_counter()
    shutil.rmtree(RUN, ignore_errors=True)
    launch = [str(BIN / "accelerate"), "launch", "--config_file", "accelerate_configs/cpu.yaml"]
    call([*launch, "scripts/train.py", "configs/demo/street.yaml"])
    scores = json.loads(call([*launch, "scripts/evaluate.py", str(RUN), "--json"], capture=True))["scores"]
    call([str(BIN / "accel-det"), "street", str(RUN / "scenes"), "--images", "12", "--seed", "2026"])
    call([str(BIN / "accel-det"), "predict", str(RUN), str(RUN / "scenes"), "--out", str(RUN / "predictions")])
    say(f"\nlook at    {RUN}/predictions/sheet.jpg    what it finds in scenes that it has never seen")
    say(f"           {RUN}/export/best/             weights as safetensors, with their model card")
    say(f"           {RUN}/metrics.jsonl            every number of the run; `tensorboard --logdir runs` draws them")
    say(f"demo: AP50={scores['AP50']:.3f} seconds={time.perf_counter() - started:.0f} run={RUN}")
    return 0


def call(command: list[str], *, capture: bool = False) -> str:
    shown = [Path(command[0]).name, *command[1:]]
    say(f"\n$ {shlex.join(shown)}")
    done = subprocess.run(command, check=False, text=True, stdout=subprocess.PIPE if capture else None)
    if done.returncode:
        sys.exit(f"demo: the command above ended with code {done.returncode}")
    return done.stdout or ""


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
