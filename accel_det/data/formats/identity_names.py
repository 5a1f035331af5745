"""File names that say whom a picture shows and where it was taken: Market-1501, DukeMTMC-reID, VeRi-776, MARS, CUHK03.

Each pattern is that of the data set's own readme; none of the sets is needed to read its names.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from accel_det.data.defects import Findings
from accel_det.data.formats.identity_raw import DISTRACTOR, NO_CAMERA, Listed, PictureColumns, RawPictures
from accel_det.types import Role


class PictureName(NamedTuple):
    """What a file name says.

    Attributes:
        identity: of whom, or DISTRACTOR.
        camera: a name such as "c2".
        junk: a picture of nobody: a detector's mistake that the authors neither reward nor punish.
    """

    identity: str
    camera: str
    junk: bool


class NameForm(NamedTuple):
    """How the files of a data set are named.

    Attributes:
        patterns: each has the groups identity and camera, and takes a whole name without its suffix.
        expected: an example for people.
        distractors, junk: identities that are nobody's.
    """

    patterns: tuple[re.Pattern[str], ...]
    expected: str
    distractors: re.Pattern[str] | None = None
    junk: re.Pattern[str] | None = None

    def parse(self, file_name: str) -> PictureName | None:
        """What a file name, without folders, says; None where it has another form."""
        stem = file_name.rpartition(".")[0]
        for pattern in self.patterns:
            match = pattern.fullmatch(stem)
            if match is not None:
                identity = match["identity"]
                junk = self.junk is not None and self.junk.fullmatch(identity) is not None
                nobody = junk or (self.distractors is not None and self.distractors.fullmatch(identity) is not None)
                return PictureName(DISTRACTOR if nobody else identity, f"c{int(match['camera'])}", junk)
        return None


_MARKET = re.compile(r"(?P<identity>-1|[0-9]+)_c(?P<camera>[0-9]+)s[0-9]+_[0-9]+_[0-9]+", re.ASCII)
_DUKE = re.compile(r"(?P<identity>-1|[0-9]+)_c(?P<camera>[0-9]+)_f[0-9]+", re.ASCII)
_VERI = re.compile(r"(?P<identity>[0-9]+)_c(?P<camera>[0-9]+)_[0-9]+_[0-9]+", re.ASCII)
_MARS = re.compile(r"(?P<identity>[0-9]{4}|00-1)C(?P<camera>[0-9])T[0-9]+F[0-9]+", re.ASCII)
_CUHK03 = re.compile(r"(?P<identity>[0-9]+_[0-9]+)_(?P<camera>[0-9]+)_[0-9]+", re.ASCII)

MARKET1501 = NameForm(
    (_MARKET, _DUKE),
    "identity_c<camera>s<sequence>_<frame>_<box>, as 0002_c1s1_000451_03.jpg, or 0001_c2_f0046182.jpg",
    distractors=re.compile(r"0+"),
    junk=re.compile(r"-1"),
)
VERI = NameForm((_VERI,), "identity_c<camera>_<frame>_<box>, as 0001_c001_00016450_0.jpg")
MARS = NameForm(
    (_MARS,),
    "<identity>C<camera>T<tracklet>F<frame>, as 0001C1T0001F001.jpg",
    distractors=re.compile(r"0000"),
    junk=re.compile(r"00-1"),
)
CUHK03 = NameForm((_CUHK03,), "<pair>_<person>_<view>_<shot>, as 1_001_1_01.png")

_CAMERA_IN_NAME = re.compile(r"(?<![A-Za-z0-9])[cC]([0-9]+)", re.ASCII)


def camera_in_name(file_name: str) -> str:
    """The camera of a name with a free form: "c3" where a part of it begins with c and a number, or NO_CAMERA."""
    match = _CAMERA_IN_NAME.search(file_name)
    return NO_CAMERA if match is None else f"c{int(match[1])}"


def read_named(files: Sequence[Listed], form: NameForm, *, role: Role, where: str, findings: Findings) -> RawPictures:
    """The pictures of files whose names say everything; others are noted. Junk is left out, and counted.

    Args:
        where: the folder, for messages.
    """
    columns = PictureColumns()
    junk: list[str] = []
    for file in files:
        base = file.below.rsplit("/", 1)[-1]
        said = form.parse(base)
        if said is None:
            findings.add("name_mismatch", file=file.path, value=f"{base!r} where {form.expected} belongs")
        elif said.junk:
            junk.append(file.name)
        else:
            columns.add(file.name, file.path, identity=said.identity, camera=said.camera, role=role)
    if junk:  # one finding for all of it: the authors of Market-1501 left thousands of them on purpose
        findings.add("junk_picture", file=where, value=f"{len(junk)} pictures of nobody, first: {junk[0]}")
    return columns.pictures()
