"""The page of `show-data` in a real browser, wide and as on a phone: nothing fails to load, nothing hangs over the edge."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from PIL import Image

from accel_det.cli import show_data

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
LONG = "a_class_whose_name_has_no_place_to_break_" * 3

# Runs after the page has loaded; what it finds is read from the document that the browser dumps.
MEASURE = """
<script>
addEventListener("load", () => {
  const box = (it) => { const r = it.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom].map(Math.round); };
  const found = {
    width: innerWidth, needed: document.documentElement.scrollWidth, height: document.documentElement.scrollHeight,
    images: [...document.images].map((it) => ({alt: it.alt, pixels: it.naturalWidth, box: box(it), frame: box(it.parentNode)})),
    sections: [...document.querySelectorAll("section")].map((it) => ({title: it.querySelector("h2").innerText, box: box(it)})),
  };
  document.body.insertAdjacentHTML("beforeend", "<pre id=found>" + JSON.stringify(found) + "</pre>");
});
</script>
"""


class Shown(NamedTuple):
    """A page as a browser of some width shows it: what was measured, what the console said, and the picture of it all."""

    found: dict[str, Any]
    console: list[str]
    screenshot: Image.Image


def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("no Chromium here: `apt-get install chromium-headless-shell`, or any of " + ", ".join(BROWSERS))
    return found


def open_page(page: Path, *, width_px: int, folder: Path) -> Shown:
    measured = folder / "measured.html"
    measured.write_text(page.read_text("utf-8").replace("</main>", f"</main>{MEASURE}"), "utf-8")
    options = [browser(), "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"]

    def call(*more: str) -> subprocess.CompletedProcess[str]:
        command = [*options, f"--user-data-dir={folder / 'profile'}", *more]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)

    done = call(f"--window-size={width_px},900", "--dump-dom", measured.as_uri())
    text = re.search('<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert text is not None, f"the page did not load: {done.stdout[-300:]} {done.stderr[-300:]}"
    found = json.loads(text[1])
    file = folder / f"page-{width_px}.png"
    call(f"--window-size={width_px},{found['height']}", f"--screenshot={file}", page.as_uri())
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    with Image.open(file) as screenshot:
        return Shown(found, console, screenshot.convert("RGB"))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of colored squares in COCO's format, with everything that a page may show: a defect of a long name, a mirrored copy."""
    browser()
    root = tmp_path_factory.mktemp("page")
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        images, objects = [], []
        for number in range(6):
            name = f"{'a_folder_without_a_place_to_break_' * 4}/{number}.png"
            pixels = np.kron(rng.integers(0, 256, (6, 8, 3)), np.ones((20, 20, 1))).astype(np.uint8)
            if split == "val" and number == 0:
                with Image.open(root / "train" / name) as picture:
                    pixels = np.asarray(picture)[:, ::-1]
            (root / split / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / split / name)
            images.append({"id": number, "file_name": name, "width": 160, "height": 120})
            objects += [
                {
                    "id": 3 * number + k,
                    "image_id": number,
                    "category_id": k,
                    "bbox": [9 * k, 5, 30 + 40 * k, 20 + 30 * k],
                }
                for k in range(3)
            ]
        objects[0]["bbox"] = [0, 0, 0, 9]  # a defect that is repaired, and told of
        categories = [{"id": k, "name": name} for k, name in enumerate(("car", LONG, "dog"))]
        document = {"images": images, "annotations": objects, "categories": categories}
        (root / split / "_annotations.coco.json").write_text(json.dumps(document), "utf-8")
    config = {
        "name": "page",
        "model": {"name": "yolov5n"},
        "data": {
            "sets": {"set": {"format": "coco", "root": str(root)}},
            "train": "set:train",
            "val": "set:val",
            "resize": {"size_px": 160},
        },
        "train": {"epochs": 1, "images_per_update": 2},
    }
    (root / "page.yaml").write_text(yaml.safe_dump(config), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        assert show_data.run([str(root / "page.yaml"), "--out", str(root / "out")]) == 0
    return root / "out" / "index.html"


@pytest.mark.parametrize("width_px", [1280, 400])
def test_the_page_of_show_data_is_whole_in_a_browser(page: Path, width_px: int, tmp_path: Path) -> None:
    shown = open_page(page, width_px=width_px, folder=tmp_path)
    found = shown.found
    assert shown.console == []
    assert found["width"] == width_px
    assert found["needed"] <= width_px, "something hangs over the edge"
    assert [section["title"] for section in found["sections"]] == [
        *("Splits", "Classes", "Objects", "Anchors", "Near-duplicates", "Images of train")
    ]
    assert len(found["images"]) == 7
    assert all(image["pixels"] > 0 and image["alt"] for image in found["images"]), (
        "an image did not load, or says nothing"
    )
    assert shown.screenshot.size == (width_px, found["height"])
    pixels = np.asarray(shown.screenshot).astype(int)
    for image in found["images"]:
        left, top, right, bottom = image["box"]
        visible = pixels[top:bottom, left : min(right, image["frame"][2])]
        assert visible.shape[1] >= min(300, right - left) and visible.std() > 5, f"{image['alt']} is blank"
        assert right - left <= width_px or image["frame"][2] <= width_px, "a wide picture is scrolled in its frame"
    for section in found["sections"]:
        left, top, right, bottom = section["box"]
        assert 0 <= left < right <= width_px and (pixels[top:bottom, left:right] < 100).any(), section["title"]


def test_a_picture_that_cannot_be_loaded_and_a_word_that_is_too_long_are_noticed(page: Path, tmp_path: Path) -> None:
    """What the test above would see if the page were broken."""
    text = page.read_text("utf-8").replace("data:image/png;base64,", "data:image/png;base64,AAAA", 1)
    text = text.replace("overflow-wrap: anywhere", "").replace("<main>", "<main><script>console.error('oh')</script>")
    broken = tmp_path / "broken.html"
    broken.write_text(text, "utf-8")
    shown = open_page(broken, width_px=400, folder=tmp_path)
    assert [image["pixels"] for image in shown.found["images"]].count(0) == 1
    assert shown.found["needed"] > 400
    assert len(shown.console) == 1 and "oh" in shown.console[0]
