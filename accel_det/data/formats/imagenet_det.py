"""ImageNet DET: VOC's XML in the folders of ILSVRC, classes by WordNet identifiers."""

from pathlib import Path

from accel_det.data.defects import Findings
from accel_det.data.formats import voc
from accel_det.data.formats.raw import RawSplit, SplitSource
from accel_det.data.locate import split_names

_SUFFIX = ".JPEG"


def read(source: SplitSource, split: str, *, findings: Findings) -> RawSplit:
    """One split of a set in the layout of ILSVRC's detection task.

    The root, or the folder ILSVRC in it, holds `Annotations/DET/<split>` and, in the same sub-folders, `Data/DET/<split>`.
    `ImageSets/DET/<split>.txt` (path without suffix, number) chooses the images; without it all XML files do. Objects and
    corners are read as VOC's.

    Raises:
        ValueError: there is no such split.
    """
    root = Path(source.root)
    base = root / "ILSVRC" if (root / "ILSVRC").is_dir() else root
    for name in split_names(split):
        annotations = base / (source.annotations or "Annotations/DET/{split}").replace("{split}", name)
        listing = base / "ImageSets" / "DET" / f"{name}.txt"
        if annotations.is_dir():
            images = base / (source.images or "Data/DET/{split}").replace("{split}", name)
            listed = listing.is_file()
            files = (
                voc.listed_files(listing, annotations, findings=findings)
                if listed
                else sorted(annotations.rglob("*.xml"))
            )
            layout = voc.Layout(files, listed, images, annotations, _SUFFIX)
            return voc.read_layout(source, layout, findings=findings)
    raise ValueError(
        f"set {source.name!r}, split {split!r}: no folder Annotations/DET/{split} in {base}; name it in `annotations`"
    )
