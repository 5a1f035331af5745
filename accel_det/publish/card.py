"""The model card: a README for people, with a YAML front matter for the Hub."""

import re
from collections.abc import Mapping

from accel_det.models import zoo
from accel_det.publish.info import DetectorInfo, EmbedderInfo, ExportInfo, library
from accel_det.publish.markdown import escape, fenced, table, to_yaml

_PIPELINE = {"detection": "object-detection", "reid": "image-feature-extraction"}
_HEADLINE = (
    "AP",
    "AP50",
    "AP75",
    "APs",
    "APm",
    "APl",
    "AR100",
    "VOC12/mAP",
    "VOC07/mAP",
    "rank1",
    "rank5",
    "mAP",
    "mINP",
)
_MEANING = {
    "AP": "mean over IoU 0.50 to 0.95 and over classes (COCO)",
    "AP50": "at IoU 0.50",
    "AP75": "at IoU 0.75",
    "APs": "objects below 32 x 32 pixels",
    "APm": "objects from 32 x 32 to 96 x 96 pixels",
    "APl": "objects above 96 x 96 pixels",
    "AR100": "recall with 100 detections per image",
    "VOC12/mAP": "Pascal VOC, all points, IoU 0.50",
    "VOC07/mAP": "Pascal VOC, eleven points, IoU 0.50",
    "rank1": "queries whose nearest picture is of the same identity",
    "rank5": "queries with one of the same identity among the five nearest",
    "mAP": "mean average precision of the ranked gallery",
    "mINP": "mean inverse negative penalty: how far down the hardest match is",
}
_RESIZE = {
    "letterbox": "fitted into {size_px} x {size_px} pixels with grey bars",
    "rectangular": "scaled to a longer side of {size_px} pixels, with grey bars up to multiples of {multiple}",
    "shortest_edge": "scaled to a shorter side of {size_px} pixels, the longer at most {max_size_px}",
    "stretch": "stretched to {size_px} x {size_px} pixels",
}


def render_card(info: ExportInfo) -> str:
    """The text of README.md."""
    sections = [_purpose(info), _metrics(info), _data(info), _usage(info), _origin(info)]
    return f"---\n{front_matter(info)}---\n\n" + "\n\n".join(section for section in sections if section) + "\n"


def front_matter(info: ExportInfo) -> str:
    """What the Hub reads: YAML, without the lines of dashes around it."""
    pipeline = _PIPELINE.get(info.task, info.task)
    values: dict[str, object] = {"license": info.licence} if info.licence else {}
    values |= {
        "library_name": "accel_det",
        "pipeline_tag": pipeline,
        "tags": [pipeline, "accelerate", info.model],
    }
    if isinstance(info, DetectorInfo):
        values["class_names"] = list(info.classes)
    results = [
        {"type": name, "name": name, "value": info.metrics[name]} for name in _HEADLINE if _known(info.metrics, name)
    ]
    if results:
        selection = info.data["val"].selection if "val" in info.data else "validation"
        dataset = {"name": selection, "type": re.sub(r"[^a-z0-9]+", "-", selection.lower()).strip("-") or "data"}
        result = {"task": {"type": pipeline}, "dataset": dataset, "metrics": results}
        values["model-index"] = [{"name": info.name, "results": [result]}]
    return to_yaml(values)


def _purpose(info: ExportInfo) -> str:
    paper = zoo.card(info.model).source if info.model in zoo.names() else ""
    return f"# {escape(info.name)}\n\n`{info.model}`, {_abilities(info)}" + (f" Network: {paper}." if paper else "")


def _abilities(info: ExportInfo) -> str:
    if isinstance(info, EmbedderInfo):
        height, width = info.size_px
        views = ", and so is its mirror image, and both are averaged" if info.flip else ""
        return (
            f"trained to tell {info.identities} identities apart, so that embeddings of one identity lie close together.\n\n"
            f"A picture shows one identity and is stretched to {height} x {width} pixels (height x width){views}; its "
            "embedding has unit length."
        )
    assert isinstance(info, DetectorInfo)
    mode = "rectangular" if info.resize.rectangular else info.resize.mode
    size = _RESIZE[mode].format(**info.resize._asdict())
    return (
        f"trained to find objects of {len(info.classes)} "
        f"{'class' if len(info.classes) == 1 else 'classes'}: {', '.join(map(escape, info.classes))}.\n\n"
        f"An image is {size}; boxes are given in pixels of the original image."
    )


def _metrics(info: ExportInfo) -> str:
    overall = [(name, _number(info.metrics[name]), _MEANING[name]) for name in _HEADLINE if _known(info.metrics, name)]
    if not overall:
        return "## Quality\n\nNot evaluated."
    text = "## Quality\n\nOn the validation data below; nothing is known about other images.\n\n"
    text += table(("metric", "value", "meaning"), overall)
    if not isinstance(info, DetectorInfo):
        return text
    of_classes = [
        (escape(name), *(_number(info.metrics.get(f"{metric}/{name}", -1.0)) for metric in ("AP", "AP50")))
        for name in info.classes
    ]
    return f"{text}\n\n{table(('class', 'AP', 'AP50'), of_classes)}"


def _data(info: ExportInfo) -> str:
    if not info.data:
        return ""
    rows = [
        (
            role,
            escape(split.selection),
            f"{split.images}",
            escape(split.licence or "not stated"),
            f"`{split.fingerprint}`",
        )
        for role, split in info.data.items()
    ]
    return "## Data\n\n" + table(("role", "selection", "images", "licence", "fingerprint"), rows)


def _usage(info: ExportInfo) -> str:
    if isinstance(info, EmbedderInfo):
        code = (
            "import accel_det\n"
            'embedder = accel_det.load("FOLDER_OR_REPO")  # this folder, or its owner/name on the Hub\n'
            'one, other = embedder.embed(["one.jpg", "other.jpg"])\n'
            "print(float(one @ other))  # near 1: the same identity"
        )
        return f"## Use\n\n{fenced(code, 'python')}"
    code = (
        "import accel_det\n"
        'detector = accel_det.load("FOLDER_OR_REPO")  # this folder, or its owner/name on the Hub\n'
        'print(detector.detect(["image.jpg"], score_threshold=0.25)[0].to_coco())'
    )
    return f"## Use\n\n{fenced(code, 'python')}"


def _origin(info: ExportInfo) -> str:
    training = info.training
    versions = ", ".join(f"{name} {number}" for name, number in training.versions.items())
    licence = f"`{info.licence}`" if info.licence else "not stated; ask whoever trained them"
    return (
        f"## Origin\n\nTraining step {training.step}, seed {training.seed}, written by {library()}; the whole "
        f"configuration is in `run_config.yaml`.\n\n{fenced(training.command, 'sh')}\n\n"
        f"Versions: {escape(versions) or 'not recorded'}.\n\nLicence of the weights: {licence}."
    )


def _known(metrics: Mapping[str, float], name: str) -> bool:
    """Whether the evaluation gave this number; -1 says that the split has no such object."""
    return metrics.get(name, -1.0) >= 0


def _number(value: float) -> str:
    return f"{value:.4f}" if value >= 0 else "-"
