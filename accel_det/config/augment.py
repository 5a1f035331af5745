"""The keys of data.augment: what training changes at random."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from accel_det.config.section import Section, Share


class AugmentSection(Section):
    flip: Share = Field(0.5, description="probability of mirroring left and right")
    flip_vertical: Share = Field(0.0, description="probability of mirroring top and bottom")
    scale: list[float] = Field(
        [1.0, 1.0],
        min_length=2,
        max_length=2,
        description="smallest and largest zoom factor; drawn log-uniformly for an image, uniformly for a mosaic",
    )
    translate: Share = Field(
        0.0,
        description="0 keeps a smaller image centered, 1 puts it anywhere; the center of a mosaic moves by up to this "
        "share of the canvas, either way",
    )
    brightness: Share = Field(0.0, description="factor 1 - x .. 1 + x")
    contrast: Share = Field(0.0, description="factor 1 - x .. 1 + x")
    saturation: Share = Field(0.0, description="factor 1 - x .. 1 + x")
    hue: Annotated[float, Field(ge=0, le=0.5)] = Field(0.0, description="turn of the color wheel, share of a full turn")
    degrees: Annotated[float, Field(ge=0, le=180)] = Field(
        0.0, description="rotation by up to so many degrees either way, about the middle of the canvas"
    )
    shear: Annotated[float, Field(ge=0, le=60)] = Field(0.0, description="shear by up to so many degrees, both axes")
    perspective: Annotated[float, Field(ge=0, le=0.002)] = Field(
        0.0, description="perspective, share per pixel from the middle; less where it would enlarge more than twofold"
    )
    aspect: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="sides are stretched by factors of 1 - x .. 1 + x"
    )
    mosaic: Share = Field(0.0, description="probability of a mosaic of several images in place of one; letterbox only")
    mosaic_tiles: Literal[4, 9] = Field(4, description="images of a mosaic")
    mixup: Share = Field(0.0, description="probability that a mosaic is blended with another one")
    mixup_beta: Annotated[float, Field(gt=0)] = Field(
        32.0, description="both parameters of the beta distribution of the share"
    )
    copy_paste: Share = Field(
        0.0, description="probability that an object of another image is pasted, its box and not its outline"
    )
    plain_epochs: Annotated[float, Field(ge=0)] = Field(
        0.0, description="last epochs without mosaic, mixup and copy_paste; whole ones, rounded down"
    )
    distort: Share = Field(0.0, description="probability of each photometric distortion of SSD, channel swap included")
    zoom_out: Share = Field(
        0.0, description="probability of placing the image on a canvas up to 4 times as wide, as SSD; not for mosaics"
    )
    iou_crop: Share = Field(
        0.0, description="probability of a crop by overlap with the objects, as SSD; not for mosaics"
    )
    gray: Share = Field(0.0, description="probability of taking the color away")
    blur: Share = Field(0.0, description="probability of a blur")
    min_visible: Share = Field(0.2, description="objects of which a crop leaves less are dropped, share of the area")

    @model_validator(mode="after")
    def _zoom_is_a_range(self) -> Self:
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale is {self.scale}, expected [smallest, largest] with 0 < smallest <= largest")
        return self

    @model_validator(mode="after")
    def _single_images_are_left(self) -> Self:
        for key in ("zoom_out", "iou_crop"):
            if getattr(self, key) and self.mosaic == 1 and not self.plain_epochs:
                raise ValueError(
                    f"{key} is {getattr(self, key):g}, but it is for single images, and mosaic is 1, which leaves none: lower "
                    f"mosaic, raise plain_epochs, or set {key} to 0"
                )
        return self

    @model_validator(mode="after")
    def _mixup_blends_mosaics(self) -> Self:
        if self.mixup and not self.mosaic:
            raise ValueError(f"mixup is {self.mixup}, but it blends mosaics, and mosaic is 0: raise mosaic above 0")
        return self
