"""Real loaders and the real evaluation on one, two and three processes: nothing lost, nothing twice, the same numbers."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from harness import run_world

from accel_det.config.schema import RuntimeSection
from accel_det.data.box_images import EvaluationImages, TrainingImages
from accel_det.data.loaders import TrainingStream, evaluation_batches
from accel_det.data.order import EpochOrder, Share, evaluation_slice
from accel_det.data.sources import SetSpec, open_split
from accel_det.data.transforms import Augmentation, ResizeRule
from accel_det.engine.evaluate import evaluate
from accel_det.engine.runtime import make_accelerator
from accel_det.models.base import ZooModel
from accel_det.tasks.detection import DetectionTask
from accel_det.types import Batch, BoxTarget, Detections, Losses

RULE = ResizeRule("letterbox", 64, 64, 32)
IMAGES_PER_UPDATE = 6
EPOCHS = 3
# (sample, epoch-free digest of its augmented pixels) of one update.
Seen = list[tuple[int, str]]


class ColourFinder(ZooModel[BoxTarget, Detections]):
    """Finds the brightest spots; how many, and how sure it is, follows from the pixels alone."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def losses(self, batch: Batch[BoxTarget]) -> Losses:
        raise NotImplementedError

    def predict(self, batch: Batch[BoxTarget]) -> list[Detections]:
        return [self._find(image.float()) for image in batch.images]

    def compilable(self) -> list[torch.nn.Module]:
        return []

    def _find(self, image: torch.Tensor) -> Detections:
        maps = torch.nn.functional.avg_pool2d(image[:2], 16)
        scores, cells = (maps.flatten() / 255).sort(descending=True, stable=True)
        # A third of the images has no detection at all.
        count = int(image.sum()) % 3 * 2
        rows, columns = cells % 16 // 4, cells % 4
        corners = torch.stack((columns, rows), dim=1)[:count] * 16.0
        return Detections(torch.cat((corners, corners + 24), dim=1), scores[:count], cells[:count] // 16)


def table(root: str) -> Any:
    found, _ = open_split({"drawn": SetSpec("drawn", "coco", root)}, "drawn:train")
    return found


def accelerator() -> Any:
    return make_accelerator(RuntimeSection(threads=1), deterministic=False, trackers=[], folder=".")


def consume(root: str, workers_and_micro_batches: list[tuple[int, int]]) -> list[list[Seen]]:
    """What this process sees, update by update, of EPOCHS epochs."""
    world = accelerator()
    images = table(root)
    augmentation = Augmentation(flip=0.5, scale=(0.5, 1.5), translate=0.5, brightness=0.3, hue=0.1)
    lives = []
    for workers, micro in workers_and_micro_batches:
        stream = TrainingStream(
            TrainingImages(images, rule=RULE, augmentation=augmentation),
            order=EpochOrder(len(images), seed=5),
            share=Share(IMAGES_PER_UPDATE, world.num_processes, world.process_index, micro),
            collate=DetectionTask(images.classes, multiple_px=32).collate,
            workers=workers,
            pin_memory=False,
        )
        updates = stream.updates(0)
        lives.append([_seen(next(updates)) for _ in range(EPOCHS * len(images) // IMAGES_PER_UPDATE)])
    return lives


def _seen(batches: list[Batch[BoxTarget]]) -> Seen:
    return [
        (frame.sample_id, hashlib.sha256(image.numpy().tobytes() + target.boxes.numpy().tobytes()).hexdigest())
        for batch in batches
        for image, target, frame in zip(batch.images, batch.targets, batch.frames, strict=True)
    ]


def score(root: str, sizes: list[int], workers: int) -> list[dict[str, str]]:
    """Scores, as hexadecimal text, of the first images of the table."""
    world = accelerator()
    images = table(root)
    found = []
    for size in sizes:
        mine = evaluation_slice(size, world=world.num_processes, rank=world.process_index)
        task = DetectionTask(images.classes, multiple_px=32)
        batches = evaluation_batches(
            EvaluationImages(images, rule=RULE),
            mine,
            batch_size=4,
            collate=task.collate,
            workers=workers,
            pin_memory=False,
        )
        result = evaluate(world, ColourFinder(), task, batches)
        assert result.images == size
        assert len(result.rows) == (size if world.is_main_process else 0)
        found.append({name: float(value).hex() for name, value in result.scores.items()})
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, drawn_images: Path) -> list[Seen]:
    """The updates of one process without workers."""
    folder = tmp_path_factory.mktemp("alone")
    updates: list[Seen] = run_world(consume, 1, str(drawn_images), [(0, 1)], folder=folder)[0][0]
    return updates


def test_one_process_sees_every_image_once_in_each_epoch(alone: list[Seen]) -> None:
    samples = [sample for update in alone for sample, _ in update]
    count = 23
    assert len(samples) >= (EPOCHS - 1) * count
    epochs = [samples[start : start + count] for start in range(0, len(samples) - count + 1, count)]
    assert len(epochs) == EPOCHS - 1 + (len(samples) == EPOCHS * count)
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_any_number_of_processes_and_workers_sees_the_same_images_in_the_same_order_pixel_by_pixel(
    tmp_path: Path, drawn_images: Path, alone: list[Seen], world: int
) -> None:
    cases = [(0, 1), (2, 1), (2, 2 if world == 3 else 3)]
    found = run_world(consume, world, str(drawn_images), cases, folder=tmp_path)
    for case in range(len(cases)):
        lives = [process[case] for process in found]
        assert all(len(life) == len(alone) for life in lives)
        assert [[seen for life in lives for seen in life[step]] for step in range(len(alone))] == alone


@pytest.mark.parametrize("workers", [0, 2])
def test_scores_are_the_same_bits_on_one_two_and_three_processes_also_with_fewer_images_than_processes(
    tmp_path: Path, drawn_images: Path, workers: int
) -> None:
    sizes = [1, 3, 21]
    found = [
        run_world(score, world, str(drawn_images), sizes, workers, folder=tmp_path / str(world)) for world in (1, 2, 3)
    ]
    expected = found[0][0]
    assert len(expected) == len(sizes)
    assert float.fromhex(expected[-1]["AR100"]) > 0, "something is found, or equal would mean nothing"
    for processes in found:
        assert all(process == expected for process in processes)


class Remembering(ColourFinder):
    """Its scores are a running statistic, which differs between processes until an evaluation begins."""

    def __init__(self, statistic: float) -> None:
        super().__init__()
        self.register_buffer("statistic", torch.tensor(statistic))

    def _find(self, image: torch.Tensor) -> Detections:
        return Detections(torch.tensor([[0.0, 0, 8, 8]]), self.statistic.float()[None], torch.zeros(1).long())


def scores_of_rows(root: str) -> list[float]:
    """On the first process, the scores that all processes gave; the network of each is wrapped, and never called so."""
    world = accelerator()
    images = table(root)
    model = Remembering(0.25 * (1 + world.process_index))
    wrapped = world.prepare(model)
    wrapped.register_forward_pre_hook(lambda *_: pytest.fail("evaluated through its wrapping"))
    mine = evaluation_slice(5, world=world.num_processes, rank=world.process_index)
    task = DetectionTask(images.classes, multiple_px=32)
    shown = EvaluationImages(images, rule=RULE)
    batches = evaluation_batches(shown, mine, batch_size=4, collate=task.collate, workers=0, pin_memory=False)
    result = evaluate(world, model, task, batches)
    return [float(row.detections.scores) for row in result.rows]


def test_every_process_evaluates_with_the_statistics_of_the_first(tmp_path: Path, drawn_images: Path) -> None:
    assert run_world(scores_of_rows, 2, str(drawn_images), folder=tmp_path) == [[0.25] * 5, []]
