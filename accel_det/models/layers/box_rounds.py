"""Iterative box regression: boxes that a second stage has found are fed to it again.

Letters: R regions of all images, K classes without background.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from accel_det.models.base import Inference
from accel_det.models.layers.canvas import Sizes
from accel_det.models.layers.nms import Candidates, by_image, cut_to_images, join

LEAST_FED_PX = 0.01
"""Boxes with a shorter side are not fed back: there is nothing in them to be pooled."""

SecondStage = Callable[[list[Tensor]], tuple[Tensor, Tensor]]
"""Regions of each image -> scores (R, K) and shifted boxes (R, K, 4), image after image."""


def candidates_of_rounds(
    second_stage: SecondStage, proposals: list[Tensor], *, sizes: Sizes, inference: Inference, limit: int
) -> Candidates:
    """Every class of every proposal; and, as often as `inference.box_iterations` says, those of the boxes found last.

    A box that was found for a class is scored and regressed again for that class; the boxes of all rounds go into
    suppression and voting together.

    Args:
        proposals: one (., 4) per image, xyxy, pixels of the batch image.
        sizes: (height, width) of each image before padding, pixels: what is fed back is cut to it.
        limit: of an image no more boxes are fed back.

    Returns:
        What scores at least `inference.score_threshold`, not cut to the images.

    Source: Gidaris and Komodakis, Object detection via a multi-region CNN, 2015, section 5.
    """
    scores, boxes = second_stage(proposals)
    region, label = (scores >= inference.score_threshold).nonzero().unbind(dim=1)
    rounds = [Candidates(_owners(proposals)[region], boxes[region, label], scores[region, label], label)]
    for _ in range(inference.box_iterations):
        found = cut_to_images(rounds[-1], sizes, least_px=LEAST_FED_PX)
        best = by_image(found, num_images=len(sizes), limit=limit)
        fed = [of_image.boxes for of_image in best]
        labels = torch.cat([of_image.labels for of_image in best])
        scores, boxes = second_stage(fed)
        row = torch.arange(len(labels), device=labels.device)
        again = Candidates(_owners(fed), boxes[row, labels], scores[row, labels], labels)
        rounds.append(again.keep(again.scores >= inference.score_threshold))
    return join(rounds)


def _owners(of_images: list[Tensor]) -> Tensor:
    """(R,) int64, for each row of the images' tensors the position of its image."""
    device = of_images[0].device
    return torch.cat([torch.full((len(rows),), index, device=device) for index, rows in enumerate(of_images)])
