"""Pascal VOC average precision for `evaluate.load(".../accel_det/metrics/voc_ap")`."""

from collections.abc import Sequence

import evaluate.info
import evaluate.module

from accel_det.metrics.records import INPUTS, PredictionRecord, ReferenceRecord, detection_features, detection_rows
from accel_det.metrics.voc import Interpolation, voc_scores


class VocAp(evaluate.module.Metric):
    """A shell around `accel_det.metrics.voc.voc_scores`."""

    def _info(self) -> evaluate.info.MetricInfo:
        return evaluate.info.MetricInfo(
            description="Mean average precision of Pascal VOC, and that of every class.",
            citation="Everingham et al., The Pascal Visual Object Classes (VOC) Challenge, 2010",
            inputs_description=INPUTS,
            features=detection_features(),
        )

    def _compute(  # type: ignore[override]  # the base takes any keyword; these are the ones there are
        self,
        predictions: Sequence[PredictionRecord],
        references: Sequence[ReferenceRecord],
        *,
        classes: Sequence[str],
        iou: float = 0.5,
        interpolation: Interpolation = "all_points",
    ) -> dict[str, float]:
        rows = detection_rows(predictions, references)
        return voc_scores(rows, classes=classes, iou=iou, interpolation=interpolation)
