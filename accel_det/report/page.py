"""One HTML file with everything in it: it needs no network and no other file."""

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from accel_det.report.pictures import Color

_KINDS = {".png": "image/png", ".jpg": "image/jpeg"}

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #181b1f; background: #f3f5f8; margin: 0; }
main { max-width: 1240px; margin: 0 auto; padding: 24px; }
section, header { background: #fff; border: 1px solid #e2e6eb; border-radius: 10px; padding: 20px 28px; margin: 0 0 20px; }
h1 { font-size: 26px; margin: 4px 0 8px; } h2 { font-size: 19px; margin: 0 0 8px; }
p { margin: 4px 0; color: #4b535c; max-width: 80ch; }
h1, h2, p, figcaption { overflow-wrap: anywhere; }
table { border-collapse: collapse; margin: 12px 0; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 18px 4px 0; text-align: right; border-bottom: 1px solid #e2e6eb; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
td:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 5em; max-width: 20em; }
th { font-weight: 600; color: #4b535c; }
.wide { overflow-x: auto; } .row { display: flex; flex-wrap: wrap; gap: 16px; }
.row img { display: block; max-width: 100%; height: auto; }
.row figure { margin: 8px 0; max-width: 100%; overflow-x: auto; }
figcaption { color: #68707a; font-size: 14px; }
.key { display: inline-block; margin: 2px 16px 2px 0; }
.key i { display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin-right: 6px; }
@media (max-width: 640px) { main { padding: 8px; } section, header { padding: 12px 14px; margin: 0 0 8px; } }
"""

_LEGIBLE_PX = 560
"""A picture that is shown wider than this is scrolled on a narrow screen, for it would be too small."""


class Picture(NamedTuple):
    """A picture file, how wide it is shown, and what it shows."""

    file: Path
    width_px: int
    caption: str


class Section(NamedTuple):
    """A part of a page.

    Attributes:
        title: its heading.
        text: paragraphs.
        table: rows of cells, the first are the heads; empty for none.
        pictures: side by side where there is room.
        colors: names and their colors, above the pictures.
    """

    title: str
    text: Sequence[str] = ()
    table: Sequence[Sequence[str]] = ()
    pictures: Sequence[Picture] = ()
    colors: Sequence[tuple[str, Color]] = ()


def render_page(title: str, intro: Sequence[str], sections: Sequence[Section]) -> str:
    """The text of a page; all that it says is taken as text, not as HTML."""
    head = f"<h1>{_text(title)}</h1>{_paragraphs(intro)}"
    body = "\n".join(f"<section>{_section(section)}</section>" for section in sections)
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{_text(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n'
        f"<body><main>\n<header>{head}</header>\n{body}\n</main></body>\n</html>\n"
    )


def _section(section: Section) -> str:
    parts = [f"<h2>{_text(section.title)}</h2>", _paragraphs(section.text)]
    if section.table:
        heads, *rows = section.table
        lines = ["".join(f"<th>{_text(cell)}</th>" for cell in heads)]
        lines += ["".join(f"<td>{_text(cell)}</td>" for cell in row) for row in rows]
        parts.append('<div class="wide"><table>' + "".join(f"<tr>{line}</tr>" for line in lines) + "</table></div>")
    if section.colors:
        keys = "".join(
            f'<span class="key"><i style="background: rgb{color}"></i>{_text(name)}</span>'
            for name, color in section.colors
        )
        parts.append(f"<p>{keys}</p>")
    if section.pictures:
        parts.append(
            '<div class="row">' + "".join(_picture(picture, section.title) for picture in section.pictures) + "</div>"
        )
    return "\n".join(filter(None, parts))


def _picture(picture: Picture, title: str) -> str:
    content = base64.b64encode(picture.file.read_bytes()).decode("ascii")
    source = f"data:{_KINDS[picture.file.suffix]};base64,{content}"
    caption = f"<figcaption>{_text(picture.caption)}</figcaption>" if picture.caption else ""
    least = f' style="min-width: {_LEGIBLE_PX}px"' if picture.width_px > _LEGIBLE_PX else ""
    alt = _text(picture.caption or title)
    return f'<figure><img src="{source}" width="{picture.width_px}"{least} alt="{alt}">{caption}</figure>'


def _paragraphs(lines: Sequence[str]) -> str:
    return "".join(f"<p>{_text(line)}</p>" for line in lines)


def _text(value: str) -> str:
    return html.escape(value, quote=True)
