"""`accel-det embed` and `accel-det search` as a user types them, on people of the synthetic street."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from accel_det.cli import embed, search
from accel_det.cli.failures import guarded
from accel_det.data import street
from accel_det.inference import Embedder, load_embedder
from accel_det.metrics.saved_embeddings import SavedEmbeddings, read_embeddings, write_embeddings
from accel_det.models import zoo
from accel_det.models.reid.model import without_heads
from accel_det.publish.export import write_export
from accel_det.publish.info import EmbedderInfo, TrainingInfo
from accel_det.report.ranked_lists import RIGHT, WRONG, Verdict
from accel_det.types import Batch, IdentityTarget, Role

PEOPLE = 4


class Colors(nn.Module):
    """Looks at the mean color of a grid of cells, so that near things look alike."""

    def forward(self, batch: Batch[IdentityTarget]) -> list[Tensor]:
        cells = nn.functional.adaptive_avg_pool2d(batch.images.float(), (4, 2)).flatten(1)
        return list(nn.functional.normalize(cells - cells.mean(1, keepdim=True)))


def info(**changes: Any) -> EmbedderInfo:
    values: dict[str, Any] = {
        "name": "people",
        "model": "colors",
        "options": {},
        "size_px": (64, 32),
        "identities": PEOPLE,
        "metrics": {"mAP": 0.5},
        "data": {},
        "training": TrainingInfo(7, 0, "train people.yaml", {}),
    }
    return EmbedderInfo(**values | changes)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with pictures of four people by one camera; `load_embedder` opens a network that needs no training."""
    monkeypatch.chdir(tmp_path)
    for module in (embed, search):
        monkeypatch.setattr(module, "load_embedder", lambda path, device: Embedder(Colors(), info(name=str(path))))
    shots: dict[int, int] = {}
    for crop in street.crops(3, identities=PEOPLE, cameras=1, per_camera=3):
        shot = shots[crop.identity] = shots.get(crop.identity, 0) + 1
        file = tmp_path / ("asked" if shot == 1 else "gallery") / f"{crop.identity}-{shot}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(crop.image).save(file)
    return tmp_path


