"""The networks of the zoo that transformers builds."""

from accel_det.models.card import ModelCard

_DETR = "Carion et al., End-to-End Object Detection with Transformers, 2020"
_TABLE = f"{_DETR}; Smock et al., PubTables-1M, 2022"
_CONDITIONAL = "Meng et al., Conditional DETR, 2021"
_DAB = "Liu et al., DAB-DETR, 2022"
_DEFORMABLE = "Zhu et al., Deformable DETR, 2021"
_RT = "Zhao et al., DETRs Beat YOLOs on Real-time Object Detection, 2023"
_RT_V2 = "Lv et al., RT-DETRv2, 2024"
_FINE = "Peng et al., D-FINE, 2024"
_DEIM = "Huang et al., Real-Time Object Detection Meets DINOv3, 2025"
_LW = "Chen et al., LW-DETR, 2024"
_RF = "Robinson et al., RF-DETR, 2025"
_YOLOS = "Fang et al., You Only Look at One Sequence, 2021"


def _card(
    name: str,
    parameters_m: float,
    gflops: float,
    source: str,
    *,
    size_px: int = 640,
    resize: str = "stretch",
    multiple_px: int = 32,
) -> ModelCard:
    return ModelCard(
        name,
        "detection",
        "transformers.build",
        "TransformersOptions",
        parameters_m,
        size_px,
        resize,
        multiple_px,
        source,
        gflops=gflops,
    )


def _padded(name: str, parameters_m: float, gflops: float, source: str, *, multiple_px: int = 32) -> ModelCard:
    return _card(name, parameters_m, gflops, source, size_px=800, resize="shortest_edge", multiple_px=multiple_px)


CARDS = (
    _padded("detr_resnet50", 41.5, 120.3, _DETR),
    _padded("detr_resnet101", 60.5, 215.0, _DETR),
    _padded("table_transformer_resnet18", 28.8, 59.96, _TABLE),
    _padded("conditional_detr_resnet50", 43.4, 127.4, _CONDITIONAL),
    _padded("dab_detr_resnet50", 43.7, 130.1, _DAB),
    _padded("deformable_detr_resnet50", 40.1, 245.7, _DEFORMABLE),
    _padded("deformable_detr_refine_resnet50", 40.7, 246.1, _DEFORMABLE),
    _card("rtdetr_resnet18", 20.2, 61.51, _RT),
    _card("rtdetr_resnet34", 31.4, 93.63, _RT),
    _card("rtdetr_resnet50", 42.9, 137.8, _RT),
    _card("rtdetr_resnet101", 76.6, 260.6, _RT),
    _card("rtdetr_v2_resnet18", 20.2, 61.51, _RT_V2),
    _card("rtdetr_v2_resnet34", 31.4, 93.63, _RT_V2),
    _card("rtdetr_v2_resnet50", 42.9, 137.8, _RT_V2),
    _card("rtdetr_v2_resnet101", 76.6, 260.6, _RT_V2),
    _card("dfine_n", 3.8, 7.434, _FINE),
    _card("dfine_s", 10.3, 27.8, _FINE),
    _card("dfine_m", 19.6, 60.49, _FINE),
    _card("dfine_l", 31.2, 95.71, _FINE),
    _card("dfine_x", 62.6, 209.6, _FINE),
    _card("deimv2_atto", 0.51, 0.7714, _DEIM, size_px=320),
    _card("deimv2_femto", 0.99, 1.728, _DEIM, size_px=416),
    _card("deimv2_pico", 1.55, 5.316, _DEIM),
    _card("deimv2_n", 3.6, 7.243, _DEIM),
    _card("deimv2_s", 9.8, 51.59, _DEIM),
    _card("deimv2_m", 18.4, 88.44, _DEIM),
    _card("deimv2_l", 32.6, 148.7, _DEIM),
    _card("deimv2_x", 51.3, 207.3, _DEIM),
    _card("lwdetr_tiny", 12.1, 21.35, _LW, multiple_px=64),
    _card("lwdetr_small", 14.6, 31.6, _LW, multiple_px=64),
    _card("lwdetr_medium", 28.3, 83.77, _LW, multiple_px=64),
    _card("rfdetr_nano", 30.5, 31.86, _RF, size_px=384),
    _card("rfdetr_small", 32.2, 59.65, _RF, size_px=512),
    _card("rfdetr_medium", 33.8, 78.59, _RF, size_px=576),
    _card("rfdetr_base", 32.3, 96.4, _RF, size_px=560, multiple_px=56),
    _padded("yolos_tiny", 6.5, 90.73, _YOLOS, multiple_px=16),
    _padded("yolos_small", 30.7, 236.8, _YOLOS, multiple_px=16),
    _padded("yolos_base", 127.8, 694.7, _YOLOS, multiple_px=16),
)
