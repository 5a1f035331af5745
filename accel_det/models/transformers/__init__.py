"""The DETR family as transformers builds it, with losses that are exact over processes."""
