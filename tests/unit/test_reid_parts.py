"""What the parts of a re-identification run make of the configuration's data."""

from pathlib import Path

import pytest
from identity_trees import market_names, rows, write_pictures

from accel_det.cli.compose import parts_of
from accel_det.config.reid import ReidConfig


def config(root: Path, *, quarter_turns: bool) -> ReidConfig:
    data = {
        "sets": {"m": {"format": "market1501", "root": str(root)}},
        "train": "m:train",
        "val": "m:test",
        "quarter_turns": quarter_turns,
    }
    return ReidConfig.model_validate(
        {"name": "n", "model": {"name": "osnet_x0_25"}, "data": data, "train": {"steps": 1, "images_per_update": 32}}
    )


@pytest.mark.parametrize(("quarter_turns", "times"), [(False, 1), (True, 4)])
def test_quarter_turns_are_learned_from_and_never_evaluated_on(quarter_turns: bool, times: int, tmp_path: Path) -> None:
    write_pictures(tmp_path, market_names([1, 2, 3]))
    for folder in ("query", "bounding_box_test"):
        write_pictures(tmp_path, market_names([4], folder=folder))
    tables = parts_of(config(tmp_path, quarter_turns=quarter_turns)).open_tables(read_images=True)
    assert len(tables.train) == 6 * times and len(tables.train.identities) == 3 * times
    assert [tables.val.quarter_turns(index) for index in range(4)] == [0] * 4
    assert rows(tables.val) == rows(parts_of(config(tmp_path, quarter_turns=False)).open_tables().val)
    assert tables.report.splits["train"].pictures == 6
