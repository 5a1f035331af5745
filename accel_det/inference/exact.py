"""The weights of an export into the network that it describes."""

from collections.abc import Mapping

from torch import Tensor, nn

from accel_det.publish.export import ExportError, ExportInfo
from accel_det.publish.layout import WEIGHTS


def load_exactly(model: nn.Module, state: Mapping[str, Tensor], info: ExportInfo) -> None:
    """Give the network every tensor of the export, and no other.

    Raises:
        ExportError: the weights are of another network.
    """
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise ExportError(f"{WEIGHTS} is not of {info.model} with these options ({first}); export again") from None
