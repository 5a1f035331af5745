"""From configured sets to one table of pictures of identities: read, split by identity, join.

Splits are a pure function of all names of a set: every process finds the same ones, and no picture of `val` is trained on by
another. Whoever compares runs keeps the set as it was: identities that are added or removed may move others.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from accel_det.data.defects import Defect, Findings
from accel_det.data.formats import (
    cuhk03,
    identity_crops,
    identity_folders,
    identity_hub,
    identity_hub_stream,
    identity_street,
    identity_table,
    market1501,
    mars,
    msmt17,
    veri,
)
from accel_det.data.formats.identity_raw import DISTRACTOR, RawPictures
from accel_det.data.identities import IdentityTable, build_identity_table
from accel_det.data.sources import POOL, STREET, SetSpec, parse_selection
from accel_det.types import Role

_READERS = {
    "market1501": market1501.read,
    "mars": mars.read,
    "msmt17": msmt17.read,
    "cuhk03": cuhk03.read,
    "veri": veri.read,
    "folders": identity_folders.read,
    "table": identity_table.read,
    "hub": identity_hub.read,
    "crops": identity_crops.read,
    STREET: identity_street.read,
}
_WITH_PARAMETERS = ("table", "hub", "crops", STREET)
_WITHOUT_FOLDER = ("hub", STREET)
IDENTITY_FORMATS = tuple(_READERS)


def open_identities(
    sets: Mapping[str, SetSpec], selection: str, *, training: bool, cameras: Sequence[str] = ()
) -> tuple[IdentityTable, list[Defect]]:
    """Opens and joins splits, such as "market:train + duke:train".

    Identities and cameras are named "set/identity" and "set/camera": those of different sets are different, those of two
    splits of one set are the same where their names are. Where a set has a hold-out, "val" is that share of the identities of
    "train", and "train" is without them.

    Args:
        sets: the configured sets by name.
        selection: set and split, joined by "+".
        training: leave out distractors, so that every picture has a label. Else pictures keep their roles, a distractor has
            the identity -1 and is looked through alone; and sets that cannot be streamed are read as if nothing were.
        cameras: of the training table, to number those of an evaluation alike for a network that knows them.

    Returns:
        The table, and everything that was found, repaired or not. Whether that stops the run is for
        `identity_check.check_identity_tables` to say.

    Raises:
        ValueError: the selection or a set is configured wrongly, or a split has nothing to train on or to search.
    """
    pairs = parse_selection(sets, selection)
    _require_one_way(sets, pairs, selection, training=training)
    parts: list[tuple[str, RawPictures]] = []
    defects: list[Defect] = []
    accept: set[str] = set()
    places: list[str] = []
    for set_name, split in pairs:
        spec = sets[set_name]
        findings = Findings(spec.name, accept=spec.accept)
        found = _pool_or_split(spec, split, findings=findings)
        leave_out = _without_distractors if training else _without_lost_queries
        places.append(spec.root or spec.format)
        parts.append((set_name, leave_out(found, where=f"{spec.root or spec.format}:{split}", findings=findings)))
        defects += findings.defects
        accept |= findings.accept
    table = build_identity_table(parts, cameras=cameras, accept=frozenset(accept))
    what = f"{selection!r} of {', '.join(dict.fromkeys(places))}"
    _require_use(table, what, training=training, defects=defects)
    return table, defects


def _require_one_way(
    sets: Mapping[str, SetSpec], pairs: Sequence[tuple[str, str]], selection: str, *, training: bool
) -> None:
    """All sets of a selection are streamed, or none; to train on, all are, where the configuration says so.

    Raises:
        ValueError: a set is in the way.
    """
    streaming = {name for name, _ in pairs if sets[name].streaming}
    others = [name for name, _ in pairs if name in streaming and sets[name].format != "hub"]
    if others and (training or len(others) < len(pairs)):
        raise ValueError(
            f"selection {selection!r}: data.streaming reads sets of format hub, but the format of {others[0]!r} is "
            f"{sets[others[0]].format}: set data.streaming to false, or write shards of it with accel-det prepare"
        )


def held_out_identities(names: Iterable[str], share: float) -> frozenset[str]:
    """The identities that "val" takes: those with the smallest hash of their name, round(share * number), at least one.

    An identity's place is a function of the names of all identities: not of how many pictures it has, in which order files are
    listed, or which process asks. As places are given by rank, so that the share is exact, an identity that is added to the
    set, or removed, may move others to the other side: results are comparable only as long as the set stays as it was, and a
    network that learned from the smaller set may have seen who is in "val" of the larger one.

    Raises:
        ValueError: nothing would be left for "train".
    """
    known = sorted(set(names), key=lambda name: (hashlib.sha256(name.encode()).digest(), name))
    number = max(1, round(share * len(known)))
    if number >= len(known):
        raise ValueError(f"{number} of {len(known)} identities are held out, which leaves none to train on: lower it")
    return frozenset(known[:number])


def _pool_or_split(spec: SetSpec, split: str, *, findings: Findings) -> RawPictures:
    """What the reader found, or the identities of it that the hold-out gives to this split."""
    if not 0 <= spec.holdout < 1:
        raise ValueError(f"set {spec.name!r}, holdout: {spec.holdout} is not a share in [0, 1)")
    if not spec.holdout or split not in (POOL, "val"):
        return _read(spec, split, findings=findings)
    found = _read(spec, POOL, findings=findings)
    shown = [identity for identity in found.identities if identity != DISTRACTOR]
    try:
        held_out = held_out_identities(shown, spec.holdout)
    except ValueError as error:
        raise ValueError(f"set {spec.name!r}, holdout {spec.holdout}: {error}") from error
    in_val = np.array([identity in held_out for identity in found.identities], np.bool_)
    return found.select(in_val if split == "val" else ~in_val)


def _read(spec: SetSpec, split: str, *, findings: Findings) -> RawPictures:
    if spec.format not in _READERS:
        raise ValueError(f"set {spec.name!r}, format: {spec.format!r} is none of {', '.join(IDENTITY_FORMATS)}")
    if spec.parameters and spec.format not in _WITH_PARAMETERS:
        raise ValueError(
            f"set {spec.name!r}, parameters: format {spec.format} reads none, but there are {', '.join(spec.parameters)}; "
            "remove them"
        )
    if spec.streaming and spec.format == "hub":
        return identity_hub_stream.read(spec, split, findings=findings)
    if spec.format not in _WITHOUT_FOLDER and not Path(spec.root).is_dir():
        raise ValueError(f"set {spec.name!r}, root: no folder {spec.root!r}; correct the path, or fetch the data")
    return _READERS[spec.format](spec, split, findings=findings)


def _without_distractors(found: RawPictures, *, where: str, findings: Findings) -> RawPictures:
    nobody = found.distractors()
    if nobody.any():
        first = found.names[int(nobody.argmax())]
        value = f"{int(nobody.sum())} pictures of distractors, first: {first}"
        findings.add("distractor_in_training", file=where, value=value)
    return found.select(~nobody)


def _without_lost_queries(found: RawPictures, *, where: str, findings: Findings) -> RawPictures:
    """Distractors are looked through alone; one that could only be asked for is left out."""
    nobody = found.distractors()
    lost = nobody & (found.roles == Role.QUERY)
    if lost.any():
        first = found.names[int(lost.argmax())]
        value = f"{int(lost.sum())} queries are distractors, first: {first}"
        findings.add("query_without_match", file=where, value=value)
    return found._replace(roles=np.where(nobody, int(Role.GALLERY), found.roles)).select(~lost)


def _require_use(table: IdentityTable, what: str, *, training: bool, defects: Sequence[Defect]) -> None:
    """Refuses a split that can be of no use; what was found tells why, where something was.

    Raises:
        ValueError: nobody is in it, nobody is asked for, or nothing is looked through.
    """
    roles = table.roles()
    missing = ""
    if not table.identities:
        missing = "identity"
    elif not training and not (roles & Role.QUERY).any():
        missing = "query"
    elif not training and not (roles & Role.GALLERY).any():
        missing = "gallery"
    if not missing:
        return
    why = f"; found was: {defects[0].line()}" if defects else ""
    advice = "" if training else "; a split 'test' has both, or join them: 'set:query + set:gallery'"
    raise ValueError(f"selection {what} has no {missing} among its {len(table)} pictures{advice}{why}")
