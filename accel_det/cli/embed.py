"""`accel-det embed RUN IMAGES... --out FILE`: what pictures look like to a network, as a file."""

import argparse
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from accel_det.cli.failures import DONE, answer
from accel_det.cli.image_files import IMAGES_HELP, find_images
from accel_det.engine.console import Console
from accel_det.engine.runtime import default_device
from accel_det.inference import Embedder, load_embedder
from accel_det.metrics.saved_embeddings import SavedEmbeddings, require_format, write_embeddings
from accel_det.publish.info import EmbedderInfo


class Embedded(NamedTuple):
    """Embeddings of the files that could be read, and a line for each that could not."""

    saved: SavedEmbeddings
    failures: list[str]


def run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="accel-det embed",
        description="Embed pictures, each of one identity: numbers that are alike for pictures of the same.",
        epilog="the file has a row per picture: name and embedding, of length 1; `search` reads it. Exit codes: 0 done; "
        "2 bad input.",
    )
    parser.add_argument("run", help="folder of a run or export, or owner/name on the Hub")
    parser.add_argument("images", nargs="+", help=IMAGES_HELP)
    parser.add_argument("--out", type=Path, required=True, help="file to write, .parquet or .npz")
    parser.add_argument("--batch_size", type=int, default=64, help="pictures per forward pass; 64")
    parser.add_argument("--device", default=default_device(), help="cpu, cuda, cuda:1, ...")
    parser.add_argument("--json", action="store_true", help="one machine-readable result on stdout, all else on stderr")
    options = parser.parse_args(list(arguments))
    require_format(options.out)
    console = Console(speaks=True, to_stderr=options.json)
    files = list(dict.fromkeys(find_images(options.images)))
    embedder = load_embedder(options.run, device=options.device)
    saved, failures = embed_files(embedder, files, batch_size=options.batch_size, say=console.say)
    write_embeddings(options.out, saved)
    console.say(f"{len(saved.names)} pictures, {saved.embeddings.shape[1]} numbers each: {options.out}")
    if options.json:
        answer(
            {
                "out": str(options.out),
                "images": len(files),
                "embedded": len(saved.names),
                "dimension": saved.embeddings.shape[1],
                "model": saved.model,
                "skipped": failures,
            }
        )
    return DONE


def embed_files(embedder: Embedder, files: Sequence[Path], *, batch_size: int, say: Callable[[str], None]) -> Embedded:
    """Embed files in their order; those that cannot be read are left out and named.

    Args:
        say: is told of each file that is left out.

    Raises:
        ValueError: none could be read, or the batch size is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"--batch_size is {batch_size}, expected at least 1")
    names: list[str] = []
    parts: list[Tensor] = []
    failures: list[str] = []
    for start in range(0, len(files), batch_size):
        batch = files[start : start + batch_size]
        try:
            parts.append(embedder.embed(batch, batch_size=batch_size))
            names += map(str, batch)
            continue
        except ValueError:
            pass  # Which of them it is shows one at a time.
        for file in batch:
            try:
                parts.append(embedder.embed([file], batch_size=batch_size))
                names.append(str(file))
            except ValueError as error:
                failures.append(str(error))
                say(f"skipped: {error}")
    if not names:
        raise ValueError(f"nothing could be embedded of the {len(files)} images; the first: {failures[0]}")
    embeddings = torch.cat(parts).numpy().astype(np.float32, copy=False)
    return Embedded(SavedEmbeddings(names, embeddings, model=model_line(embedder.info)), failures)


def model_line(info: EmbedderInfo) -> str:
    """A network in one line, for people and for telling whether embeddings are of one network.

    It ends in a digest of all that the export says, among it the scores and the training: other weights, another line.
    """
    text = json.dumps(asdict(info), sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode(errors="replace")).hexdigest()[:12]
    return f"{info.name}: {info.model}, update {info.training.step}, {digest}"
