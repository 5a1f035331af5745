"""Configurations and stored weights of transformers; only safetensors are read, and no code."""

import json
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig


def read_configuration(text: str) -> Any:
    """The configuration of an export.

    Raises:
        ValueError: it is none of transformers.
    """
    try:
        values = json.loads(text)
        return AutoConfig.for_model(values.pop("model_type"), **values)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(
            f"configuration: not one of transformers ({first_line(error)}); export the run again"
        ) from None


def configuration_text(config: Any) -> str:
    """A configuration as `read_configuration` reads it, without the place that it, or a part of it, came from."""
    return json.dumps(_without_places(json.loads(config.to_json_string(use_diff=False))))


def _without_places(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: _without_places(inner) for key, inner in value.items() if key != "_name_or_path"}


def stored_configuration(place: str, *, revision: str | None, key: str) -> Any:
    """The configuration beside stored weights.

    Args:
        place: a folder, or `owner/name` on the Hub.
        key: the option that names it.

    Raises:
        ValueError: there is none.
    """
    where = {} if revision is None else {"revision": revision}
    try:
        return AutoConfig.from_pretrained(place, trust_remote_code=False, **where)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{key}: {place}: no network in the Hub's format there ({first_line(error)}); give a folder with config.json "
            "and model.safetensors, or owner/name of a repository"
        ) from None


def stored_network(
    kind: Any, config: Any, place: str, *, revision: str | None, key: str, resize_heads: bool = False
) -> tuple[Any, str]:
    """The network with its weights, and what of them was not used.

    Args:
        kind: the class of transformers, or its AutoModel.
        place, key: as of `stored_configuration`.
        resize_heads: draw anew what is of another size than the configuration says.

    Raises:
        ValueError: the weights cannot be read.
    """
    where = {} if revision is None else {"revision": revision}
    try:
        network, found = kind.from_pretrained(
            place,
            config=config,
            trust_remote_code=False,
            use_safetensors=True,
            ignore_mismatched_sizes=resize_heads,
            output_loading_info=True,
            dtype=torch.float32,
            **where,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"{key}: {place}: its weights cannot be read ({first_line(error)}); expected model.safetensors"
        ) from None
    if any(name.startswith("pooler.") for name in found["missing_keys"]):
        network.pooler = None  # drawn at random, it would only blur what the weights know
        config.without_pooler = True
        found["missing_keys"] = [name for name in found["missing_keys"] if not name.startswith("pooler.")]
    return network, _report(place, found)


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _report(place: str, found: Mapping[str, Any]) -> str:
    parts = []
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        names = sorted(str(name[0] if isinstance(name, tuple) else name) for name in found.get(key, ()))
        if names:
            shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            parts.append(f"{len(names)} {key.removesuffix('_keys')} ({shown})")
    return f"pretrained {place}: {', '.join(parts) or 'every tensor used'}"
