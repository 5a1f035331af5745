"""A network as plain transformers loads it: config.json, model.safetensors and preprocessor_config.json."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import transformers

from accel_det.models.transformers.kinds import Kind


def save_native(network: Any, kind: Kind, folder: Path, *, classes: Sequence[str], size_px: int) -> None:
    """Write what `from_pretrained` of the type's own classes reads, with the same outputs.

    Args:
        network: the network of transformers.
        classes: names in the order of the labels.
        size_px: side of the square that the processor resizes to; shorter side for types that see padding.

    Raises:
        ValueError: the number of names is not that of the network's classes.
    """
    config = network.config
    if len(classes) != config.num_labels:
        raise ValueError(f"classes: {len(classes)} names for a network of {config.num_labels} classes: give one each")
    config.id2label = dict(enumerate(classes))
    config.label2id = {name: label for label, name in enumerate(classes)}
    # transformers' own frozen norms of a backbone do not count batches.
    state = {
        name: tensor
        for name, tensor in network.state_dict().items()
        if not (name.startswith(kind.backbone) and name.endswith("num_batches_tracked"))
    }
    network.save_pretrained(folder, state_dict=state)
    processor: Any = getattr(transformers, kind.processor)
    size = {"shortest_edge": size_px, "longest_edge": 1333} if kind.masked else {"height": size_px, "width": size_px}
    processor(size=size, do_pad=kind.masked, do_normalize=kind.normalized).save_pretrained(folder)
