"""From an export to detections: in the pixels of the file, whatever else is in the batch."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from publish_cases import export_info, small_state
from torch import Tensor, nn

from accel_det import inference
from accel_det.data.transforms import ResizeRule
from accel_det.inference import Detector, ImageDetections, load, load_detector, load_embedder
from accel_det.models import zoo
from accel_det.models.base import Inference, ZooModel
from accel_det.publish.export import EmbedderInfo, ExportError, write_export
from accel_det.types import Batch, BoxTarget, Detections, Losses

DATA = Path(os.environ.get("ACCEL_DET_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Finder(ZooModel[BoxTarget, Detections]):
    """Finds the extent of bright pixels of each image, twice; its scores tell the size of the batch image."""

    def losses(self, batch: Batch[BoxTarget]) -> Losses:
        raise AssertionError("a detector does not train")

    def compilable(self) -> list[nn.Module]:
        return []

    def predict(self, batch: Batch[BoxTarget]) -> list[Detections]:
        assert not torch.is_grad_enabled()
        found = []
        for image in batch.images:
            rows, columns = (image.amin(dim=0) > 200).nonzero(as_tuple=True)
            box = torch.stack((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)).float()
            scores = torch.tensor([image.shape[-2] / 1000, image.shape[-1] / 1000])
            order = scores.argsort(descending=True)
            found.append(Detections(box.expand(2, 4), scores[order], torch.tensor([0, 2])[order]))
        return found


def picture(height: int, width: int, box: tuple[int, int, int, int]) -> Tensor:
    pixels = torch.zeros((3, height, width), dtype=torch.uint8)
    left, top, right, bottom = box
    pixels[:, top:bottom, left:right] = 255
    return pixels


def detector(rule: ResizeRule) -> Detector:
    return Detector(Finder(), export_info(resize=rule))


@pytest.mark.parametrize("mode", ["letterbox", "shortest_edge", "stretch"])
@pytest.mark.parametrize(("height", "width"), [(100, 200), (200, 100), (64, 64)])
def test_boxes_come_back_in_pixels_of_the_file(mode: str, height: int, width: int) -> None:
    box = (width // 4, height // 4, width // 2, height // 2)
    rule = ResizeRule(mode, 128, 300)  # type: ignore[arg-type]
    found = detector(rule).detect([picture(height, width, box)], score_threshold=0.0)[0]
    assert (found.height, found.width, found.name) == (height, width, "image 0")
    # Finder sees whole pixels of the resized image: off by at most two of them at each side.
    assert torch.allclose(found.boxes, torch.tensor([box] * 2).float(), atol=2 * max(height, width) / 128)
    assert found.label_names == tuple(("RBC", "WBC", "Platelets")[label] for label in found.labels.tolist())
    assert sorted(found.label_names) == ["Platelets", "RBC"]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 100])
def test_what_is_found_in_an_image_does_not_depend_on_the_others(batch_size: int) -> None:
    sizes = [(60, 40), (40, 60), (60, 40), (33, 99), (40, 60), (60, 40), (50, 50)]
    pictures = [picture(height, width, (3, 4, 20, 30)) for height, width in sizes]
    rule = ResizeRule("shortest_edge", 64, 200)
    alone = [detector(rule).detect([one], score_threshold=0.0)[0] for one in pictures]
    together = detector(rule).detect(pictures, score_threshold=0.0, batch_size=batch_size)
    assert [one.name for one in together] == [f"image {number}" for number in range(7)]
    for one, other in zip(alone, together, strict=True):
        # Scores tell the size of the batch image: were one padded for the sake of another, they would differ.
        assert torch.equal(one.scores, other.scores)
        assert torch.equal(one.boxes, other.boxes)
    assert len({tuple(one.scores.tolist()) for one in alone}) >= 3


def test_the_score_threshold_keeps_what_reaches_it() -> None:
    pictures = [picture(100, 200, (50, 25, 100, 50))]
    rule = ResizeRule("shortest_edge", 128, 300)  # the batch image is 128 x 256: scores 0.256 and 0.128
    by_threshold = {
        t: len(detector(rule).detect(pictures, score_threshold=t)[0].scores) for t in (0.0, 0.2, 0.256, 0.3)
    }
    assert by_threshold == {0.0: 2, 0.2: 1, 0.256: 1, 0.3: 0}
    nothing = detector(rule).detect(pictures, score_threshold=1.0)[0]
    assert nothing.boxes.shape == (0, 4)
    assert nothing.to_coco() == []
    assert detector(rule).detect([]) == []


def test_coco_records_are_json_with_left_top_width_height() -> None:
    found = ImageDetections(
        "a.jpg", 10, 20, torch.tensor([[1.0, 2.0, 4.0, 8.0]]), torch.tensor([0.5]), torch.tensor([2]), ("WBC",)
    )
    record = {"image_id": "a.jpg", "category_id": 2, "category_name": "WBC", "bbox": [1.0, 2.0, 3.0, 6.0], "score": 0.5}
    assert json.loads(json.dumps(found.to_coco())) == [record]
    assert found.to_coco(image_id=7, category_ids=[1, 5, 9]) == [{**record, "image_id": 7, "category_id": 9}]


def test_a_file_a_pillow_image_and_a_tensor_of_the_same_pixels_give_the_same(tmp_path: Path) -> None:
    pixels = picture(90, 70, (10, 20, 40, 60))
    image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    image.save(tmp_path / "a.png")
    pictures = [tmp_path / "a.png", str(tmp_path / "a.png"), image, pixels, image.convert("L"), image.convert("RGBA")]
    found = detector(ResizeRule("letterbox", 64)).detect(pictures, score_threshold=0.0)
    assert [one.name for one in found] == [str(tmp_path / "a.png")] * 2 + [f"image {n}" for n in range(2, 6)]
    assert all(torch.equal(one.boxes, found[0].boxes) for one in found)


def test_an_image_turned_by_its_exif_is_looked_at_upright() -> None:
    upright = picture(90, 70, (10, 20, 40, 60)).permute(1, 2, 0).numpy()
    exif = Image.Exif()
    exif[274] = 6  # stored turned; to be rotated by 90 degrees clockwise
    buffer = io.BytesIO()
    Image.fromarray(np.rot90(upright).copy()).save(buffer, format="PNG", exif=exif)
    found = detector(ResizeRule("letterbox", 64)).detect([Image.open(buffer)], score_threshold=0.0)[0]
    assert (found.height, found.width) == (90, 70)
    straight = detector(ResizeRule("letterbox", 64)).detect([Image.fromarray(upright)], score_threshold=0.0)[0]
    assert torch.equal(found.boxes, straight.boxes)


@pytest.mark.parametrize(
    ("pictures", "said"),
    [
        ("a.jpg", "images is one str, expected a sequence"),
        (["missing.jpg"], r"missing\.jpg: cannot be read \(No such file or directory\)"),
        ([torch.zeros((3, 4, 4))], r"image 0: a torch\.float32 tensor of shape \(3, 4, 4\), expected uint8"),
        ([torch.zeros((4, 4, 3), dtype=torch.uint8)], r"image 0: .* expected uint8 \(3, H, W\)"),
    ],
)
def test_a_picture_that_cannot_be_used_is_an_error_that_names_it(pictures: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        detector(ResizeRule("letterbox", 64)).detect(pictures)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"score_threshold": 1.5}, {"score_threshold": -0.1}, {"batch_size": 0}])
def test_arguments_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"expected \[0, 1\] and at least 1"):
        detector(ResizeRule("letterbox", 64)).detect([], **options)  # type: ignore[arg-type]


def yolov5n_export(folder: Path) -> ZooModel[BoxTarget, Detections]:
    """A network with weights as they are drawn, all of whose candidates count."""
    torch.manual_seed(3)
    keep_all = Inference(score_threshold=0.0, nms_iou=0.6, max_detections=20)
    model = zoo.build("yolov5n", num_classes=3, inference=keep_all)
    info = export_info(options={}, inference=keep_all, resize=ResizeRule("letterbox", 96))
    write_export(folder, state=model.state_dict(), info=info)
    return model


def noise(seed: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


def test_a_network_of_the_zoo_gives_the_same_bits_in_a_fresh_process(tmp_path: Path) -> None:
    model = yolov5n_export(tmp_path / "run" / "export" / "last")
    Image.fromarray(noise(0, 80, 120).permute(1, 2, 0).numpy()).save(tmp_path / "a.png")
    before = torch.get_rng_state()
    here = load(tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), before), "loading draws nothing from the caller's generator"
    assert here.classes == ("RBC", "WBC", "Platelets")
    original = Detector(model, here.info).detect([tmp_path / "a.png"], score_threshold=0.0)[0]
    assert len(original.scores) == 20
    code = (
        "import json, sys, torch; torch.set_num_threads(1); from accel_det.inference import load\n"
        "print(json.dumps(load(sys.argv[1]).detect([sys.argv[2]], score_threshold=0.0)[0].to_coco()))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "run"), str(tmp_path / "a.png")]
    there = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(there.stdout) == original.to_coco()


def test_a_network_of_the_zoo_finds_the_same_whatever_the_batch(tmp_path: Path) -> None:
    yolov5n_export(tmp_path)
    network = load(str(tmp_path))
    pictures = [noise(seed, 60 + 7 * seed, 90 - 5 * seed) for seed in range(5)]
    alone = [network.detect([one], score_threshold=0.0)[0] for one in pictures]
    together = network.detect(pictures, score_threshold=0.0)
    for one, other in zip(alone, together, strict=True):
        # The convolutions of a larger batch may sum in another order; nothing else may differ.
        assert torch.allclose(one.scores, other.scores, atol=1e-6)
        assert torch.allclose(one.boxes, other.boxes, atol=1e-3)
        assert torch.equal(one.labels, other.labels)


def test_a_real_photograph_is_read_and_its_boxes_lie_inside(tmp_path: Path) -> None:
    files = sorted((DATA / "detection" / "bccd").rglob("*.jpg"))[:2]
    if not files:
        pytest.skip(f"no BCCD images below {DATA}")
    yolov5n_export(tmp_path)
    for file, found in zip(files, load(tmp_path).detect(files, score_threshold=0.0), strict=True):
        with Image.open(file) as image:
            assert (found.width, found.height) == image.size
        assert found.name == str(file)
        assert len(found.scores) > 0
        assert (found.boxes >= 0).all()
        assert (found.boxes[:, 0::2] <= found.width).all()
        assert (found.boxes[:, 1::2] <= found.height).all()
        assert (found.scores.diff() <= 0).all()


def test_an_export_of_other_weights_or_of_another_task_is_refused(tmp_path: Path) -> None:
    write_export(tmp_path / "small", state=small_state(), info=export_info())
    with pytest.raises(
        ExportError, match=r"small: model\.safetensors is not of yolov5n with these options \(Missing key"
    ):
        load(tmp_path / "small")
    values = vars(export_info())
    shared = {key: values[key] for key in ("name", "metrics", "data", "training")}
    embedder = EmbedderInfo(model="osnet_x0_25", options={}, size_px=(64, 32), identities=3, **shared)
    weights = zoo.build("osnet_x0_25", num_classes=0).state_dict()
    write_export(tmp_path / "reid", state=weights, info=embedder)
    with pytest.raises(ExportError, match="reid: task is 'reid', expected 'detection'; this export is not a detector"):
        load_detector(tmp_path / "reid")
    yolov5n_export(tmp_path / "boxes")
    with pytest.raises(
        ExportError, match="boxes: task is 'detection', expected 'reid'; this export embeds no pictures"
    ):
        load_embedder(tmp_path / "boxes")


def test_embeddings_have_unit_length_and_do_not_depend_on_the_pictures_beside_them(tmp_path: Path) -> None:
    values = vars(export_info())
    shared = {key: values[key] for key in ("name", "metrics", "data", "training")}
    torch.manual_seed(0)
    weights = zoo.build("osnet_x0_25", num_classes=0).state_dict()
    pictures = list(torch.randint(0, 256, (5, 3, 40, 25), dtype=torch.uint8))
    for flip in (False, True):
        info = EmbedderInfo(model="osnet_x0_25", options={}, size_px=(64, 32), identities=3, flip=flip, **shared)
        write_export(tmp_path / f"flip-{flip}", state=weights, info=info)
        embedder = load_embedder(tmp_path / f"flip-{flip}")
        assert embedder.info == info
        together = embedder.embed(pictures)
        assert together.shape == (5, embedder.num_channels) == (5, 512)
        assert together.norm(dim=1).allclose(torch.ones(5), atol=1e-6)
        assert torch.cat([embedder.embed([picture]) for picture in pictures]).allclose(together, atol=1e-5)
        mirrored = embedder.embed([picture.flip(-1) for picture in pictures])
        assert mirrored.allclose(together, atol=1e-5) == flip
    assert embedder.embed([]).shape == (0, 512)
    with pytest.raises(ValueError, match="put it in a list"):
        embedder.embed("one.jpg")


def test_a_path_is_looked_up_on_the_hub_only_if_nothing_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    yolov5n_export(tmp_path / "fetched")
    asked: list[str] = []

    def fetch(repo: str) -> Path:
        asked.append(repo)
        return tmp_path / "fetched"

    monkeypatch.setattr(inference.hub, "fetch_export", fetch)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ada" / "empty").mkdir(parents=True)
    with pytest.raises(ExportError, match="no export in it"):
        load("ada/empty")
    for wrong in (Path("ada/detector"), "./ada/detector", "no-such-folder", "/ada/detector"):
        with pytest.raises(ExportError, match="no such folder; expected an export"):
            load(wrong)
    (tmp_path / "ada" / "file").touch()
    with pytest.raises(ExportError, match="a file, expected the export folder"):
        load("ada/file")
    assert asked == []
    assert load("ada/detector").classes == ("RBC", "WBC", "Platelets")
    assert asked == ["ada/detector"]
