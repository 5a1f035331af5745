"""COCO average precision for `evaluate.load(".../accel_det/metrics/coco_map")`."""

from collections.abc import Sequence

import evaluate.info
import evaluate.module

from accel_det.metrics.coco import coco_scores
from accel_det.metrics.records import INPUTS, PredictionRecord, ReferenceRecord, detection_features, detection_rows


class CocoMap(evaluate.module.Metric):
    """A shell around `accel_det.metrics.coco.coco_scores`."""

    def _info(self) -> evaluate.info.MetricInfo:
        return evaluate.info.MetricInfo(
            description="The twelve COCO numbers of boxes, and AP and AP50 of every class.",
            citation="Lin et al., Microsoft COCO: Common Objects in Context, 2014",
            inputs_description=INPUTS,
            features=detection_features(),
        )

    def _compute(  # type: ignore[override]  # the base takes any keyword; these are the ones there are
        self,
        predictions: Sequence[PredictionRecord],
        references: Sequence[ReferenceRecord],
        *,
        classes: Sequence[str],
        max_detections: int = 100,
    ) -> dict[str, float]:
        rows = detection_rows(predictions, references)
        return coco_scores(rows, classes=classes, max_detections=max_detections)
