"""What can be wrong with a data set, and what is done about it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import NamedTuple

from accel_det.data.lines import one_line

STOP = "stop"

_MOST_SHOWN = 1000

UNDECODABLE = "undecodable_file"
BAD_IMAGES = ("missing_file", "unreadable_file", UNDECODABLE)
"""Kinds of images that are left out where bad ones are skipped."""


class DefectKind(NamedTuple):
    """How one kind of defect is treated.

    Attributes:
        rule: what should have held.
        default: name of the repair that is made unasked, or "stop".
        opt_in: name of the repair that is made where the user accepts this kind, or None where there is none.
        remedy: what a person can do about it.
    """

    rule: str
    default: str
    opt_in: str | None
    remedy: str


_ACCEPT = "or accept this kind to "

DEFECT_KINDS: dict[str, DefectKind] = {
    "missing_file": DefectKind(
        "every listed image is a file", STOP, "drop_image", f"restore the file, {_ACCEPT}leave the image out"
    ),
    "unreadable_file": DefectKind(
        "every image file has a readable header", STOP, "drop_image", f"restore the file, {_ACCEPT}leave the image out"
    ),
    UNDECODABLE: DefectKind(
        "every image file decodes",
        STOP,
        "leave_out",
        "restore the file, take it out of the annotations, or set data.on_bad_image to skip",
    ),
    "outside_root": DefectKind(
        "every image lies inside the image folder",
        STOP,
        "follow",
        f"move the file into the folder, {_ACCEPT}follow links and paths that leave it",
    ),
    "case_mismatch": DefectKind(
        "a file name has the same case in the annotation and on disk", "match", None, "rename the file"
    ),
    "size_mismatch": DefectKind(
        "the annotated size is that of the upright file",
        STOP,
        "drop_image",
        "the boxes are of a frame that cannot be told from the file (turned by 90 degrees to either side, or scaled): "
        f"annotate anew, {_ACCEPT}leave the image out",
    ),
    "exif_orientation": DefectKind(
        "an image without EXIF orientation leaves no doubt about the frame of its boxes",
        "keep",
        None,
        "boxes are read in the frame of the upright image: look at some, or save the pixels upright",
    ),
    "path_beside": DefectKind(
        "the description of a set names folders inside it", "search", None, "correct the path in the description"
    ),
    "malformed_file": DefectKind("an annotation file can be read as its format", STOP, None, "correct the file"),
    "malformed_record": DefectKind(
        "every record has its fields, of the right kind", STOP, "drop_record", f"correct it, {_ACCEPT}leave it out"
    ),
    "decimal_comma": DefectKind("numbers have a decimal point", "read", None, "write a point for the comma"),
    "nan_box": DefectKind("box numbers are finite", STOP, "drop_box", f"correct the box, {_ACCEPT}leave it out"),
    "negative_side": DefectKind(
        "width and height are not negative (corners in order)",
        STOP,
        "drop_box",
        f"correct the box, {_ACCEPT}leave it out",
    ),
    "zero_side": DefectKind("a box has an area", "drop_box", None, "correct or remove the box"),
    "outside_image": DefectKind(
        "a box overlaps its image", STOP, "drop_box", f"correct the box (is its unit right?), {_ACCEPT}leave it out"
    ),
    "box_unit": DefectKind(
        "the boxes of a set are in the unit and the order of numbers of its format",
        STOP,
        "keep",
        f"convert them, or choose the format that they are in, {_ACCEPT}take them as they stand",
    ),
    "partly_outside": DefectKind("a box lies inside its image", "clip", None, "correct the box"),
    "bad_area": DefectKind("an annotated area is positive", "recompute", None, "correct the area"),
    "duplicate_box": DefectKind(
        "an object is annotated once", "drop_box", None, "remove the copies: same image, class and corners"
    ),
    "label_out_of_range": DefectKind(
        "every label is one of the listed classes", STOP, "drop_box", f"correct label or list, {_ACCEPT}leave it out"
    ),
    "unknown_class": DefectKind(
        "every object's class is one that is trained on",
        STOP,
        "drop_box",
        f"add the class to the configured ones, {_ACCEPT}leave its objects out",
    ),
    "other_shape": DefectKind(
        "an object is a box, or has one that follows from its shape",
        STOP,
        "drop_box",
        f"annotate a box, {_ACCEPT}leave the object out",
    ),
    "unused_class": DefectKind(
        "every listed class has objects", "keep", "drop_class", f"add objects, {_ACCEPT}leave the class out"
    ),
    "duplicate_class": DefectKind("class names are unique in a set", "merge", None, "rename one of them"),
    "duplicate_image_id": DefectKind(
        "image ids are unique", STOP, "keep_first", f"renumber, {_ACCEPT}keep the first of them"
    ),
    "duplicate_file": DefectKind(
        "an image is listed once", STOP, "keep_first", f"remove the copies, {_ACCEPT}keep the first of them"
    ),
    "duplicate_annotation_id": DefectKind(
        "annotation ids are unique", "keep", None, "renumber; nothing here reads them"
    ),
    "orphan_annotation": DefectKind(
        "an annotation belongs to a listed image", STOP, "drop_box", f"correct it, {_ACCEPT}leave it out"
    ),
    "image_without_annotations": DefectKind(
        "an image has objects", "keep", None, "none if it shows none: it is trained on as background"
    ),
    "missing_label_file": DefectKind(
        "an image has a label file", "keep", None, "add an empty one if it shows no object; it is taken as background"
    ),
    "empty_split": DefectKind(
        "a split has images", STOP, None, "correct the selection, or the annotations, of which nothing is left"
    ),
    "unlisted_image": DefectKind(
        "an image beside the annotations has one", "drop_image", None, "annotate it, or remove it; it is left out"
    ),
    "leakage": DefectKind(
        "no image is in train and in val",
        STOP,
        "keep",
        f"remove one of the two, {_ACCEPT}keep both (the metrics of val then mean little)",
    ),
    "same_name": DefectKind(
        "file names, without the marks of augmented copies, differ between train and val",
        "keep",
        None,
        "look whether one image was derived from the other",
    ),
    "near_duplicate": DefectKind(
        "no image of val looks like one of train, or like one in a mirror",
        "keep",
        None,
        "look at the pairs (accel-det show-data shows them); where they are copies, keep one of the two",
    ),
    "name_mismatch": DefectKind(
        "a file name says whom the picture shows, in the form of its format",
        STOP,
        "drop_image",
        f"rename or move the file, {_ACCEPT}leave the image out",
    ),
    "junk_picture": DefectKind(
        "a picture shows somebody", "drop_image", None, "nothing: the authors of the set mean them to be left out"
    ),
    "distractor_in_training": DefectKind(
        "a training picture shows somebody who can be learned", "drop_image", None, "nothing: they are left out"
    ),
    "single_picture": DefectKind(
        "training has two pictures of an identity",
        "keep",
        None,
        "add pictures: in groups of several pictures of each identity this one repeats",
    ),
    "query_without_match": DefectKind(
        "a query has a match in the gallery", "not_scored", None, "add pictures, or look at its name"
    ),
    "one_camera": DefectKind(
        "queries have matches of other cameras, where those of their own are excluded",
        "not_scored",
        None,
        "set evaluate.same_camera: include, or name the cameras",
    ),
    "shared_identity": DefectKind(
        "no identity is in train and in val of one set",
        STOP,
        "keep",
        f"split by identity (holdout does), {_ACCEPT}keep both: right only where the same name means different people",
    ),
    "duplicate_sequence": DefectKind(
        "a sequence is there once", "keep_first", None, "remove the copies: their people would count as different ones"
    ),
    "unclear_box": DefectKind(
        "whom a box shows can be told: it is large enough, and not hidden",
        "drop_box",
        None,
        "parameters min_side_px and min_visibility say what is enough",
    ),
}


class Defect(NamedTuple):
    """One finding.

    Attributes:
        kind: key of DEFECT_KINDS.
        set_name: the data set it is in.
        file: where to look: the annotation file, or the image file.
        record: which entry of that file, or "".
        value: what is there.
        rule, remedy: from DEFECT_KINDS.
        repair: what was done about it; None when it stops the run.
    """

    kind: str
    set_name: str
    file: str
    record: str
    value: str
    rule: str
    remedy: str
    repair: str | None

    @property
    def place(self) -> str:
        """Where to look."""
        return f"{self.file}, {self.record}" if self.record else self.file

    def line(self) -> str:
        """One line for people: where, what, which rule, what to do."""
        done = f"repair: {self.repair}" if self.repair else "stops the run"
        return f"{self.set_name}: {self.place}: {self.value}; rule: {self.rule}; {done}; {self.remedy}"


class DataError(ValueError):
    """A data set that must not be trained on as it is."""


class Findings:
    """Collects the defects of one data set."""

    def __init__(self, set_name: str, *, accept: Iterable[str] = ()) -> None:
        self.set_name = set_name
        self.accept = frozenset(accept)
        self.defects: list[Defect] = []
        for kind in sorted(self.accept):
            _check_acceptable(kind, set_name)

    def add(self, kind: str, *, file: str, record: str = "", value: str) -> None:
        """Notes one defect; its repair follows from the kind and from what the user accepts."""
        about = DEFECT_KINDS[kind]
        repair = None if about.default == STOP else about.default
        if about.opt_in is not None and kind in self.accept:
            repair = about.opt_in
        file, record, value = (one_line(text, most=_MOST_SHOWN) for text in (file, record, value))
        self.defects.append(Defect(kind, self.set_name, file, record, value, about.rule, about.remedy, repair))

    def drops(self, kind: str) -> bool:
        """Whether the user accepts the opt-in repair of a kind."""
        return kind in self.accept


def _check_acceptable(kind: str, set_name: str) -> None:
    if kind not in DEFECT_KINDS:
        near = get_close_matches(kind, DEFECT_KINDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(DEFECT_KINDS))}"
        raise ValueError(f"set {set_name!r}, accept: {kind!r} is no kind of defect; {hint}")
    if DEFECT_KINDS[kind].opt_in is None:
        raise ValueError(
            f"set {set_name!r}, accept: {kind!r} has no repair to accept (what happens is: "
            f"{DEFECT_KINDS[kind].default}); {DEFECT_KINDS[kind].remedy}"
        )


def stopping(defects: Sequence[Defect]) -> list[Defect]:
    """Those that stop the run."""
    return [defect for defect in defects if defect.repair is None]


def stop_message(defects: Sequence[Defect], *, shown: int = 5) -> str:
    """Counts by kind of what stops the run, and its first few findings in full."""
    stops = stopping(defects)
    counts = ", ".join(f"{kind} {number}" for kind, number in Counter(defect.kind for defect in stops).most_common())
    lines = [defect.line() for defect in stops[:shown]]
    more = [f"... and {len(stops) - shown} more"] if len(stops) > shown else []
    return "\n".join([f"{len(stops)} defects of the data stop the run: {counts}", *lines, *more])
