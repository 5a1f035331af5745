"""`accel-det tune-tracker`: search for settings of the tracker on what was found before, so a trial takes seconds."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

METRICS = ("HOTA", "MOTA", "IDF1")
