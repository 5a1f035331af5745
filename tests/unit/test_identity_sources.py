"""Joining sets of identities, and splits by identity that every process finds alike."""

import hashlib
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from identity_trees import kinds, market_names, opened, rows, write_pictures

from accel_det.data.identities import IdentityTable, with_quarter_turns
from accel_det.data.identity_sources import IDENTITY_FORMATS, held_out_identities, open_identities
from accel_det.data.sources import SetSpec
from accel_det.types import IdentityTarget, Role


def market(root: Path, name: str = "m", **fields: object) -> SetSpec:
    return SetSpec(name, "market1501", str(root))._replace(**fields)  # type: ignore[arg-type]


def test_sets_are_joined_without_joining_identities_or_cameras(tmp_path: Path) -> None:
    write_pictures(tmp_path / "a", market_names([1, 2]))
    write_pictures(tmp_path / "b", market_names([2, 3], cameras=[2, 10]))
    sets = {"b": market(tmp_path / "b", "b"), "a": market(tmp_path / "a", "a")}
    table, defects = open_identities(sets, "b:train + a:train", training=True)
    assert defects == [] and table.set_names == ("b", "a")
    assert table.identities == ("a/0001", "a/0002", "b/0002", "b/0003")
    assert table.cameras == ("a/c1", "a/c2", "b/c2", "b/c10")
    assert table.labels().tolist() == [2, 2, 3, 3, 0, 0, 1, 1]
    assert table.camera_numbers().tolist() == [3, 2, 3, 2, 0, 1, 0, 1]  # c10 is listed before c2
    assert table.target(0) == IdentityTarget(2, 3, Role.BOTH)
    assert table.name(4) == "a/bounding_box_train/0001_c1s1_000151_00.jpg"
    assert table.image_bytes(4) == (tmp_path / "a/bounding_box_train/0001_c1s1_000151_00.jpg").read_bytes()
    assert table.path(4) == str(tmp_path / "a/bounding_box_train/0001_c1s1_000151_00.jpg") == table.paths()[4]
    assert table.names()[4] == table.name(4)


def test_splits_of_one_set_share_its_identities(tmp_path: Path) -> None:
    write_pictures(tmp_path, market_names([1], cameras=[1], folder="query"))
    write_pictures(tmp_path, market_names([1, 5], cameras=[2], folder="bounding_box_test"))
    sets = {"m": market(tmp_path)}
    joined, _ = open_identities(sets, "m:query + m:gallery", training=False)
    test, _ = open_identities(sets, "m:test", training=False)
    assert rows(joined) == rows(test) and joined.fingerprint == test.fingerprint
    assert joined.labels().tolist() == [0, 0, 1]
    trained, _ = open_identities(sets, "m:test", training=True)
    assert trained.identities == ("m/0001", "m/0005") and trained.labels().tolist() == [0, 0, 1]


def test_known_cameras_keep_their_numbers(tmp_path: Path) -> None:
    write_pictures(tmp_path, market_names([1], cameras=[3, 9]))
    known = ("m/c1", "m/c2", "m/c3")
    table, _ = open_identities({"m": market(tmp_path)}, "m:train", training=False, cameras=known)
    assert table.cameras == (*known, "m/c9") and table.camera_numbers().tolist() == [2, 3]


def test_a_table_survives_pickling_and_an_index_beyond_it_is_refused(tmp_path: Path) -> None:
    write_pictures(tmp_path, market_names([1, 2]))
    table, _ = opened(market(tmp_path, accept=("name_mismatch",)))
    again: IdentityTable = pickle.loads(pickle.dumps(table))
    assert rows(again) == rows(table) and again.fingerprint == table.fingerprint and again.accept == {"name_mismatch"}
    assert [again.image_bytes(i) for i in range(4)] == [table.image_bytes(i) for i in range(4)]
    for index in (-1, 4):
        with pytest.raises(IndexError):
            table.image_bytes(index)
    assert all(column.dtype == np.int64 for column in (table.labels(), table.camera_numbers(), table.roles()))
    (tmp_path / "bounding_box_train/0001_c1s1_000151_00.jpg").unlink()
    with pytest.raises(ValueError, match=r"0001_c1s1_000151_00\.jpg: cannot be read"):
        table.image_bytes(0)


