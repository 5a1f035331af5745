"""Images that a run goes on without."""

from collections.abc import Sequence

import torch

from accel_det.engine.collectives import join_lines


class LeftOut:
    """What could not be read since a run was started or resumed, the same on every process.

    Args:
        most: so many different images may be left out.
        already: of them, those that were left out when the data was opened.
    """

    def __init__(self, *, most: int, already: int = 0) -> None:
        self._most = most
        self._already = already
        self.messages: list[str] = []

    def add(self, messages: Sequence[str], device: torch.device) -> list[str]:
        """Note what every process met; what is new. Collective: every process must call it.

        Args:
            messages: of this process; each names its image.

        Raises:
            ValueError: more images than may be left out; on every process.
        """
        known = set(self.messages)
        new = [line for line in join_lines([_line(text) for text in messages], device) if line not in known]
        self.messages += new
        count = self._already + len(self.messages)
        if count > self._most:
            raise ValueError(
                f"{count} images cannot be read, more than data.max_bad_images, {self._most}; the last: {new[-1]}. Restore "
                "the files, or raise data.max_bad_images"
            )
        return new


def _line(text: str) -> str:
    return " ".join(text.split())
