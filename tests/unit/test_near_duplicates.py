"""Pictures that look alike are found, and others are not; the search misses nothing that comparing all pairs finds."""

import io
import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from data_sets import coco_document, kinds, write_coco
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from accel_det.data import inspection, near_duplicates
from accel_det.data.check import check_tables
from accel_det.data.inspection import inspect, remembered, twins_of
from accel_det.data.near_duplicates import MAX_BITS, Hashes, find_twins, mirrored, perceptual_hash
from accel_det.data.records import DetectionTable
from accel_det.data.sources import open_split

NUM_PICTURES = 60


@lru_cache(maxsize=256)
def picture(seed: int, *, height: int = 180, width: int = 240) -> NDArray[np.uint8]:
    """(H, W, 3) noise with the spectrum of photographs, amplitude 1 / frequency (Field 1987), a third of it of each color."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    frequency[0, 0] = np.inf
    layers = [np.fft.ifft2(np.fft.fft2(rng.normal(size=(height, width))) / frequency).real for _ in range(4)]
    colors = np.stack([layers[3] + layer / 3 for layer in layers[:3]], axis=2)
    return (120 + 45 * colors / colors.std()).clip(10, 245).astype(np.uint8)


def tensor(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)


def hashes_of(pictures: list[NDArray[np.uint8]]) -> Hashes:
    found = [perceptual_hash(tensor(pixels)) for pixels in pictures]
    assert None not in found
    return np.array(found, np.uint64)


def reencoded(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=25)
    return np.asarray(Image.open(file))


def resized(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(pixels).resize((97, 61), Image.Resampling.BICUBIC))


def brightened(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return (pixels.astype(np.int64) + 35).clip(0, 255).astype(np.uint8)


def darkened(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return (pixels * 0.5).astype(np.uint8)


def gray(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(pixels).convert("L").convert("RGB"))


@pytest.mark.parametrize("change", [reencoded, resized, brightened, darkened, gray])
@pytest.mark.parametrize("turned", [False, True])
def test_a_changed_copy_finds_its_picture_among_sixty(
    change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]], turned: bool
) -> None:
    pictures = [picture(seed) for seed in range(NUM_PICTURES)]
    copies = [change(pixels[:, ::-1] if turned else pixels) for pixels in pictures]
    twins = find_twins(hashes_of(copies), hashes_of(pictures))
    assert twins.asked.tolist() == twins.known.tolist() == list(range(NUM_PICTURES))
    assert twins.mirrored.tolist() == [turned] * NUM_PICTURES


def test_different_pictures_do_not_match() -> None:
    """Of 64 fair bits 3 or fewer differ with probability 2.4e-15; the 1,770 pairs of sixty pictures are far from it."""
    hashes = hashes_of([picture(seed) for seed in range(NUM_PICTURES)])
    others = hashes_of([picture(seed) for seed in range(1000, 1000 + NUM_PICTURES)])
    assert len(find_twins(hashes, others).asked) == 0
    differences = np.bitwise_count(hashes[:, None] ^ hashes[None])[np.triu_indices(NUM_PICTURES, 1)]
    assert differences.min() > 4 * MAX_BITS and abs(differences.mean() - 32) < 2


def test_the_hash_of_a_mirrored_picture_follows_from_that_of_the_picture() -> None:
    """But for rounding, where a frequency is next to 0: at most one bit of 64."""
    pictures = [picture(seed) for seed in range(NUM_PICTURES)]
    turned = hashes_of([pixels[:, ::-1] for pixels in pictures])
    assert np.bitwise_count(mirrored(hashes_of(pictures)) ^ turned).max() <= 1
    assert np.bitwise_count(mirrored(turned) ^ turned).min() == 29, (
        "odd horizontal ones of the 64 frequencies nearest to 0"
    )


@pytest.mark.parametrize("pixels", [np.full((50, 70, 3), 200, np.uint8), np.zeros((1, 1, 3), np.uint8)])
def test_a_picture_of_one_shade_has_no_hash(pixels: NDArray[np.uint8]) -> None:
    assert perceptual_hash(tensor(pixels)) is None
    noise = pixels + np.random.default_rng(0).integers(0, 3, pixels.shape, dtype=np.uint8)
    assert perceptual_hash(tensor(noise)) is None


def near(hashes: Hashes, rng: np.random.Generator, *, most_bits: int) -> Hashes:
    """Hashes with up to so many bits turned, anywhere."""
    turned = [sum(1 << int(bit) for bit in rng.choice(64, rng.integers(0, most_bits + 1), False)) for _ in hashes]
    return hashes ^ np.array(turned, np.uint64)


@pytest.mark.parametrize("at_once", [1 << 22, 50])
def test_the_search_finds_what_comparing_all_pairs_finds(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """900 against 700 hashes in clusters, with repeated ones, so that distances of 0 to 6 are all frequent."""
    monkeypatch.setattr(near_duplicates, "_AT_ONCE", at_once)
    rng = np.random.default_rng(3)
    centers = rng.integers(0, 1 << 64, 300, np.uint64)
    known = near(np.resize(centers, 700), rng, most_bits=4)
    asked = near(np.resize(centers, 900), rng, most_bits=4)
    asked[::3] = mirrored(asked[::3])
    upright = np.bitwise_count(asked[:, None] ^ known[None]).astype(int)
    turned = np.bitwise_count(mirrored(asked)[:, None] ^ known[None]).astype(int)
    least = np.minimum(upright.min(axis=1), turned.min(axis=1))
    expected = np.flatnonzero(least <= 3)
    twins = find_twins(asked, known)
    assert twins.asked.tolist() == expected.tolist()
    assert set(least[expected].tolist()) == {0, 1, 2, 3} and 300 < len(expected) < 900
    assert twins.bits.tolist() == least[expected].tolist()
    chosen = np.where(twins.mirrored[:, None], turned[expected], upright[expected])
    assert twins.known.tolist() == chosen.argmin(axis=1).tolist(), "of equally near ones the first"


def test_nothing_asked_and_nothing_known_is_nothing_found() -> None:
    some, none = np.arange(5, dtype=np.uint64), np.zeros(0, np.uint64)
    for asked, known in ((some, none), (none, some), (none, none)):
        assert len(find_twins(asked, known).asked) == 0


def test_a_hundred_thousand_hashes_are_searched_without_comparing_all_pairs() -> None:
    """All pairs would be 2 x 10^8; a tenth of the hashes share a band here, so that what is compared is far from even."""
    rng = np.random.default_rng(0)
    known = rng.integers(0, 1 << 64, 100_000, np.uint64)
    known[::10] >>= np.uint64(16)
    asked = near(known[:2000], rng, most_bits=3)
    assert find_twins(asked, known).known.tolist() == list(range(2000))


def two_splits(root: Path, *, seed_of_val: int = 0) -> tuple[DetectionTable, DetectionTable]:
    """Two images each; a of val is that of train as a small JPEG, mirrored, under the name of a PNG."""
    document = coco_document()
    document["images"] = [image | {"width": 240, "height": 180} for image in document["images"]]
    for split in ("train", "val"):
        spec = write_coco(root, document, split=split)
        for seed, name in enumerate(("a.png", "b.png")):
            pixels = picture(seed) if split == "train" or name == "a.png" else picture(90)
            Image.fromarray(pixels[:, ::-1] if split == "val" else pixels).save(root / split / name, "PNG")
    sets = {"set": spec}
    train, _ = open_split(sets, "set:train")
    return train, open_split(sets, "set:val", classes=train.classes)[0]


def test_check_reports_a_mirrored_copy_and_goes_on(tmp_path: Path) -> None:
    train, val = two_splits(tmp_path)
    assert "near_duplicate" not in kinds(check_tables(train, val, [], read_images=False).defects)
    report = check_tables(train, val, [], read_images=True)
    (found,) = [defect for defect in report.defects if defect.kind == "near_duplicate"]
    assert found.file == "set/val/a.png" and not report.stops
    assert found.value.startswith("looks like set/train/a.png in train: mirrored, ")


def test_the_same_bytes_are_leakage_and_not_a_near_duplicate_too(tmp_path: Path) -> None:
    train, val = two_splits(tmp_path)
    (tmp_path / "val" / "a.png").write_bytes((tmp_path / "train" / "a.png").read_bytes())
    assert kinds(check_tables(train, val, [], read_images=True).defects) == {"leakage": 1, "same_name": 1}


def test_several_processes_see_what_one_sees_also_of_files_that_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = {**coco_document(), "annotations": []}
    document["images"] = [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in range(70)]
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "_annotations.coco.json").write_text(json.dumps(document), "utf-8")
    for index in range(70):
        Image.fromarray(picture(index, height=30, width=40)).save(tmp_path / "train" / f"{index}.png")
    spec = write_coco(tmp_path, document)
    damaged = tmp_path / "train" / "66.png"
    damaged.write_bytes(damaged.read_bytes()[:-300])
    train, _ = open_split({"set": spec}, "set:train")
    alone = inspect(train)
    monkeypatch.setattr(inspection, "_WORTH_A_PROCESS", 20)
    monkeypatch.setattr(inspection, "cores", lambda: 3)
    together = inspect(train)
    assert together.faults == alone.faults and list(alone.faults) == [66] and "66.png" in alone.faults[66]
    assert together.hashes.tolist() == alone.hashes.tolist()
    assert together.hashed.tolist() == [index for index in range(70) if index != 66]


def test_images_are_decoded_again_only_where_a_file_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    train, val = two_splits(tmp_path)
    decoded = []
    look = inspection._look
    monkeypatch.setattr(
        inspection, "_look", lambda table, index: decoded.append(table.name(index)) or look(table, index)
    )
    for _ in range(2):
        twins = twins_of(remembered(val), remembered(train))
        assert (twins.asked.tolist(), twins.known.tolist(), twins.mirrored.tolist()) == ([0], [0], [True])
    assert sorted(decoded) == ["set/train/a.png", "set/train/b.png", "set/val/a.png", "set/val/b.png"]
    Image.fromarray(picture(91)).save(tmp_path / "val" / "a.png", "PNG")
    assert len(twins_of(remembered(val), remembered(train)).asked) == 0
    assert decoded[4:] == ["set/val/a.png", "set/val/b.png"]
