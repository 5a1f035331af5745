"""`accel-det predict RUN IMAGES...`: boxes on pictures, and JSON in COCO's results format."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from accel_det.cli.failures import DONE, answer, guarded
from accel_det.cli.image_files import IMAGES_HELP, find_images
from accel_det.data.decode import decode
from accel_det.engine.console import Console
from accel_det.engine.runtime import default_device
from accel_det.inference import Detector, ImageDetections, load_detector
from accel_det.inference.detector import CocoRecord
from accel_det.report.pictures import contact_sheet, draw_detections
from accel_det.types import Detections

_SHEET_IMAGES = 12
_PICTURE_PX = 1280


def main() -> int:
    """Entry point of scripts/predict.py."""
    return guarded(run)


def run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="predict",
        description="Find objects in images.",
        epilog="writes OUT/detections.json, OUT/<image>.jpg with boxes, and OUT/sheet.jpg. Exit codes: 0 done; 2 bad input.",
    )
    parser.add_argument("run", help="folder of a run or export, or owner/name on the Hub")
    parser.add_argument("images", nargs="+", help=IMAGES_HELP)
    parser.add_argument("--out", type=Path, default=Path("predictions"), help="folder for the results; `predictions`")
    parser.add_argument("--score", type=float, default=0.25, help="detections with a lower score are left out; 0.25")
    parser.add_argument("--device", default=default_device(), help="cpu, cuda, cuda:1, ...")
    parser.add_argument("--batch_size", type=int, default=8, help="images per forward pass")
    parser.add_argument("--no_pictures", action="store_true", help="JSON only")
    parser.add_argument("--json", action="store_true", help="one machine-readable result on stdout, all else on stderr")
    options = parser.parse_args(list(arguments))
    console = Console(speaks=True, to_stderr=options.json)
    files = list(find_images(options.images))
    detector = load_detector(options.run, device=options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    records: list[CocoRecord] = []
    pictures: list[Image.Image] = []
    failures: list[str] = []
    for file, target in zip(files, _targets(files, options.out), strict=True):
        try:
            (found,) = detector.detect([file], score_threshold=options.score, batch_size=options.batch_size)
        except ValueError as error:
            failures.append(str(error))
            console.say(f"skipped: {error}")
            continue
        records += found.to_coco()
        if not options.no_pictures:
            picture = _draw(file, found, detector, options.score)
            target.parent.mkdir(parents=True, exist_ok=True)
            picture.save(target, quality=92)
            pictures += [picture] if len(pictures) < _SHEET_IMAGES else []
        counts = {name: found.label_names.count(name) for name in dict.fromkeys(found.label_names)}
        console.say(f"{file}: {', '.join(f'{count} {name}' for name, count in counts.items()) or 'nothing'}")
    if len(failures) == len(files):
        raise ValueError(f"nothing could be predicted in any of the {len(files)} images; the first: {failures[0]}")
    (options.out / "detections.json").write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    if pictures:
        contact_sheet(pictures, columns=min(4, len(pictures))).save(options.out / "sheet.jpg", quality=92)
    console.say(f"{len(records)} detections in {len(files) - len(failures)} images: {options.out}")
    if options.json:
        answer({"out": str(options.out), "images": len(files), "detections": len(records), "skipped": failures})
    return DONE


def _targets(files: Sequence[Path], out: Path) -> list[Path]:
    """Where each picture goes: files of one name in several folders keep apart."""
    stems: dict[str, int] = {}
    targets = []
    for file in files:
        number = stems[file.stem] = stems.get(file.stem, 0) + 1
        targets.append(out / (f"{file.stem}.jpg" if number == 1 else f"{file.stem}-{number}.jpg"))
    return targets


def _draw(file: Path, found: ImageDetections, detector: Detector, score: float) -> Image.Image:
    pixels = decode(file.read_bytes(), name=str(file))
    picture = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    detections = Detections(found.boxes, found.scores, found.labels)
    width_px = max(480, min(_PICTURE_PX, found.width))
    return draw_detections(picture, detections, classes=detector.classes, width_px=width_px, min_score=score)
