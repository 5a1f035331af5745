"""The keys of a run that learns to find objects."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from accel_det.config.augment import AugmentSection
from accel_det.config.schema import Config, DataSection, EvaluateSection, SetSection
from accel_det.config.section import Positive, Section, Share


class DetectionSet(SetSection):
    format: Literal[
        "coco", "voc", "yolo", "csv", "createml", "cvat", "openimages", "widerface", "imagenet_det", "hub", "street"
    ] = Field(description="how the set is stored")
    holdout: Share = Field(0.0, description="share of the images that split `val` takes by a hash of the file name")
    holdout_group: str | None = Field(
        None,
        description="regular expression whose first group, found in the path below root, tells which images are held out "
        "together, such as frames of one video: `^(.*)_frame`",
    )
    holdout_stratified: bool = Field(
        False, description="hold out the same share of the images of every class; the split is that of the set as it is"
    )
    parameters: dict[str, int | float | str] = Field({}, description="settings of the synthetic street")

    @model_validator(mode="after")
    def _what_is_held_out_has_a_share(self) -> Self:
        if not self.holdout and (self.holdout_group is not None or self.holdout_stratified):
            key = "holdout_stratified" if self.holdout_group is None else "holdout_group"
            raise ValueError(f"{key} is set, but holdout is 0: set holdout to the share for val, or leave {key} out")
        return self


class ResizeSection(Section):
    mode: Literal["letterbox", "shortest_edge", "stretch"] = Field(
        "letterbox", description="square with grey bars, shorter side to size, or square without bars"
    )
    size_px: Positive = Field(640, description="pixels of the square, or of the shorter side")
    max_size_px: Positive = Field(1333, description="pixels of the longer side at most; for shortest_edge")
    train_sizes_px: list[Positive] = Field(
        [], description="sizes that training draws from instead of size_px; the same one on every process"
    )
    draw_size_every: Annotated[int, Field(ge=0)] = Field(
        1, description="updates that share a drawn size; 0 draws one for every image, not for letterbox"
    )
    rectangular: bool = Field(
        False, description="letterbox to the common aspect of images of like aspect, not to a square: fewer grey bars"
    )

    @model_validator(mode="after")
    def _sizes_fit_the_mode(self) -> Self:
        if self.mode == "letterbox" and self.train_sizes_px and self.draw_size_every == 0:
            raise ValueError(
                "draw_size_every is 0, a size for every image, which letterbox cannot do: all images of an update share its "
                "square; set it to 1 or more, or mode to shortest_edge or stretch"
            )
        if self.mode != "letterbox" and self.rectangular:
            raise ValueError(f"rectangular needs mode: letterbox, but mode is {self.mode}: set one of them")
        if self.mode == "shortest_edge" and max([self.size_px, *self.train_sizes_px]) > self.max_size_px:
            raise ValueError(
                f"a shorter side of {max([self.size_px, *self.train_sizes_px])} is above max_size_px, {self.max_size_px}: "
                "raise max_size_px"
            )
        return self


class DetectionData(DataSection):
    sets: Mapping[str, DetectionSet] = Field(min_length=1, description="the data sets, by a name of your choice")
    classes: list[str] | None = Field(
        None, min_length=1, description="class names in order; without it those of the sets"
    )
    resize: ResizeSection = ResizeSection()
    augment: AugmentSection = AugmentSection()
    order: Literal["shuffled", "sequential", "class_balanced", "weighted"] = Field(
        "shuffled",
        description="a new order every epoch; that of the set; every class equally often (label shuffling); or drawn with "
        "replacement, images of rare classes more often (image weights)",
    )
    proposals: dict[Literal["train", "val"], str] = Field(
        {}, description="files with regions for `train` and `val`: parquet, JSON lines, or .mat of selective search"
    )

    @model_validator(mode="after")
    def _a_mosaic_is_square(self) -> Self:
        if self.resize.rectangular and self.augment.mosaic:
            raise ValueError(
                f"resize.rectangular groups images of like aspect, which a mosaic (augment.mosaic is {self.augment.mosaic:g}) "
                "makes square again: set augment.mosaic to 0, or resize.rectangular to false"
            )
        return self

    @model_validator(mode="after")
    def _a_stream_is_read_in_its_order(self) -> Self:
        if self.streaming and self.order not in ("shuffled", "sequential"):
            raise ValueError(
                f"order is {self.order}, which asks for images from all over the data, but streaming is true: set order to "
                "shuffled, or streaming to false"
            )
        if self.streaming and self.resize.rectangular:
            raise ValueError(
                "resize.rectangular brings images of like aspect together, which streaming cannot: set one of them to false"
            )
        return self

    @model_validator(mode="after")
    def _a_mosaic_needs_a_letterbox(self) -> Self:
        if self.augment.mosaic and self.resize.mode != "letterbox":
            raise ValueError(
                f"augment.mosaic is {self.augment.mosaic:g}, which needs resize.mode: letterbox, but that is "
                f"{self.resize.mode}: set one of them"
            )
        return self


class DetectionEvaluation(EvaluateSection):
    score_threshold: Share = Field(0.001, description="detections with a lower score are dropped")
    nms_iou: Share = Field(0.6, description="overlap above which the worse of two boxes of a class is dropped")
    max_detections: Positive = Field(100, description="detections per image")
    nms: Literal["hard", "soft_linear", "soft_gaussian", "none"] = Field(
        "hard",
        description="whether overlapping boxes are dropped, or their scores lowered; none for sets without repeats",
    )
    soft_nms_sigma: Annotated[float, Field(gt=0)] = Field(0.5, description="width of soft_gaussian")
    agnostic_nms: bool = Field(False, description="boxes of different classes suppress each other as well")
    vote_iou: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="a kept box becomes the mean of those of its class that overlap it more, weighted by score"
    )
    box_iterations: Annotated[int, Field(ge=0)] = Field(
        0, description="times that found boxes are fed to the second stage again; two-stage networks only"
    )
    flip: bool = Field(False, description="predict the mirrored image as well, and merge")
    scales: list[Annotated[float, Field(gt=0, le=4)]] = Field(
        [1.0], min_length=1, description="predict the image at these shares of its size, and merge"
    )


class DetectionConfig(Config):
    task: Literal["detection"] = Field("detection", description="what the network learns")
    data: DetectionData
    evaluate: DetectionEvaluation = DetectionEvaluation()
