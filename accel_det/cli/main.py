"""`accel-det COMMAND`: the commands of the project under one name."""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from accel_det.cli.failures import DONE, guarded

_COMMANDS = {
    "train": "train a network from a configuration file",
    "evaluate": "score a trained network on the data that it was configured for, or on other data",
    "eval-mot": "score tracks: HOTA, MOTA, IDF1 of text files in MOTChallenge's format",
    "rescore": "score saved detections again, without the network: other thresholds, suppression or truth",
    "predict": "find objects in images: pictures with boxes, and JSON in COCO's results format",
    "track": "follow objects through footage: Deep SORT with a detector and a network for re-identification",
    "tune-tracker": "search for settings of the tracker on what was found before",
    "check": "look for defects in the data of a configuration",
    "convert": "write the data of a configuration in another annotation format",
    "prepare": "write the data of a configuration as shards that can be streamed",
    "show-data": "show the data of a configuration: classes, sizes, images before and after augmentation",
    "anchors": "find anchors that suit the boxes of the training data",
    "embed": "embed pictures with a trained network for re-identification, into a file",
    "search": "look pictures up among others by a trained network for re-identification",
    "curves": "draw the loss and the scores of a training",
    "proposals": "write the regions that a two-stage network proposes, and their recall",
    "tune": "search for hyper-parameters, one training after another",
    "models": "list the networks of the zoo, or the options of one",
    "configs": "list the configuration files that come with the project",
    "street": "draw scenes of the synthetic street",
    "export": "write a trained network as plain transformers opens it",
    "push": "upload a trained network to the Hub",
}


def main() -> int:
    """Entry point of `accel-det`."""
    return guarded(_dispatch)


def _dispatch(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in {"-h", "--help"}:
        lines = ["usage: accel-det COMMAND ...", "", *(f"  {name:10}{what}" for name, what in _COMMANDS.items())]
        sys.stdout.write("\n".join([*lines, "", "`accel-det COMMAND --help` says more.", ""]))
        return DONE
    name, *rest = arguments
    if name not in _COMMANDS:
        raise ValueError(f"accel-det has no command `{name}`; there are {', '.join(_COMMANDS)}")
    run: Callable[[Sequence[str]], int] = import_module(f"accel_det.cli.{name.replace('-', '_')}").run
    return run(rest)
