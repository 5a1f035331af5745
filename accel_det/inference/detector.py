"""Trained detectors on pictures."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from accel_det.boxes import clip, unplace, xyxy_to_xywh
from accel_det.data.collate import collate_boxes
from accel_det.data.transforms import prepare_image
from accel_det.inference.exact import load_exactly
from accel_det.inference.pictures import Picture, read_picture
from accel_det.models import zoo
from accel_det.models.base import ZooModel
from accel_det.models.test_time import with_views
from accel_det.publish.export import DetectorInfo
from accel_det.types import BoxTarget, Detections, Frame, Sample

CocoRecord = dict[str, int | str | float | list[float]]


class ImageDetections(NamedTuple):
    """What was found in one image, best score first; on the CPU.

    Attributes:
        name: the file, or "image 3" for the one at position 3 if it came as pixels.
        height, width: pixels of the image, upright.
        boxes: (N, 4) float32, xyxy, pixels of the image.
        scores: (N,) float32 in [0, 1].
        labels: (N,) int64, index into the detector's classes.
        label_names: N class names.
    """

    name: str
    height: int
    width: int
    boxes: Tensor
    scores: Tensor
    labels: Tensor
    label_names: tuple[str, ...]

    def to_coco(
        self, *, image_id: int | str | None = None, category_ids: Sequence[int] | None = None
    ) -> list[CocoRecord]:
        """Records of COCO's results format, ready for JSON: bbox is left, top, width, height in pixels of the image.

        Args:
            image_id: None: the name.
            category_ids: by label, those of an annotation file; None: the labels themselves, from 0.
        """
        return [
            {
                "image_id": self.name if image_id is None else image_id,
                "category_id": label if category_ids is None else category_ids[label],
                "category_name": name,
                "bbox": box,
                "score": score,
            }
            for box, score, label, name in zip(
                xyxy_to_xywh(self.boxes).tolist(),
                self.scores.tolist(),
                self.labels.tolist(),
                self.label_names,
                strict=True,
            )
        ]


class Detector:
    """A trained network with all that it takes to use it.

    Attributes:
        info: where it comes from, how it scored.
        classes: names, by label.
    """

    def __init__(self, model: ZooModel[BoxTarget, Detections], info: DetectorInfo, *, device: str = "cpu") -> None:
        self.info = info
        self.classes = info.classes
        self._device = torch.device(device)
        self._model = model.to(self._device).eval().requires_grad_(False)

    def detect(
        self, images: Sequence[Picture], *, score_threshold: float = 0.25, batch_size: int = 8
    ) -> list[ImageDetections]:
        """Find objects. What is found in an image does not depend on the others: only images of equal size after
        resizing share a forward pass, so none is padded for the sake of another.

        Args:
            images: files, Pillow images, or tensors (3, H, W) uint8 RGB.
            score_threshold: detections with a lower score are left out, in [0, 1]; the export's own threshold, mostly
                0.001, holds in any case.
            batch_size: images per forward pass at most; it changes speed and memory only.

        Returns:
            One per image, in their order.

        Raises:
            ValueError: a file cannot be read, a tensor has another shape or type, or an argument is out of range.
        """
        if isinstance(images, str | Path | Tensor | Image.Image):
            raise ValueError(f"images is one {type(images).__name__}, expected a sequence; put it in a list")
        if not 0 <= score_threshold <= 1 or batch_size < 1:
            raise ValueError(
                f"score_threshold is {score_threshold} and batch_size {batch_size}, expected [0, 1] and at least 1"
            )
        found: list[ImageDetections] = []
        for start in range(0, len(images), batch_size):
            samples = [
                self._sample(picture, start + offset)
                for offset, picture in enumerate(images[start : start + batch_size])
            ]
            answers: dict[int, Detections] = {}
            for group in _groups_of_one_size(samples):
                answers |= self._predict(group)
            found += [
                self._answer(sample.frame, answers[sample.frame.sample_id], score_threshold) for sample in samples
            ]
        return found

    def _sample(self, picture: Picture, position: int) -> Sample[BoxTarget]:
        pixels, name = read_picture(picture, position)
        prepared, placement = prepare_image(pixels, self.info.resize)
        frame = Frame(position, name, int(pixels.shape[-2]), int(pixels.shape[-1]), placement)
        return Sample(prepared, BoxTarget.empty(), frame)

    @torch.inference_mode()
    def _predict(self, samples: list[Sample[BoxTarget]]) -> dict[int, Detections]:
        batch = collate_boxes(samples, multiple_px=self.info.resize.multiple)
        predictions = self._model.predict(batch._replace(images=batch.images.to(self._device)))
        return {frame.sample_id: found for frame, found in zip(batch.frames, predictions, strict=True)}

    def _answer(self, frame: Frame, found: Detections, score_threshold: float) -> ImageDetections:
        boxes, scores, labels = found.boxes.cpu().float(), found.scores.cpu().float(), found.labels.cpu()
        kept = scores >= score_threshold
        # In double precision the way back to the file loses nothing that the network knew.
        in_file = clip(unplace(boxes[kept].double(), frame.placement), height=frame.height, width=frame.width).float()
        names = tuple(self.classes[label] for label in labels[kept].tolist())
        return ImageDetections(frame.name, frame.height, frame.width, in_file, scores[kept], labels[kept], names)


def build_detector(info: DetectorInfo, state: Mapping[str, Tensor]) -> ZooModel[Any, Any]:
    """The network of an export, on the CPU, with its weights, behind the views that the export's inference asks for.

    Draws nothing from torch's generator.

    Raises:
        ValueError: the zoo has no such network or option, or the weights are of another one.
    """
    with torch.random.fork_rng(devices=[]):  # the first weights are drawn, and replaced below
        model = zoo.build(info.model, num_classes=len(info.classes), options=info.options, inference=info.inference)
    load_exactly(model, state, info)
    return with_views(model, info.inference, multiple_px=info.resize.multiple)


def _groups_of_one_size(samples: Sequence[Sample[BoxTarget]]) -> Iterator[list[Sample[BoxTarget]]]:
    groups: dict[torch.Size, list[Sample[BoxTarget]]] = {}
    for sample in samples:
        groups.setdefault(sample.image.shape, []).append(sample)
    yield from groups.values()
