"""What every group of keys shares."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Scalar = bool | int | float | str
Option = Scalar | list[float]


class Section(BaseModel):
    """A group of keys: unknown ones are refused, text is not taken for a number, values do not change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
