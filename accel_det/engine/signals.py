"""SIGTERM, SIGINT and SIGUSR1 ask for an orderly end: finish the step, save, leave."""

import signal
from types import FrameType, TracebackType
from typing import Self

_WANTED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopRequest:
    """Remembers that a signal came. A second Ctrl-C interrupts at once.

    The handler only sets a flag: processes agree on it at the end of a step, where all of them are at the same place.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, object] = {}

    @property
    def requested(self) -> bool:
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """As a shell reports it: 128 + the number of the signal; SIGTERM's where another process got the signal."""
        return 128 + (self.signal or signal.SIGTERM)

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._handle) for number in _WANTED}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal == signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
