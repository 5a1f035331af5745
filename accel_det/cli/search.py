"""`accel-det search RUN QUERY GALLERY`: the pictures of a gallery that look most like each query."""

import argparse
import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from PIL import Image
from rich.table import Table

from accel_det.cli.embed import embed_files, model_line
from accel_det.cli.failures import DONE, answer
from accel_det.cli.image_files import find_images
from accel_det.data.decode import decode
from accel_det.engine.console import Console
from accel_det.engine.runtime import default_device
from accel_det.inference import Embedder, load_embedder
from accel_det.metrics.nearest import Match, each_once, nearest
from accel_det.metrics.saved_embeddings import FORMATS, SavedEmbeddings, read_embeddings
from accel_det.report.ranked_lists import ANSWERS, Answer, RankedRow, Shown, Verdict, draw_ranked_lists
from accel_det.types import Role

# Of so many queries the lists are printed and drawn; results.json has all.
_SHOWN_QUERIES = 20
_SIDE_HELP = "image, folder, pattern, or file that `accel-det embed` wrote"


def run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="accel-det search",
        description="Find the pictures of a gallery that look most like each query.",
        epilog="writes OUT/results.json and OUT/ranked.jpg. A file is never its own answer. Exit codes: 0 done; 2 bad input.",
    )
    parser.add_argument("run", help="folder of a run or export, or owner/name on the Hub")
    parser.add_argument("query", help=f"what is looked for: {_SIDE_HELP}")
    parser.add_argument("gallery", help=f"where it is looked for: {_SIDE_HELP}")
    parser.add_argument("--top", type=int, default=10, help="answers to each query; 10")
    parser.add_argument("--out", type=Path, default=Path("search"), help="folder for the results; `search`")
    parser.add_argument("--batch_size", type=int, default=64, help="pictures per forward pass; 64")
    parser.add_argument("--device", default=default_device(), help="cpu, cuda, cuda:1, ...")
    parser.add_argument("--json", action="store_true", help="one machine-readable result on stdout, all else on stderr")
    options = parser.parse_args(list(arguments))
    if options.top < 1:
        raise ValueError(f"--top is {options.top}, expected at least 1")
    console = Console(speaks=True, to_stderr=options.json)
    embedder = load_embedder(options.run, device=options.device)
    skipped: list[str] = []

    def embeddings_of(source: str, role: Role) -> SavedEmbeddings:
        if Path(source).suffix in FORMATS:
            return each_once(_read(Path(source), embedder, role))
        files = list(dict.fromkeys(find_images([source])))
        saved, failures = embed_files(embedder, files, batch_size=options.batch_size, say=console.say)
        skipped.extend(failures)
        return each_once(saved)

    queries, gallery = embeddings_of(options.query, Role.QUERY), embeddings_of(options.gallery, Role.GALLERY)
    lists = nearest(queries, gallery, top=options.top)
    _show(console, queries, gallery, lists)
    options.out.mkdir(parents=True, exist_ok=True)
    results = options.out / "results.json"
    results.write_text(json.dumps(_as_json(queries, gallery, lists), indent=1) + "\n", encoding="utf-8")
    picture = draw_ranked_lists(_rows(queries, gallery, lists), measure="cosine similarity", title=embedder.info.name)
    picture.save(options.out / "ranked.jpg", quality=92)
    console.say(
        f"queries: {len(queries.names)}, gallery: {len(gallery.names)} pictures; {results}, {options.out / 'ranked.jpg'}"
    )
    if options.json:
        counts = {"queries": len(queries.names), "gallery": len(gallery.names)}
        answer({"out": str(options.out), **counts, "results": str(results), "skipped": skipped})
    return DONE


def verdict(queries: SavedEmbeddings, query: int, gallery: SavedEmbeddings, position: int) -> Verdict:
    """What an answer is to its query, as far as identities are known."""
    if queries.identities is None or gallery.identities is None or queries.identities[query] is None:
        return Verdict.UNKNOWN
    identity = gallery.identities[position]
    if identity is None:
        return Verdict.DISTRACTOR
    return Verdict.RIGHT if identity == queries.identities[query] else Verdict.WRONG


