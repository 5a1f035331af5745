"""Prepared pictures of identities: the same people as in the set, beside each other, in either kind of shard."""

import io
from pathlib import Path

import datasets
import pytest
from identity_trees import market_names, picture_bytes, write_pictures
from PIL import Image

from accel_det.data.identities import IdentityTable
from accel_det.data.identity_sources import open_identities
from accel_det.data.prepare import Kind, Preparation
from accel_det.data.prepare_identities import write_identity_splits
from accel_det.data.sources import SetSpec
from accel_det.types import Role


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def market(tmp_path: Path) -> dict[str, SetSpec]:
    root = tmp_path / "market"
    write_pictures(root, market_names([2, 1, 3]))
    write_pictures(root, market_names([4, 5], folder="query"))
    write_pictures(root, market_names([4, 5, 0], folder="bounding_box_test"))
    return {"m": SetSpec("m", "market1501", str(root))}


def people(table: IdentityTable) -> set[tuple[bytes, str, str, int]]:
    """Picture, identity, camera and role of each, without the names of sets."""
    identities, cameras = ("-1", *table.identities), ("", *table.cameras)
    found = set()
    for index in range(len(table)):
        target = table.target(index)
        identity, camera = identities[target.identity + 1], cameras[target.camera + 1]
        found.add((table.image_bytes(index), identity.split("/")[-1], camera.split("/")[-1], target.role))
    return found


@pytest.mark.parametrize("kind", ["parquet", "webdataset"])
def test_prepared_shards_hold_the_people_of_the_set_beside_each_other(
    tmp_path: Path, market: dict[str, SetSpec], kind: Kind
) -> None:
    train, _ = open_identities(market, "m:train", training=True)
    test, _ = open_identities(market, "m:test", training=False)
    made = tmp_path / "made"
    assert set(write_identity_splits(train, "train", made, Preparation(kind), workers=1)) == {"train"}
    found = write_identity_splits(test, "val", made, Preparation(kind), workers=2)
    assert {name: sum(shard.images for shard in shards) for name, shards in found.items()} == {
        "query": int((test.roles() == Role.QUERY).sum()),
        "gallery": int((test.roles() == Role.GALLERY).sum()),
    }
    sets = {"made": SetSpec("made", "hub", str(made), streaming=True)}
    again, _ = open_identities(sets, "made:train", training=True)
    assert people(again) == people(train) and len(again) == len(train)
    assert again.labels().tolist() == sorted(train.labels().tolist())
    assert set(again.names()) == {f"made/{name}" for name in train.names()}
    evaluated, defects = open_identities(sets, "made:test", training=False)
    assert people(evaluated) == people(test) and (evaluated.labels() < 0).sum() == (test.labels() < 0).sum() > 0
    assert not defects


def test_prepared_pictures_open_in_plain_datasets_and_may_be_made_smaller(
    tmp_path: Path, market: dict[str, SetSpec]
) -> None:
    train, _ = open_identities(market, "m:train", training=True)
    write_identity_splits(train, "train", tmp_path / "made", Preparation(max_side_px=6), workers=1)
    rows = datasets.load_dataset("parquet", data_dir=str(tmp_path / "made" / "data"), split="train")
    assert {row["image"].size for row in rows} == {(3, 6)}
    assert Image.open(io.BytesIO(picture_bytes(0))).size == (6, 12)
    assert rows["identity"] == sorted(rows["identity"]) and set(rows["camera"]) == {name[2:] for name in train.cameras}


def test_a_set_without_queries_of_its_own_stays_one_split_and_a_lost_file_is_named(
    tmp_path: Path, market: dict[str, SetSpec]
) -> None:
    sets = {"m": market["m"]._replace(holdout=0.4)}
    val, _ = open_identities(sets, "m:val", training=False)
    assert set(write_identity_splits(val, "val", tmp_path / "made", Preparation(), workers=1)) == {"val"}
    lost = val.path(0)
    assert lost is not None
    Path(lost).unlink()
    with pytest.raises(ValueError, match=r"\.(jpg|png): cannot be read: No such file"):
        write_identity_splits(val, "other", tmp_path / "made", Preparation(), workers=1)
