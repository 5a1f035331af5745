"""Image models in the Hub's format, from a folder or from the Hub: safetensors only, no remote code."""

from pathlib import Path
from typing import TypeVar

from transformers import PreTrainedModel

ModelT = TypeVar("ModelT", bound=PreTrainedModel)


def open_pretrained(kind: type[ModelT], place: str, *, revision: str) -> ModelT:
    """A network with its weights.

    Args:
        place: a folder, or owner/name on the Hub.
        revision: of the Hub's repository.

    Raises:
        ValueError: there is none, it is damaged, or it is of another kind.
    """
    if not Path(place).is_dir() and place.count("/") != 1:
        raise ValueError(f"pretrained: {place}: no such folder, and no owner/name of the Hub")
    try:
        found: ModelT = kind.from_pretrained(
            place, revision=revision, use_safetensors=True, trust_remote_code=False, attn_implementation="sdpa"
        )
    except (OSError, ValueError, RuntimeError) as error:
        first = str(error).strip().partition("\n")[0]
        raise ValueError(f"pretrained: {place}: cannot be opened as {kind.__name__}: {first}") from None
    return found
