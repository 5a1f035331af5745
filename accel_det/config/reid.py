"""The keys of a run that learns to tell identities apart."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from accel_det.config.schema import Config, DataSection, EvaluateSection, SetSection
from accel_det.config.section import Positive, Section, Share


class IdentitySet(SetSection):
    format: Literal["market1501", "mars", "msmt17", "cuhk03", "veri", "folders", "table", "hub", "crops", "street"] = (
        Field(description="how the set is stored")
    )
    holdout: Share = Field(
        0.0, description="share of the identities of `train` that split `val` takes, by a hash of their names"
    )
    parameters: dict[str, int | float | str] = Field(
        {}, description="settings of the synthetic street, or names of the columns of a table"
    )


class IdentityAugmentSection(Section):
    flip: Share = Field(0.5, description="probability of mirroring left and right")
    pad_px: Annotated[int, Field(ge=0)] = Field(
        0, description="black border that is added, in pixels of the network's input, before a crop of the input's size"
    )
    crop: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="smallest share of the area that a random crop keeps; 1 crops nothing"
    )
    degrees: Annotated[float, Field(ge=0, le=180)] = Field(
        0.0, description="angle by up to which the picture is turned, either way"
    )
    erase: Share = Field(0.0, description="probability of erasing a rectangle")
    erase_area: list[Share] = Field(
        [0.02, 0.4], min_length=2, max_length=2, description="smallest and largest share of the area that is erased"
    )
    erase_fill: Literal["mean", "random"] = Field("mean", description="what is put there: ImageNet's mean, or noise")
    brightness: Share = Field(0.0, description="factor 1 - x .. 1 + x")
    contrast: Share = Field(0.0, description="factor 1 - x .. 1 + x")
    saturation: Share = Field(0.0, description="factor 1 - x .. 1 + x")
    hue: Annotated[float, Field(ge=0, le=0.5)] = Field(0.0, description="turn of the color wheel, share of a full turn")
    gray: Share = Field(0.0, description="probability of taking the color away")
    local_gray: Share = Field(0.0, description="probability of taking the color of a rectangle away")
    blur: Share = Field(0.0, description="probability of a blur")
    auto_augment: Share = Field(0.0, description="probability of a change of AutoAugment's policy for ImageNet")


class IdentityData(DataSection):
    sets: Mapping[str, IdentitySet] = Field(min_length=1, description="the data sets, by a name of your choice")
    stream_window: Positive = Field(
        256,
        description="neighbouring pictures that are read together, from each of `streams` places, to make groups of; for "
        "streaming",
    )
    size_px: list[Positive] = Field(
        [256, 128], min_length=2, max_length=2, description="height and width of the network's input"
    )
    augment: IdentityAugmentSection = IdentityAugmentSection()
    quarter_turns: bool = Field(
        False,
        description="every training picture turned by 90, 180 and 270 degrees as well, each turn as another identity; for "
        "characters and the like, not for people",
    )
    order: Literal["groups", "shuffled", "sequential"] = Field(
        "groups",
        description="groups of some pictures of some identities, which losses that compare pictures need; every picture once "
        "in a new order every epoch; that of the set",
    )
    identities_per_group: Annotated[int, Field(ge=2)] = Field(8, description="identities of a group")
    images_per_identity: Annotated[int, Field(ge=2)] = Field(4, description="pictures of each identity of a group")
    camera_balanced: bool = Field(
        False, description="the pictures of an identity in a group are of as many cameras as can be; for order: groups"
    )

    @property
    def group_images(self) -> int:
        """Pictures of a group; 0 where the order has none."""
        return self.identities_per_group * self.images_per_identity if self.order == "groups" else 0


class RetrievalSection(EvaluateSection):
    images_per_forward: Positive = Field(64, description="images per process and forward pass")
    metric: Literal["cosine", "euclidean"] = Field("cosine", description="distance of two embeddings")
    same_camera: Literal["exclude", "include"] = Field(
        "exclude",
        description="whether pictures of the query's identity from its own camera are left out, as Market-1501's",
    )
    ranks: list[Positive] = Field([1, 5, 10, 20], min_length=1, description="ranks of the cumulative matching curve")
    multi_query: Literal["none", "mean", "max"] = Field(
        "none", description="queries of one identity and camera are asked together: by their mean, or the best of each"
    )
    rerank: bool = Field(False, description="re-rank by k-reciprocal neighbours; slow for large galleries")
    flip: bool = Field(False, description="embed the mirrored picture as well, and average")


class ReidConfig(Config):
    task: Literal["reid"] = Field("reid", description="what the network learns")
    data: IdentityData
    evaluate: RetrievalSection = RetrievalSection()

    @model_validator(mode="after")
    def _an_update_holds_whole_groups(self) -> Self:
        group, images = self.data.group_images, self.train.images_per_update
        if group and images % group:
            raise ValueError(
                f"train.images_per_update is {images}, which is no whole number of groups of {group} "
                f"(data.identities_per_group {self.data.identities_per_group} x data.images_per_identity "
                f"{self.data.images_per_identity}): choose a multiple of {group}, or data.order: shuffled"
            )
        return self

    @model_validator(mode="after")
    def _cameras_are_balanced_in_groups(self) -> Self:
        if self.data.camera_balanced and self.data.order != "groups":
            raise ValueError(f"data.camera_balanced needs data.order: groups, but that is {self.data.order}")
        return self
