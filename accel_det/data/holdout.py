"""Which images of a split are held out for validation: a function of their names and, if wanted, of the classes they show.

Images of one group stay on one side. Letters: I images.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from accel_det.data.formats.raw import Bools, RawSplit
from accel_det.data.locate import source_name


def held_out(raw: RawSplit, *, share: float, group: str | None = None, stratified: bool = False) -> Bools:
    """(I,) the images that "val" takes.

    Without `stratified` a group is held out where the hash of its text is below the share: whatever else is in the set, it
    keeps its side. With it the groups are chosen so that every class, and the whole, has the share; an image that is added may
    then move others.

    Args:
        share: in (0, 1).
        group: regular expression that is looked for in the names; what its first group finds is the text of the group. None:
            an image is in a group with the augmented copies of its picture, told by the file name.
        stratified: keep the share of the images of every class, rarest first, to within half of its largest group: where no
            image is grouped with others, to within rounding.

    Raises:
        ValueError: the expression is none, does not find a group in a name, or finds so few that a side is left without.
    """
    keys = group_keys(raw.names, group)
    whole = Counter(keys)
    chosen = (
        _stratified([*_images_by_class(raw, keys).values(), whole], share=share)
        if stratified
        else {key for key in whole if place_of(key) < share}
    )
    if group is not None and whole and len(chosen) in (0, len(whole)):
        side = "train" if chosen else "val"
        raise ValueError(
            f"{share:g} of {len(whole)} group(s) leaves none for {side}; choose another share, or a holdout_group that finds more"
        )
    return np.array([key in chosen for key in keys], np.bool_)


def group_keys(names: Sequence[str], pattern: str | None) -> list[str]:
    """(I,) the text of the group of each image.

    Raises:
        ValueError: as of `held_out`.
    """
    if pattern is None:
        return [source_name(name) for name in names]
    expression = grouping(pattern)
    matches = [expression.search(name) for name in names]
    missed = [name for name, found in zip(names, matches, strict=True) if found is None or found[1] is None]
    if missed:
        raise ValueError(
            f"holdout_group {pattern!r} finds no group in {len(missed)} of {len(names)} names, the first {missed[0]!r}; "
            "correct it"
        )
    return [found[1] for found in matches if found is not None]


def grouping(pattern: str) -> re.Pattern[str]:
    """The expression that finds the group of an image.

    Raises:
        ValueError: it is no regular expression, or has no group.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"holdout_group {pattern!r} is no regular expression: {error}; correct it") from error
    if not expression.groups:
        raise ValueError(f"holdout_group {pattern!r} has no group; put what frames of one video share in parentheses")
    return expression


def place_of(key: str) -> float:
    """A number in [0, 1) from the text of a group alone."""
    digest = hashlib.sha256(key.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _images_by_class(raw: RawSplit, keys: Sequence[str]) -> dict[str, Counter[str]]:
    """Images of each group that show a class, by its name; the rarest class first. Ignored regions show none."""
    objects = raw.objects
    counted = (objects.labels >= 0) & (objects.labels < len(raw.classes)) & ~objects.crowd
    pairs = np.unique(np.stack((objects.labels[counted], objects.owner[counted]), axis=1), axis=0)
    found: dict[str, Counter[str]] = {}
    for label, owner in pairs.tolist():
        found.setdefault(raw.classes[label], Counter())[keys[owner]] += 1
    return dict(sorted(found.items(), key=lambda entry: (entry[1].total(), entry[0])))


def _stratified(strata: Sequence[Mapping[str, int]], *, share: float) -> set[str]:
    """Groups that together have the share of each stratum, as far as earlier ones left a choice.

    Args:
        strata: images of every group; a group may be in several.

    Source: Sechidis, Tsoumakas, Vlahavas, On the Stratification of Multi-Label Data, 2011, algorithm 1, for two parts; but the
    order of the classes is that of all their images, not of those that are left, and hashes draw.
    """
    chosen: set[str] = set()
    decided: set[str] = set()
    for images in strata:
        missing = share * sum(images.values()) - sum(count for key, count in images.items() if key in chosen)
        for key in sorted(images.keys() - decided, key=lambda key: (place_of(key), key)):
            if images[key] < 2 * missing:  # with it the number is nearer
                chosen.add(key)
                missing -= images[key]
        decided |= images.keys()
    return chosen
