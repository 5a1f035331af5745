"""The parts of a run that learns to tell identities apart."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from accel_det.cli import identity_turns
from accel_det.cli.compose import (
    Network,
    Provenance,
    Tables,
    build_network,
    costly_sample,
    mend,
    set_specs,
    validation_stream,
)
from accel_det.cli.embed import model_line
from accel_det.cli.retrieval_pictures import draw_retrieval
from accel_det.config.load import dump
from accel_det.config.reid import ReidConfig
from accel_det.config.schema import Config
from accel_det.data.augment.identity import IdentityAugmentation
from accel_det.data.bad_images import leave_out, repeat_identity
from accel_det.data.identities import IdentityTable, with_quarter_turns
from accel_det.data.identity_check import check_identity_tables
from accel_det.data.identity_images import IdentityEvaluationImages, IdentityImages
from accel_det.data.identity_sources import open_identities
from accel_det.data.loaders import TrainingStream
from accel_det.data.order import Draw, Share
from accel_det.data.stream_feed import StreamFeed, evaluation_feed
from accel_det.draws import mix
from accel_det.engine.console import Console
from accel_det.engine.evaluate import Evaluation
from accel_det.engine.runtime import Accelerator
from accel_det.inference.embedder import build_embedder
from accel_det.metrics.retrieval import RetrievalRule
from accel_det.metrics.saved_embeddings import SavedEmbeddings, write_embeddings
from accel_det.models import zoo
from accel_det.models.reid.model import WithMirror, without_heads
from accel_det.models.zoo import OptionValue
from accel_det.publish.info import EmbedderInfo, ExportInfo
from accel_det.tasks.reid import ReidTask
from accel_det.types import Batch, IdentityTarget

IdentityTables = Tables[IdentityTable]

_OF_DATA = {
    "group_images": "data.identities_per_group and data.images_per_identity",
    "input_px": "data.size_px",
    "num_cameras": "the cameras of the training data",
}
"""Options of networks that the data decide."""


def make_parts(config: Config) -> "ReidParts":
    assert isinstance(config, ReidConfig)
    return ReidParts(config)


class ReidParts:
    """Fulfils `compose.Parts` for identities."""

    def __init__(self, config: ReidConfig) -> None:
        self.config = config
        self.unit = config.data.group_images or 2  # of a single picture no norm of features has a variance
        self.has_pictures = True

    @property
    def size_px(self) -> tuple[int, int]:
        height, width = self.config.data.size_px
        return height, width

    def check(self) -> None:
        """A loss that compares pictures needs groups, and the network knows its groups from the order of data."""
        section = self.config.model
        for name, source in _OF_DATA.items():
            if name in section.options:
                raise ValueError(f"model.options.{name} follows from {source}: leave it out")
        defaults = {key: default for key, (_, default) in zoo.option_table(section.name).items()}
        compares = section.options.get("metric_loss", defaults.get("metric_loss", "none")) != "none"
        if compares and not self.config.data.group_images:
            raise ValueError(
                f"model.options.metric_loss compares pictures of a group, but data.order is {self.config.data.order}: set "
                "data.order to groups, or metric_loss to none"
            )

    def open_tables(self, *, read_images: bool = False) -> IdentityTables:
        data, specs = self.config.data, set_specs(self.config)
        train, found = open_identities(specs, data.train, training=True)
        val, more = open_identities(specs, data.val, training=False, cameras=train.cameras)
        exclude = self.config.evaluate.same_camera == "exclude"
        report = check_identity_tables(
            train, val, [*found, *more], read_images=read_images, exclude_same_camera=exclude
        )
        return Tables(with_quarter_turns(train) if data.quarter_turns else train, val, report)

    def open_validation(self, info: ExportInfo) -> IdentityTable:
        assert isinstance(info, EmbedderInfo)
        specs = set_specs(self.config)
        table, found = open_identities(specs, self.config.data.val, training=False, cameras=info.cameras)
        exclude = self.config.evaluate.same_camera == "exclude"
        check_identity_tables(None, table, found, read_images=False, exclude_same_camera=exclude).require()
        return table

    def turns_per_epoch(self, train: IdentityTable) -> int:
        return identity_turns.turns_per_epoch(self.config, train)

    def make_network(self, tables: IdentityTables, *, device_type: str) -> Network:
        return build_network(
            self.config,
            num_classes=len(tables.train.identities),
            device_type=device_type,
            options=self._options(tables.train),
        )

    def trained(self, info: ExportInfo, state: Mapping[str, Tensor]) -> nn.Module:
        return build_embedder(self._as_configured(info), state)

    def for_evaluation(self, model: nn.Module) -> nn.Module:
        return WithMirror(model) if self.config.evaluate.flip else model

    def make_task(self, val: IdentityTable) -> ReidTask:
        section = self.config.evaluate
        return ReidTask(
            RetrievalRule(
                metric=section.metric,
                exclude_same_camera=section.same_camera == "exclude",
                ranks=tuple(section.ranks),
                multi_query=section.multi_query,
                rerank=section.rerank,
            )
        )

    def training_stream(
        self, train: IdentityTable, task: ReidTask, *, share: Share, pin_memory: bool
    ) -> TrainingStream[IdentityTarget]:
        images, turns = train.streamed, identity_turns.stream_turns(self.config, train)
        feed = (
            None if images is None or turns is None else partial(StreamFeed, images, turns, seed=self.config.train.seed)
        )
        return TrainingStream(
            self._images(train),
            order=identity_turns.epoch_order(self.config, train, streamed=turns),
            share=share,
            collate=task.collate,
            workers=self.config.data.workers,
            pin_memory=pin_memory,
            open_feed=feed,
            mend=mend(self.config, repeat_identity if self.config.data.group_images else leave_out),
        )

    def validation_stream(
        self, val: IdentityTable, task: ReidTask, accelerator: Accelerator
    ) -> Callable[[], Iterator[Batch[IdentityTarget]]]:
        images = IdentityEvaluationImages(val, size_px=self.size_px)
        deliver = None if val.streamed is None else evaluation_feed(val.streamed, window=self.config.data.stream_window)
        return validation_stream(self.config, images, task, accelerator, length=len(val), deliver=deliver)

    def costly_batches(self, train: IdentityTable, task: ReidTask) -> Callable[[int], Batch[IdentityTarget]]:
        images = self._images(train)

        def make(count: int) -> Batch[IdentityTarget]:
            draws = [Draw(place % len(train), 0, mix(self.config.train.seed, place)) for place in range(count)]
            return task.collate([costly_sample(self.config, images, draw) for draw in draws])

        return make

    def describe(self, tables: IdentityTables) -> list[str]:
        return identity_turns.describe(self.config, tables.train)

    def agreement(self, train: IdentityTable) -> dict[str, object]:
        return identity_turns.agreement(self.config, train)

    def labels_text(self, train: IdentityTable) -> str:
        return f"{len(train.identities)} identities, {len(train.cameras)} cameras"

    def facts(self, tables: IdentityTables) -> dict[str, Any]:
        return {
            "identities": {"train": len(tables.train.identities), "val": len(tables.val.identities)},
            "cameras": {"train": list(tables.train.cameras), "val": list(tables.val.cameras)},
        }

    def input_text(self) -> str:
        height, width = self.size_px
        return f"{height}x{width} px"

    def details(self, console: Console, scores: Mapping[str, float], train: IdentityTable) -> None:
        queries, lost = scores.get("queries", 0.0), scores.get("queries_without_match", 0.0)
        if lost:
            console.say(f"{int(queries)} queries were scored; {int(lost)} more have no match in the gallery")

    def export_info(self, tables: IdentityTables, made: Provenance) -> EmbedderInfo:
        config = self.config
        return EmbedderInfo(
            name=config.name,
            model=config.model.name,
            options={**made.options, **self._lasting_options(tables.train)},
            size_px=self.size_px,
            flip=config.evaluate.flip,
            identities=len(tables.train.identities),
            cameras=tables.train.cameras if config.model.options.get("camera_embedding") else (),
            metrics=made.metrics,
            data=made.data,
            training=made.training,
            run_config=dump(config),
            licence=config.push.licence,
        )

    def exported(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return without_heads(weights)

    def save(self, file: Path, found: Evaluation, val: IdentityTable, info: ExportInfo) -> str:
        """Each picture once, in the order of the split, however many processes embedded it."""
        rows = {row.sample_id: row for row in found.rows}
        order = sorted(rows)
        identities, cameras = ("", *val.identities), ("", *val.cameras)
        write_embeddings(
            file,
            SavedEmbeddings(
                names=[val.name(sample_id) for sample_id in order],
                embeddings=np.stack([rows[sample_id].embedding.numpy() for sample_id in order]),
                identities=[identities[rows[sample_id].identity + 1] or None for sample_id in order],
                cameras=[cameras[rows[sample_id].camera + 1] or None for sample_id in order],
                roles=[rows[sample_id].role for sample_id in order],
                model=model_line(self._as_configured(info)),
            ),
        )
        return f"`accel-det search RUN QUERY {file}` looks pictures up in it"

    def draw(self, folder: Path, found: Evaluation, val: IdentityTable) -> list[Path]:
        return draw_retrieval(folder, found.rows, val, self.make_task(val).rule)

    def _as_configured(self, info: ExportInfo) -> EmbedderInfo:
        """An export, with or without its mirror as the configuration says."""
        assert isinstance(info, EmbedderInfo)
        return dataclasses.replace(info, flip=self.config.evaluate.flip)

    def _images(self, train: IdentityTable) -> IdentityImages:
        values = self.config.data.augment.model_dump()
        area = values.pop("erase_area")
        return IdentityImages(
            train, size_px=self.size_px, augmentation=IdentityAugmentation(erase_area=(area[0], area[1]), **values)
        )

    def _options(self, train: IdentityTable) -> dict[str, OptionValue]:
        return {
            **self.config.model.options,
            **self._lasting_options(train),
            "group_images": self.config.data.group_images,
        }

    def _lasting_options(self, train: IdentityTable) -> dict[str, OptionValue]:
        """What a network has to know of the data, where it has such options."""
        known = zoo.option_table(self.config.model.name)
        of_data: dict[str, OptionValue] = {
            "input_px": [float(side) for side in self.size_px],
            "num_cameras": len(train.cameras),
        }
        return {name: value for name, value in of_data.items() if name in known}