def test_each_quarter_turn_of_a_picture_is_of_an_identity_of_its_own(tmp_path: Path) -> None:
    write_pictures(tmp_path, market_names([1, 0, 2]))
    table, _ = open_identities({"m": market(tmp_path)}, "m:train", training=False)
    assert table.labels().tolist() == [-1, -1, 0, 0, 1, 1]  # identity 0 is a distractor
    turned = with_quarter_turns(table)
    assert len(turned) == 24 and turned.paths() == table.paths() * 4
    assert turned.identities == (
        "m/0001", "m/0002",
        "m/0001 turned by 90 degrees", "m/0002 turned by 90 degrees",
        "m/0001 turned by 180 degrees", "m/0002 turned by 180 degrees",
        "m/0001 turned by 270 degrees", "m/0002 turned by 270 degrees",
    )  # fmt: skip
    for index in range(24):
        turns, upright = divmod(index, 6)
        label, camera, role = table.target(upright)
        assert turned.quarter_turns(index) == turns and turned.image_bytes(index) == table.image_bytes(upright)
        assert turned.target(index) == IdentityTarget(-1 if label < 0 else label + 2 * turns, camera, role)
    assert turned.name(23) == f"{table.name(5)} turned by 270 degrees"
    assert len(set(turned.names())) == 24 and turned.fingerprint != table.fingerprint
    again = pickle.loads(pickle.dumps(turned))
    assert rows(again) == rows(turned) and again.quarter_turns(23) == 3


def test_the_fingerprint_is_of_names_identities_cameras_and_roles(tmp_path: Path) -> None:
    digests = set()
    for number, names in enumerate(
        (
            ["a/1_c1.png", "b/2_c1.png"],
            ["a/1_c1.png", "b/3_c1.png"],  # another name
            ["a/1_c1.png", "a/2_c1.png"],  # another identity
            ["a/1_c1.png", "b/2_c2.png"],  # another camera
            ["query/a/1_c1.png", "gallery/b/2_c1.png"],
        )
    ):
        root = write_pictures(tmp_path / str(number), names)
        split = "test" if "query" in names[0] else "train"
        digests.add(opened(SetSpec("f", "folders", str(root)), split, training=False)[0].fingerprint)
    assert len(digests) == 5
    copy = write_pictures(tmp_path / "copy", ["a/1_c1.png", "b/2_c1.png"])
    assert opened(SetSpec("f", "folders", str(copy)), training=False)[0].fingerprint in digests


@pytest.mark.parametrize(("number", "share"), [(54, 14 / 54), (54, 0.26), (10, 0.01), (7, 0.5), (3, 0.4)])
def test_holdout_takes_the_identities_with_the_smallest_hash(number: int, share: float) -> None:
    names = [f"{index:04d}" for index in range(number)]
    expected = sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    assert held_out_identities(reversed(names), share) == set(expected[: max(1, round(share * number))])
    assert len(held_out_identities(names * 3, share)) == max(1, round(share * number))


def test_holdout_that_leaves_nobody_to_train_on_is_refused(tmp_path: Path) -> None:
    write_pictures(tmp_path, market_names([0, 5]))
    with pytest.raises(ValueError, match=r"set 'm', holdout 0\.5: 1 of 1 identities are held out"):
        opened(market(tmp_path, holdout=0.5))
    with pytest.raises(ValueError, match=r"holdout: 1\.5 is not a share"):
        opened(market(tmp_path, holdout=1.5))


def test_val_has_every_picture_of_the_held_out_identities_and_train_all_others(tmp_path: Path) -> None:
    write_pictures(tmp_path, market_names(range(21)))
    write_pictures(tmp_path, market_names([77], cameras=[1], folder="query"))
    write_pictures(tmp_path, market_names([77], cameras=[2], folder="bounding_box_test"))
    spec = market(tmp_path, holdout=0.25)
    train, val = opened(spec)[0], opened(spec, "val")[0]
    assert len(val.identities) == 5 and len(train.identities) == 15  # 0000 is a distractor
    assert not set(train.identities) & set(val.identities) and not set(train.names()) & set(val.names())
    assert len(train) == 30 and len(val) == 10 and (val.roles() == Role.BOTH).all() and (val.labels() >= 0).all()
    assert opened(spec, "test")[0].identities == ("m/0077",)  # official splits stay


SPLIT_IN_ANOTHER_PROCESS = """
import sys
from accel_det.data.identity_sources import open_identities
from accel_det.data.sources import SetSpec
spec = SetSpec("m", "market1501", sys.argv[1], holdout=0.3)
for split in ("train", "val"):
    table, _ = open_identities({"m": spec}, f"m:{split}", training=split == "train")
    print(table.fingerprint)
"""


