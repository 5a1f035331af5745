"""The list of networks, as a table and as the page of the documentation."""

import os
from pathlib import Path

import pytest

from accel_det.cli import models
from accel_det.models import zoo

ROOT = Path(__file__).parents[2]


def test_the_page_of_the_documentation_is_what_the_command_writes(capsys: pytest.CaptureFixture[str]) -> None:
    assert models.run(["--markdown"]) == 0
    written = capsys.readouterr().out
    assert (ROOT / "docs" / "models.md").read_text(encoding="utf-8") == written, (
        "write docs/models.md anew: accel-det models --markdown > docs/models.md"
    )
    assert written.count("\n| `") == len(zoo.names())


def test_every_network_is_listed_with_size_cost_licence_and_source() -> None:
    found = models.listings([zoo.card(name) for name in zoo.names()])
    rows = [row for listing in found for row in listing.rows]
    assert len(rows) == len(zoo.names()) >= 20
    for listing in found:
        for name, parameters, operations, size, resize, licence, note in listing.rows:
            card = zoo.card(name)
            assert float(parameters) == pytest.approx(card.parameters_m, abs=0.06)
            assert float(operations) == pytest.approx(card.gflops, abs=0.06)
            assert (resize, licence) == (card.resize, card.licence)
            assert [int(side) for side in size.split("x")] == list(dict.fromkeys(card.input_px))
            assert listing.sources[int(note.strip("[]")) - 1] == card.source


def test_the_table_fits_100_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "COLUMNS", "100")
    assert models.run([]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if line.strip().startswith(zoo.names())]
    assert len(rows) == len(zoo.names())  # none is broken over two lines
    assert max(len(line.rstrip()) for line in rows) <= 100
    assert not any("…" in line for line in lines)


def test_one_network_is_shown_with_what_can_be_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert models.run(["yolov5n"]) == 0
    shown = capsys.readouterr().out
    assert "level_balance" in shown
    assert "tuple[float, ...]" in shown
