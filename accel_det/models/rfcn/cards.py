"""The R-FCN networks of the zoo."""

from accel_det.models.card import ModelCard

_SOURCE = "Dai et al., R-FCN, 2016"
_DEFORMABLE = f"{_SOURCE}; Dai et al., Deformable Convolutional Networks, 2017"


def _card(name: str, parameters_m: float, gflops: float, source: str = _SOURCE) -> ModelCard:
    return ModelCard(
        name,
        "detection",
        "rfcn.model",
        "RFCNOptions",
        parameters_m,
        600,
        "shortest_edge",
        16,
        source,
        gflops=gflops,
    )


CARDS = (
    _card("rfcn_resnet50", 34.8, 124.1),
    _card("rfcn_resnet101", 53.8, 178.8),
    _card("rfcn_resnet50_deformable", 36.0, 127.6, _DEFORMABLE),
    _card("rfcn_resnet101_deformable", 55.0, 182.3, _DEFORMABLE),
)