def test_every_process_draws_the_same_split_so_nothing_validated_on_was_trained_on_elsewhere(tmp_path: Path) -> None:
    """A trainer that draws it with `random.sample` in each process has most of its validation pictures trained on."""
    write_pictures(tmp_path, market_names(range(1, 31)))
    spec = market(tmp_path, holdout=0.3)
    here = [opened(spec, split)[0] for split in ("train", "val")]
    drawn, held_out = [], []
    for rank in range(4):  # as four processes, whose generators stand elsewhere
        random.seed(rank)
        np.random.seed(rank)
        drawn.append(set(random.sample(range(1, 31), 9)))
        again = [opened(spec, split)[0] for split in ("train", "val")]
        assert [table.fingerprint for table in again] == [table.fingerprint for table in here]
        held_out.append(set(again[1].identities))
    assert any(of_rank - drawn[0] for of_rank in drawn[1:])  # validated on by one, trained on by the first
    assert not any(of_rank - held_out[0] for of_rank in held_out)
    environment = {**os.environ, "PYTHONHASHSEED": "7", "RANK": "1", "WORLD_SIZE": "2"}
    done = subprocess.run(
        [sys.executable, "-c", SPLIT_IN_ANOTHER_PROCESS, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [table.fingerprint for table in here]


def test_an_identity_keeps_its_side_under_another_name_of_the_set_and_with_more_pictures(tmp_path: Path) -> None:
    write_pictures(tmp_path, market_names(range(1, 31)))
    before = opened(market(tmp_path, holdout=0.3), "val")[0]
    write_pictures(tmp_path, market_names([3, 4, 5], cameras=[4, 5]))
    after = opened(market(tmp_path, "other", holdout=0.3), "val")[0]
    assert [name.partition("/")[2] for name in before.identities] == [
        name.partition("/")[2] for name in after.identities
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "coco"}, "format: 'coco' is none of market1501, mars, msmt17, cuhk03, veri, folders, table, hub"),
        ({"root": "/nowhere"}, "root: no folder '/nowhere'"),
        ({"parameters": {"seed": 1}}, "format market1501 reads none, but there are seed"),
        ({"accept": ("nonsense",)}, "'nonsense' is no kind of defect"),
        ({"accept": ("junk_picture",)}, "'junk_picture' has no repair to accept"),
    ],
)
def test_a_set_that_is_configured_wrongly_is_refused(change: dict[str, object], message: str, tmp_path: Path) -> None:
    write_pictures(tmp_path, market_names([1, 2]))
    with pytest.raises(ValueError, match=message) as caught:
        opened(market(tmp_path)._replace(**change))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_split_of_no_use_is_refused_with_what_was_found(tmp_path: Path) -> None:
    write_pictures(tmp_path, market_names([1], folder="query"))
    write_pictures(tmp_path, ["bounding_box_test/-1_c1s1_000001_00.jpg", "bounding_box_train/me.jpg"])
    spec = market(tmp_path)
    with pytest.raises(
        ValueError, match=r"'m:query' of .* has no gallery among its 2 pictures; a split 'test' has both"
    ):
        opened(spec, "query")
    with pytest.raises(
        ValueError, match=r"'m:gallery' of .* has no identity among its 0 pictures.*1 pictures of nobody"
    ):
        opened(spec, "gallery")
    with pytest.raises(ValueError, match=r"'m:train' of .* has no identity.*'me\.jpg' where identity_c"):
        opened(spec)
    write_pictures(tmp_path, market_names([1], folder="bounding_box_test"))
    with pytest.raises(ValueError, match=r"'m:gallery' of .* has no query"):
        opened(spec, "gallery")


def test_the_formats_are_those_that_configurations_may_name() -> None:
    assert set(IDENTITY_FORMATS) == {
        *("market1501", "mars", "msmt17", "cuhk03", "veri", "folders", "table", "hub", "crops", "street")
    }


def test_kinds_that_a_set_accepts_are_kept_for_the_check(tmp_path: Path) -> None:
    write_pictures(tmp_path, market_names([1, 2]))
    sets = {name: market(tmp_path, name, accept=(kind,)) for name, kind in (("a", "leakage"), ("b", "name_mismatch"))}
    table, defects = open_identities(sets, "a:train + b:train", training=True)
    assert table.accept == {"leakage", "name_mismatch"} and kinds(defects) == {}
