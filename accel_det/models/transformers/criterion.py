"""Which losses a type is trained with, and what they are divided by.

Letters: S stages, B images, Q queries, P denoising queries, L decoder layers, M matched pairs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from accel_det.models.transformers.denoising import NoiseRule, NoisyQueries
from accel_det.models.transformers.distribution import BinRule, distill_loss, fine_loss
from accel_det.models.transformers.losses import (
    ClassRule,
    Matched,
    box_losses,
    class_loss,
    look_up,
    softmax_count,
)
from accel_det.models.transformers.matching import Matches, MatchRule, match
from accel_det.models.transformers.objects import Objects
from accel_det.models.transformers.outputs import Stages
from accel_det.types import Losses, LossTerm

_NOISY = "_noisy"


@dataclass(frozen=True)
class Criterion:
    """The losses of one network.

    They are divided by the number of objects of all processes, times the groups of queries; DETR's classes by the
    weight of all queries, and the distillation by the number of images. Where no process has an object, only the last
    two teach anything; transformers divides the others by 1 there.

    Attributes:
        label, box, giou: weights.
        noise: of types with denoising queries.
        bins: of types that refine distributions. Their boxes are taught to every query that any stage matched, in all
            stages, as D-FINE does.
    """

    classes: ClassRule
    matching: MatchRule
    label: float
    box: float
    giou: float
    noise: NoiseRule | None = None
    bins: BinRule | None = None

    def losses(self, found: Stages, noisy: Stages | None, objects: Objects, queries: NoisyQueries | None) -> Losses:
        """The terms `class`, `l1` and `giou`, summed over the stages, `fine` and `distill` of distributions; and the
        same of the denoising queries, with `_noisy` after the name.

        Args:
            noisy, queries: None for a type without denoising queries, and for a batch without a box.
        """
        matches, taught = match(found.logits, found.boxes, objects, self.matching, union=self.bins is not None)
        of_classes = look_up(found.boxes, objects, matches)
        of_boxes = of_classes if self.bins is None else look_up(found.boxes, objects, taught)
        counts = self._object_counts(objects, num_queries=found.logits.shape[2])
        if self.bins is not None:
            per_stage = counts["l1"].new_tensor(len(taught.query) // len(found.logits))
            counts |= {"l1": per_stage, "giou": per_stage, "fine": per_stage}
        sums = self._sums(found, of_classes, of_boxes)
        positives = None
        if self.bins is not None:
            last = slice(len(taught.query) - len(taught.query) // len(found.logits), None)
            positives = (
                counts["l1"]
                .new_zeros(len(objects.per_image))
                .index_add(0, taught.image[last], torch.ones_like(of_boxes.quality[last]))
            )
            everyone = torch.ones_like(found.logits[0, :, :, 0], dtype=torch.bool)
            sums |= self._bin_sums(found, of_boxes, taught, everyone, positives)
        losses = {name: LossTerm(value, counts[name]) for name, value in sums.items()}
        if self.noise is None:
            return losses
        return losses | self._noisy_losses(noisy, objects, queries, positives, nothing=found.logits.sum() * 0)

    def counts(self, objects: Objects, *, num_queries: int) -> dict[str, Tensor] | None:
        """What `losses` counts, known from the targets, or None where it follows from the matches."""
        return None if self.bins is not None else self._object_counts(objects, num_queries=num_queries)

    def _object_counts(self, objects: Objects, *, num_queries: int) -> dict[str, Tensor]:
        number = objects.number_of_each().sum()
        grouped = number * self.matching.groups
        counts = {"class": grouped, "l1": grouped, "giou": grouped}
        if self.classes.kind == "softmax":
            counts["class"] = softmax_count(objects, num_queries=num_queries, no_object=self.classes.no_object)
        images = number.new_tensor(len(objects.per_image))
        if self.bins is not None:
            counts |= {"fine": number, "distill": images}
        if self.noise is not None:
            counts |= {name + _NOISY: images if name == "distill" else number for name in tuple(counts)}
        return counts

    def _sums(
        self,
        found: Stages,
        of_classes: Matched,
        of_boxes: Matched,
        *,
        weights: Tensor | None = None,
        pair_weights: Tensor | None = None,
    ) -> dict[str, Tensor]:
        distance, overlap = box_losses(of_boxes, weights=pair_weights)
        label = class_loss(found.logits, of_classes, self.classes, weights=weights)
        return {"class": label * self.label, "l1": distance * self.box, "giou": overlap * self.giou}

    def _bin_sums(
        self,
        found: Stages,
        matched: Matched,
        matches: Matches,
        counted: Tensor,
        positives: Tensor,
        *,
        pair_weights: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Of the decoder layers, which are the last stages."""
        assert self.bins is not None
        assert found.refinement is not None
        num_layers = len(found.refinement.corners)
        earlier = len(found.logits) - num_layers
        last = slice(earlier * (len(matches.stage) // len(found.logits)), None)
        matches = Matches(matches.stage[last] - earlier, matches.image[last], matches.query[last], matches.box[last])
        matched = matched.keep(last)
        fine = fine_loss(found.refinement, matched, matches, self.bins)
        fine = fine if pair_weights is None else fine * pair_weights[last]
        distill = distill_loss(found.refinement, matched, matches, self.bins, counted=counted, positives=positives)
        return {"fine": fine.sum() * self.bins.fine, "distill": distill * self.bins.distill}

    def _noisy_losses(
        self,
        noisy: Stages | None,
        objects: Objects,
        queries: NoisyQueries | None,
        positives: Tensor | None,
        *,
        nothing: Tensor,
    ) -> Losses:
        counts = self._object_counts(objects, num_queries=0)
        counts = {name: count for name, count in counts.items() if name.endswith(_NOISY)}
        if noisy is None or queries is None:
            return {name: LossTerm(nothing, count) for name, count in counts.items()}
        matches = _noisy_matches(queries, num_stages=len(noisy.logits))
        matched = look_up(noisy.boxes, objects, matches)
        weights = torch.where(queries.void, 0, queries.share[:, None])
        pair_weights = weights[matches.image, matches.query]
        sums = self._sums(noisy, matched, matched, weights=weights, pair_weights=pair_weights)
        if positives is not None:
            sums |= self._bin_sums(noisy, matched, matches, ~queries.void, positives, pair_weights=pair_weights)
        return {name + _NOISY: LossTerm(value, counts[name + _NOISY]) for name, value in sums.items()}


def _noisy_matches(queries: NoisyQueries, *, num_stages: int) -> Matches:
    """Every positive copy with its box, in every stage."""
    image, query = queries.positive.repeat(1, num_stages)
    stage = torch.arange(num_stages, device=image.device).repeat_interleave(queries.positive.shape[1])
    return Matches(stage, image, query, queries.box[image, query])
