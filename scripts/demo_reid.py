"""`make demo-reid`: learn to recognise people of the synthetic street, search among people never seen, say where to look."""

import json
import shutil
import sys
import time
from pathlib import Path

from demo_steps import LAUNCH, call, say

RUN = Path("runs/street-people")


def main() -> int:
    started = time.perf_counter()
    shutil.rmtree(RUN, ignore_errors=True)
    call([*LAUNCH, "scripts/train.py", "configs/demo/street_people.yaml"])
    pictures = ["--pictures", str(RUN / "retrieval")]
    scores = json.loads(call([*LAUNCH, "scripts/evaluate.py", str(RUN), "--json", *pictures], capture=True))["scores"]
    say(
        f"\nlook at    {RUN}/retrieval/ranked.jpg     people never seen, and whom it takes for the same; green is right"
    )
    say(f"           {RUN}/retrieval/distances.png  how far apart pictures of one person, and of two, lie")
    say(f"           {RUN}/train.png                the curves of the training")
    say(f"           {RUN}/export/best/             weights as safetensors, with their model card")
    seconds = time.perf_counter() - started
    say(f"demo-reid: rank1={scores['rank1']:.3f} mAP={scores['mAP']:.3f} seconds={seconds:.0f} run={RUN}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