def answered(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found = capsys.readouterr()
    assert found.out.count("\n") == 1, "one line of JSON on stdout and nothing else"
    values: dict[str, Any] = json.loads(found.out)
    return values | {"said": found.err}


def results(folder: Path = Path("search")) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("suffix", ["parquet", "npz"])
def test_embed_writes_what_the_network_gives_for_every_picture(suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = Path(f"new/e.{suffix}")
    arguments = ["people", "gallery", "asked/*-1.png", "gallery/0-2.png", "--batch_size", "3", "--out", str(out)]
    assert embed.run([*arguments, "--json"]) == 0
    found = answered(capsys)
    saved = read_embeddings(out)
    files = [*sorted(Path("gallery").iterdir()), *sorted(Path("asked").iterdir())]
    assert saved.names == [str(file) for file in files], "in the order of the arguments, each file once"
    expected = Embedder(Colors(), info()).embed(files)
    np.testing.assert_allclose(saved.embeddings, expected.numpy(), atol=1e-6)
    assert saved.identities is None and saved.cameras is None and saved.roles is None
    assert (found["images"], found["embedded"], found["dimension"], found["skipped"]) == (12, 12, 24, [])
    assert found["model"] == saved.model and saved.model.startswith("people: colors, update 7, ")


def test_files_that_cannot_be_read_are_named_and_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    (Path("gallery") / "1-bad.png").write_bytes(b"no picture")
    (Path("gallery") / "0-bad.jpg").write_bytes(b"")
    assert embed.run(["people", "gallery", "--out", "e.npz", "--batch_size", "4", "--json"]) == 0
    found = answered(capsys)
    assert len(found["skipped"]) == 2 and all(any(n in s for s in found["skipped"]) for n in ("1-bad.png", "0-bad.jpg"))
    assert found["said"].count("skipped: ") == 2
    assert (found["images"], found["embedded"]) == (10, 8)
    good = sorted(file for file in Path("gallery").iterdir() if "bad" not in file.name)
    assert read_embeddings(Path("e.npz")).names == [str(file) for file in good]
    np.testing.assert_allclose(
        read_embeddings(Path("e.npz")).embeddings, Embedder(Colors(), info()).embed(good).numpy(), atol=1e-6
    )
    assert guarded(embed.run, ["people", "gallery/*bad*", "--out", "none.npz"]) == 2
    assert "nothing could be embedded of the 2 images" in capsys.readouterr().err
    assert not Path("none.npz").exists()


def test_search_finds_a_copy_first_and_never_the_file_itself(capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy("asked/2-1.png", "gallery/copy.png")
    assert search.run(["people", "asked/2-1.png", "gallery", "--top", "3"]) == 0
    (only,) = results()
    assert only["query"] == "asked/2-1.png" and [answer["rank"] for answer in only["answers"]] == [1, 2, 3]
    assert only["answers"][0]["name"] == "gallery/copy.png"
    assert only["answers"][0]["similarity"] == pytest.approx(1, abs=1e-6)
    assert [a["similarity"] for a in only["answers"]] == sorted(
        (a["similarity"] for a in only["answers"]), reverse=True
    )
    said = capsys.readouterr().out
    assert "gallery/copy.png" in said and "1.0000" in said
    assert search.run(["people", "gallery", "./gallery/", "--out", "within", "--top", "99"]) == 0
    for found in results(Path("within")):
        assert found["query"] not in [answer["name"] for answer in found["answers"]]
        assert len(found["answers"]) == 8


def test_pictures_without_identities_are_drawn_neither_right_nor_wrong() -> None:
    assert search.run(["people", "asked", "gallery"]) == 0
    assert len(results()) == PEOPLE and all("identity" not in found for found in results())
    pixels = np.asarray(Image.open("search/ranked.jpg")).astype(int)
    assert all((np.abs(pixels - color).max(axis=2) < 12).sum() < 50 for color in (RIGHT, WRONG))


@pytest.mark.parametrize("suffix", ["parquet", "npz"])
def test_searching_saved_embeddings_gives_what_searching_the_pictures_gives(
    suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search.run(["people", "asked", "gallery", "--out", "pictures", "--json"]) == 0
    assert answered(capsys)["queries"] == PEOPLE
    for name in ("asked", "gallery"):
        assert embed.run(["people", name, "--out", f"{name}.{suffix}"]) == 0
    capsys.readouterr()
    assert search.run(["people", f"asked.{suffix}", f"gallery.{suffix}", "--out", "saved", "--json"]) == 0
    assert answered(capsys) | {"said": ""} == {
        "out": "saved",
        "queries": PEOPLE,
        "gallery": 8,
        "results": str(Path("saved/results.json")),
        "skipped": [],
        "said": "",
    }
    for one, other in zip(results(Path("pictures")), results(Path("saved")), strict=True):
        assert [a["name"] for a in one["answers"]] == [a["name"] for a in other["answers"]]
    shutil.rmtree("gallery")
    assert search.run(["people", f"asked.{suffix}", f"gallery.{suffix}", "--out", "gone"]) == 0
    assert results(Path("gone")) == results(Path("saved")), "pictures that are gone are still found"


def test_roles_and_identities_of_a_file_are_heeded() -> None:
    """Queries are those with the role; a distractor is wrong; the picture frames right ones green, wrong ones red."""
    files = [*sorted(Path("asked").iterdir()), *sorted(Path("gallery").iterdir())]
    vectors = Embedder(Colors(), info()).embed(files).numpy()
    identities = [None if file.name.startswith("3") else file.name[0] for file in files]
    roles = [Role.QUERY if file.parent.name == "asked" else Role.GALLERY for file in files]
    saved = SavedEmbeddings([str(f) for f in files], vectors, identities, ["north"] * 12, roles)
    write_embeddings(Path("all.parquet"), saved)
    assert search.run(["people", "all.parquet", "all.parquet"]) == 0
    found = results()
    assert [one["query"] for one in found] == [str(file) for file in files[:PEOPLE]]
    assert {answer["name"] for answer in found[0]["answers"]} == {str(file) for file in files[PEOPLE:]}
    assert found[0]["identity"] == "0" and found[0]["camera"] == "north"
    pixels = np.asarray(Image.open("search/ranked.jpg")).astype(int)
    assert all((np.abs(pixels - color).max(axis=2) < 12).sum() > 2000 for color in (RIGHT, WRONG))
    write_embeddings(Path("gallery.npz"), saved.keep(range(4, 12)))
    assert guarded(search.run, ["people", "gallery.npz", "all.parquet"]) == 2


def test_embeddings_of_another_network_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert embed.run(["people", "gallery", "--out", "g.parquet"]) == 0
    capsys.readouterr()
    assert guarded(search.run, ["others", "asked", "g.parquet"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: g.parquet: embedded by `people: colors, update 7, ")
    assert "but the run is `others: " in said and said.count("\n") == 1
    write_embeddings(Path("short.npz"), SavedEmbeddings(["a"], np.ones((1, 1), np.float32)))
    assert guarded(search.run, ["people", "asked", "short.npz"]) == 2
    assert "embeddings have 1 numbers, those of the run 24" in capsys.readouterr().err


def test_an_export_embeds_and_finds_and_saved_embeddings_of_it_are_known_as_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (embed, search):
        monkeypatch.setattr(module, "load_embedder", load_embedder)
    torch.manual_seed(0)
    network = zoo.build("osnet_x0_25", num_classes=PEOPLE)
    for folder, score in (("export", 0.5), ("later", 0.75)):
        described = info(model="osnet_x0_25", metrics={"mAP": score}, run_config="name: people\n")
        write_export(Path(folder), state=without_heads(network.state_dict()), info=described)
    shutil.copy("asked/2-1.png", "gallery/copy.png")
    assert embed.run(["export", "gallery", "--out", "g.parquet", "--batch_size", "4"]) == 0
    files = sorted(Path("gallery").iterdir())
    expected = load_embedder("export").embed(files)
    np.testing.assert_allclose(read_embeddings(Path("g.parquet")).embeddings, expected.numpy(), atol=1e-5)
    assert search.run(["export", "asked", "g.parquet", "--top", "1"]) == 0
    assert results()[2]["answers"][0]["name"] == "gallery/copy.png"
    assert results()[2]["answers"][0]["similarity"] == pytest.approx(1, abs=1e-5)
    capsys.readouterr()
    assert guarded(search.run, ["later", "asked", "g.parquet"]) == 2
    assert "g.parquet: embedded by `people: osnet_x0_25, update 7, " in capsys.readouterr().err


def test_one_network_has_one_line_and_another_step_or_score_another_one() -> None:
    lines = {embed.model_line(one) for one in (info(), info(), info(metrics={"mAP": 0.6}), info(flip=True))}
    assert len(lines) == 3
    assert embed.model_line(info(training=TrainingInfo(8, 0, "", {}))) not in lines


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["embed", "people", "nowhere", "--out", "e.npz"], "nowhere: no image there"),
        (["embed", "people", "gallery", "--out", "e.txt"], "ends in .parquet or .npz"),
        (["embed", "people", "gallery", "--out", "e.npz", "--batch_size", "0"], "--batch_size is 0"),
        (["search", "people", "asked", "nowhere.parquet"], "nowhere.parquet: no such file"),
        (["search", "people", "asked", "gallery", "--top", "0"], "--top is 0"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    name, *rest = arguments
    assert guarded({"embed": embed, "search": search}[name].run, rest) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1 and said.startswith("error: ")
    assert not list(Path().glob("e.*"))


def test_the_table_and_the_picture_are_short_where_there_are_many_queries(capsys: pytest.CaptureFixture[str]) -> None:
    queries = SavedEmbeddings([f"q{n}.jpg" for n in range(23)], _turned(23))
    heights = []
    for count in (20, 23):
        write_embeddings(Path("q.npz"), queries.keep(range(count)))
        capsys.readouterr()
        assert search.run(["people", "q.npz", "gallery", "--top", "2"]) == 0
        assert len(results()) == count
        heights.append(Image.open("search/ranked.jpg").height)
    said = capsys.readouterr().out
    assert "q19.jpg" in said and "q20.jpg" not in said and "... and 3 more queries" in said
    assert heights[0] == heights[1]


def test_an_answer_is_right_wrong_a_distractor_or_not_known() -> None:
    asked = SavedEmbeddings(["q", "r"], _turned(2), ["anna", None])
    known = SavedEmbeddings(["a", "b", "c"], _turned(3), ["anna", "berta", None])
    found = [[search.verdict(asked, query, known, position) for position in range(3)] for query in range(2)]
    assert found == [[Verdict.RIGHT, Verdict.WRONG, Verdict.DISTRACTOR], [Verdict.UNKNOWN] * 3]
    for queries, gallery in ((asked._replace(identities=None), known), (asked, known._replace(identities=None))):
        assert search.verdict(queries, 0, gallery, 0) is Verdict.UNKNOWN


def test_search_names_the_files_that_it_cannot_read(capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("asked", "gallery"):
        (Path(folder) / "bad.png").write_bytes(b"no picture")
    assert search.run(["people", "asked", "gallery", "--json"]) == 0
    found = answered(capsys)
    assert [line.partition(":")[0] for line in found["skipped"]] == ["asked/bad.png", "gallery/bad.png"]
    assert (found["queries"], found["gallery"], found["said"].count("skipped: ")) == (PEOPLE, 8, 2)


def _turned(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    vectors = torch.randn((count, 24), generator=torch.Generator().manual_seed(0))
    unit: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = nn.functional.normalize(vectors).numpy()
    return unit
