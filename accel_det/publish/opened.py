"""An export held open, so that what is published is of one moment."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from accel_det.publish import layout


class OpenExport:
    """The files of an export, held open: they stay what they are when the folder is replaced or removed.

    Raises:
        ExportError: the weights or the configuration are missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = layout.standing(folder)
        self.files: dict[str, BinaryIO] = {}
        missing = str(self.folder)
        try:
            # By the folder's descriptor, so that all files are of one export even if another takes its name now.
            descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                for name in layout.FILES:
                    missing = str(self.folder / name)
                    optional = name not in (layout.WEIGHTS, layout.CONFIG)
                    with contextlib.suppress(*([FileNotFoundError] if optional else [])):
                        self.files[name] = os.fdopen(os.open(name, os.O_RDONLY, dir_fd=descriptor), "rb")
            finally:
                os.close(descriptor)
        except OSError as error:
            self.close()
            raise layout.ExportError(
                f"{missing}: {error.strerror}; expected an export folder, as training writes it"
            ) from None

    def close(self) -> None:
        """Let go of the files."""
        for stream in self.files.values():
            stream.close()

    def __enter__(self) -> "OpenExport":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def outdated(self, existing: Iterable[str]) -> list[str]:
        """No file of a repository goes: those of an export replace their like."""
        return []

    def check(self, secrets: tuple[str, ...]) -> None:
        """Refuse what must not be published.

        Raises:
            ExportError: the weights are damaged, or a text holds one of the secrets.
        """
        texts = {name: stream.read() for name, stream in self.files.items() if name != layout.WEIGHTS}
        for name, text in texts.items():
            self.files[name].seek(0)
            if any(secret.encode() in text for secret in secrets):
                raise layout.ExportError(f"{self.folder / name}: holds the access token; remove it, then push again")
        config = layout.parse_config(texts[layout.CONFIG], file=self.folder / layout.CONFIG)
        layout.check_weights(self.files[layout.WEIGHTS], config, file=self.folder / layout.WEIGHTS)
