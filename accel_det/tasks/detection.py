"""Object detection: from samples to batches, from predictions to COCO and Pascal VOC numbers."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from accel_det.boxes import clip, unplace
from accel_det.data.collate import collate_boxes
from accel_det.metrics.coco import coco_scores_of_table
from accel_det.metrics.detection import tabulate
from accel_det.metrics.voc import voc_scores_of_table
from accel_det.types import Batch, BoxTarget, DetectionRow, Detections, Frame, Sample


class DetectionTask:
    """Fulfils `accel_det.tasks.base.Task` for boxes.

    Args:
        classes: names, by label; each once.
        multiple_px: heights and widths of batch images are rounded up to a multiple of this.
        max_detections: the best so many of each image and class enter the COCO numbers.
    """

    fitness = "AP"

    def __init__(self, classes: Sequence[str], *, multiple_px: int = 1, max_detections: int = 100) -> None:
        repeated = sorted({name for name in classes if list(classes).count(name) > 1})
        if not classes or repeated:
            found = f"{', '.join(repeated)} more than once" if repeated else "no names"
            raise ValueError(f"classes hold {found}, expected at least one and each once; correct the data set's list")
        self.classes = tuple(classes)
        self.multiple_px = multiple_px
        self.max_detections = max_detections

    def collate(self, samples: Sequence[Sample[BoxTarget]]) -> Batch[BoxTarget]:
        """Images of one size are stacked; others are padded at the bottom and right to the largest."""
        return collate_boxes(samples, multiple_px=self.multiple_px)

    def row(self, frame: Frame, target: BoxTarget, prediction: Detections) -> DetectionRow:
        """Bring one image to the CPU, its predicted boxes to the pixels of its file, clipped to it, in float64.

        Args:
            frame: the image, with its placement in the batch image.
            target: truth in pixels of the file.
            prediction: boxes in pixels of the batch image, on any device, in any floating point type.
        """
        boxes = unplace(_double(prediction.boxes), frame.placement)
        return DetectionRow(
            sample_id=frame.sample_id,
            height=frame.height,
            width=frame.width,
            truth=BoxTarget(
                boxes=_double(target.boxes),
                labels=target.labels.cpu(),
                crowd=target.crowd.cpu(),
                areas=_double(target.areas),
            ),
            detections=Detections(
                boxes=clip(boxes, height=frame.height, width=frame.width),
                scores=_double(prediction.scores),
                labels=prediction.labels.cpu(),
            ),
        )

    def score(self, rows: Iterable[DetectionRow]) -> dict[str, float]:
        """The COCO numbers of `coco_scores`, then those of `voc_scores` at IoU 0.5: "VOC07/..." with eleven points, as
        until 2009, and "VOC12/..." with all points."""
        table = tabulate(rows, num_classes=len(self.classes))
        eleven = voc_scores_of_table(table, classes=self.classes, interpolation="eleven_points")
        every = voc_scores_of_table(table, classes=self.classes, interpolation="all_points")
        return {
            **coco_scores_of_table(table, classes=self.classes, max_detections=self.max_detections),
            **{f"VOC07/{name}": value for name, value in eleven.items()},
            **{f"VOC12/{name}": value for name, value in every.items()},
        }

    def pack(self, rows: Sequence[DetectionRow]) -> dict[str, Tensor]:
        """Columns of all rows, one under the other.

        Returns:
            images (R, 5) int64: sample_id, height, width, number of objects, number of detections;
            truth (T, 6) and detections (D, 6) float64: box, area or score, label (exact below 2**53); crowd (T,) bool.
        """
        truth = [row.truth for row in rows]
        found = [row.detections for row in rows]
        return {
            "images": torch.tensor(
                [(*row[:3], len(row.truth.labels), len(row.detections.labels)) for row in rows], dtype=torch.int64
            ).reshape(-1, 5),
            "truth": _columns([(target.boxes, target.areas, target.labels) for target in truth]),
            "crowd": torch.cat([torch.zeros(0, dtype=torch.bool), *(target.crowd for target in truth)]),
            "detections": _columns([(detections.boxes, detections.scores, detections.labels) for detections in found]),
        }

    def unpack(self, packed: Mapping[str, Tensor]) -> list[DetectionRow]:
        """The rows that `pack` took, numbers in float64.

        Raises:
            ValueError: the numbers of objects or detections do not fit.
        """
        images = packed["images"]
        num_truth, num_found = images[:, 3].tolist(), images[:, 4].tolist()
        for name, total in (("truth", sum(num_truth)), ("crowd", sum(num_truth)), ("detections", sum(num_found))):
            if len(packed[name]) != total:
                raise ValueError(
                    f"packed rows: {name} holds {len(packed[name])} entries, expected {total} for {len(images)} images"
                    "; unpack the tensors of one pack together"
                )
        parts = zip(
            images[:, :3].tolist(),
            torch.split(packed["truth"], num_truth),
            torch.split(packed["crowd"], num_truth),
            torch.split(packed["detections"], num_found),
            strict=True,
        )
        return [
            DetectionRow(
                sample_id=sample_id,
                height=height,
                width=width,
                truth=BoxTarget(truth[:, :4], truth[:, 5].long(), crowd, truth[:, 4]),
                detections=Detections(found[:, :4], found[:, 4], found[:, 5].long()),
            )
            for (sample_id, height, width), truth, crowd, found in parts
        ]


def _double(values: Tensor) -> Tensor:
    return values.detach().to("cpu", torch.float64)


def _columns(parts: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Boxes (N, 4), numbers (N,) and labels (N,) of each image -> (sum of N, 6) float64."""
    tables = [
        torch.cat((_double(boxes), _double(numbers)[:, None], _double(labels)[:, None]), dim=1)
        for boxes, numbers, labels in parts
    ]
    return torch.cat([torch.zeros((0, 6), dtype=torch.float64), *tables])