def _read(file: Path, embedder: Embedder, role: Role) -> SavedEmbeddings:
    """The pictures of a file that have a role, or all where there are no roles; of this network."""
    saved = read_embeddings(file)
    mine = model_line(embedder.info)
    if saved.model and saved.model != mine:
        raise ValueError(f"{file}: embedded by `{saved.model}`, but the run is `{mine}`; embed the pictures again")
    length = embedder.num_channels
    if saved.embeddings.shape[1] != length:
        raise ValueError(
            f"{file}: embeddings have {saved.embeddings.shape[1]} numbers, those of the run {length}; "
            "embed the pictures again"
        )
    if saved.roles is None:
        return saved
    kept = saved.keep([place for place, found in enumerate(saved.roles) if found & role])
    if not kept.names:
        raise ValueError(f"{file}: no picture has the role of {(role.name or '').lower()}; choose another file")
    return kept


def _show(
    console: Console, queries: SavedEmbeddings, gallery: SavedEmbeddings, lists: Sequence[Sequence[Match]]
) -> None:
    table = Table("query", "rank", "gallery", "similarity")
    for name, found in list(zip(queries.names, lists, strict=True))[:_SHOWN_QUERIES]:
        for place, match in enumerate(found, start=1):
            shown = name if place == 1 else ""
            table.add_row(shown, str(place), gallery.names[match.position], f"{match.similarity:.4f}")
        if not found:
            table.add_row(name, "-", "nothing but itself", "-")
    console.show(table, whole=True)
    if len(lists) > _SHOWN_QUERIES:
        console.say(f"... and {len(lists) - _SHOWN_QUERIES} more queries")


def _as_json(
    queries: SavedEmbeddings, gallery: SavedEmbeddings, lists: Sequence[Sequence[Match]]
) -> list[dict[str, object]]:
    results: list[dict[str, object]] = []
    for query, found in enumerate(lists):
        answers = [
            {
                "rank": place,
                "name": gallery.names[match.position],
                "similarity": match.similarity,
                **_known(gallery, match.position),
            }
            for place, match in enumerate(found, start=1)
        ]
        results.append({"query": queries.names[query], **_known(queries, query), "answers": answers})
    return results


def _known(saved: SavedEmbeddings, position: int) -> dict[str, str | None]:
    known: dict[str, str | None] = {}
    if saved.identities is not None:
        known["identity"] = saved.identities[position]
    if saved.cameras is not None:
        known["camera"] = saved.cameras[position]
    return known


def _rows(queries: SavedEmbeddings, gallery: SavedEmbeddings, lists: Sequence[Sequence[Match]]) -> list[RankedRow]:
    opened = lru_cache(maxsize=None)(_opened)
    return [
        RankedRow(
            _shown(queries, query, opened),
            [
                Answer(
                    _shown(gallery, match.position, opened),
                    match.similarity,
                    verdict(queries, query, gallery, match.position),
                )
                for match in found[:ANSWERS]
            ],
        )
        for query, found in enumerate(lists[:_SHOWN_QUERIES])
    ]


def _shown(saved: SavedEmbeddings, position: int, opened: Callable[[str], Image.Image | None]) -> Shown:
    known = _known(saved, position)
    return Shown(
        opened(saved.names[position]), saved.names[position], known.get("identity") or "", known.get("camera") or ""
    )


def _opened(name: str) -> Image.Image | None:
    """A small copy of a picture, for the sheet; None where its file is gone since it was embedded."""
    try:
        pixels = decode(Path(name).read_bytes(), name=name)
    except (OSError, ValueError):
        return None
    picture = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    picture.thumbnail((480, 480), Image.Resampling.LANCZOS)
    return picture
