"""A training step with `channels_last` weights, and with `torch.compile`, against the same step of the plain network.

    python benchmarks/step_variants.py [--model yolov5n] [--size_px 192] [--images 16] [--rounds 9] [--steps 5]

The three take turns. The figures are ratios of the medians, plain over variant: above 1.00 the variant is faster. Compiling
happens before the clock starts. Results go to benchmarks/results/step_variants_<model>.json.
"""

import statistics
from functools import partial

import torch
from harness import interleave, step_line, write_result
from step_overhead import chosen, hand_written_step, make_side, resident_batch, step_parser

from accel_det.engine.transfer import to_device

PLAIN = "plain"


def main() -> None:
    options = step_parser(__doc__, steps=5).parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batch = to_device(resident_batch(options.model, options.images, options.size_px), device)
    sides = {name: make_side(options.model, device) for name in (PLAIN, "channels_last", "compiled")}
    sides["channels_last"][0].to(memory_format=torch.channels_last)
    for part in sides["compiled"][0].compilable():
        part.compile()
    steps_of = {name: partial(hand_written_step, *side, batch) for name, side in sides.items()}
    seconds = interleave(steps_of, rounds=options.rounds, steps=options.steps)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = {name: medians[PLAIN] / median for name, median in medians.items() if name != PLAIN}
    for name, values in seconds.items():
        print(step_line(name, values))
    told = " ".join(f"{name}={ratio:.3f}" for name, ratio in ratios.items())
    print(f"step_variants: {options.model} {told} (plain / variant; above 1 the variant is faster)")
    facts = {"ratios": ratios, "seconds": seconds}
    write_result(f"step_variants_{options.model}", f"step_variants.py {chosen(options)}", facts)


if __name__ == "__main__":
    main()
